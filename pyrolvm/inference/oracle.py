"""The best member of a family for each datum alone: the yardstick that splits a guide's gap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import Data, log_densities
from pyrolvm.core.randomness import own_randomness
from pyrolvm.fit import Fit, fit
from pyrolvm.guides import PerDatum
from pyrolvm.guides.per_datum import Encoder
from pyrolvm.inference.evidence import Evidence, exact_evidence
from pyrolvm.inference.scoring import score
from pyrolvm.inference.starts import Starts

LEARNING_RATE = 0.03
TRAINING_PARTICLES = 16
JUDGING_PARTICLES = 200
GAUSSIAN_FAMILIES = ("diagonal", "full")


@dataclass(frozen=True)
class OracleSettings:
    """How guides are fitted to each datum alone.

    Args:
        steps: Optimisation steps over all data at once; 0 means that no oracle is fitted.
        num_particles: Draws of the final score.
        seed: Seed of fit and score.
        checkpoints: Folder from which an interrupted fit goes on.
        progress: Whether to show progress bars.
    """

    steps: int
    num_particles: int
    seed: int
    checkpoints: Path | None
    progress: bool

    def checkpoint(self, name: str) -> Path | None:
        """File of one fit, None without a folder."""
        return self.checkpoints and self.checkpoints / f"{file_name(name)}.safetensors"

    def bar(self, text: str) -> str | bool:
        """Text of a progress bar, False where there is none."""
        return text if self.progress else False


def file_name(name: str) -> str:
    """Turn the name of a guide into a file name."""
    return re.sub(r"[^\w.-]+", "-", name)


def is_encoder(guide: Any) -> bool:
    """Whether a guide puts out the parameters of a family for each datum by shared weights."""
    return isinstance(guide, Encoder) and not isinstance(guide, PerDatum)


def same_family(encoder: Any, guide: Any) -> bool:
    """Whether an encoder and a per-datum guide search the same family."""
    return (
        is_encoder(encoder)
        and isinstance(guide, PerDatum)
        and repr(encoder.family) == repr(guide.family)
    )


def _richness(guide: Any) -> int:
    """Place of a guide's family among the Gaussian ones, simple first; the others come after."""
    name = getattr(getattr(guide, "family", None), "name", "")
    return GAUSSIAN_FAMILIES.index(name) if name in GAUSSIAN_FAMILIES else len(GAUSSIAN_FAMILIES)


def fit_to_each(name: str, model: Any, guide: Any, scored: Data, settings: OracleSettings) -> Fit:
    """Fit a guide's own parameters of each datum, all data at once; the model is frozen."""
    return fit(
        model,
        guide,
        scored,
        steps=settings.steps,
        learning_rate=LEARNING_RATE,
        num_particles=TRAINING_PARTICLES,
        train="guide",
        seed=settings.seed,
        checkpoint=settings.checkpoint(name),
        progress=settings.bar(f"fit {name}"),
    )


class Oracles:
    """Oracles of several guides, simple families first: their solutions start the richer ones.

    A per-datum guide of the same family among the guides is the oracle itself.

    Args:
        pairs: Model and guide of each row, trained.
        scored: The data that they are fitted to.
        settings: How.
    """

    def __init__(
        self, pairs: Mapping[str, tuple[Any, Any]], scored: Data, settings: OracleSettings
    ) -> None:
        self.pairs, self.scored, self.settings = pairs, scored, settings
        self._starts = Starts(settings.seed)
        self._evidence: dict[int, Evidence | None] = {}
        self._elbos: dict[str, Tensor | None] = {}

    def evidence(self, model: Any) -> Evidence | None:
        """Evidence of a model on the scored data, where it rests on no guide; found once."""
        if id(model) not in self._evidence:
            self._evidence[id(model)] = exact_evidence(model, self.scored)
        return self._evidence[id(model)]

    def elbo(self, name: str) -> Tensor | None:
        """ELBO of the best member of a guide's family, from fresh draws.

        Returns:
            Nats, shape ``(N,)``; None for a guide without an encoder into a family.
        """
        if name not in self._elbos:
            for simpler in self._simpler(name):
                self.elbo(simpler)
            self._elbos[name] = self._oracle_elbo(name)
        return self._elbos[name]

    def _simpler(self, name: str) -> list[str]:
        """Names of the guides of the same model whose family is a simpler Gaussian one."""
        model, guide = self.pairs[name]
        return [
            other
            for other, (its_model, its_guide) in self.pairs.items()
            if its_model is model
            and _richness(its_guide) < _richness(guide)
            and _richness(its_guide) < len(GAUSSIAN_FAMILIES)
        ]

    def _oracle_elbo(self, name: str) -> Tensor | None:
        model, guide = self.pairs[name]
        if not is_encoder(guide) or not self.settings.steps:
            return None
        own = (g for m, g in self.pairs.values() if m is model and same_family(guide, g))
        oracle = next(own, None) or self._fitted(name, model, guide)
        if oracle.family.name in GAUSSIAN_FAMILIES:
            self._starts.remember(model, oracle)
        return self._score(model, oracle)

    def fit(self, name: str, model: Any, oracle: PerDatum, encoder: Encoder | None) -> Fit:
        """Fit an oracle to the scored data from the best of several starts.

        Where the fit ends below its start for a datum, the start is kept.

        Args:
            name: Names the checkpoint and the progress bar.
            model: The model.
            oracle: Takes the scored rows, and their parameters.
            encoder: A guide of the same family, if there is one.
        """
        x = self.scored.only
        assert x is not None
        start = self._best(model, oracle, x, self._starts.of(model, oracle, x, encoder))
        oracle.initialise(x, start)
        result = fit_to_each(name, model, oracle, self.scored, self.settings)
        end = oracle.parameters_for(x).detach().clone()
        oracle.initialise(x, self._best(model, oracle, x, [start, end]))
        return result

    def _best(self, model: Any, oracle: PerDatum, x: Tensor, candidates: list[Tensor]) -> Tensor:
        """Take for each datum the candidate of the largest ELBO; no score rests on these draws."""
        elbos = []
        for candidate in candidates:
            oracle.initialise(x, candidate)
            with own_randomness(self.settings.seed):
                found = log_densities(model, oracle, x, num_particles=JUDGING_PARTICLES)
            elbos.append(found.log_weights.mean(0))
        best = torch.stack(elbos).argmax(0).to(x.device)
        return torch.stack(candidates)[best, torch.arange(len(x), device=x.device)]

    def _fitted(self, name: str, model: Any, guide: Encoder) -> PerDatum:
        oracle = PerDatum(guide.model, guide.family)
        self.fit(f"{name}.oracle", model, oracle, guide)
        return oracle

    def _score(self, model: Any, oracle: PerDatum) -> Tensor:
        return score(
            model,
            oracle,
            self.scored,
            num_particles=self.settings.num_particles,
            seed=self.settings.seed + 1,
            keep_values=False,
        ).elbo
