"""The best member of a family for each datum alone: the yardstick that splits a guide's gap."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import Data, Model, log_densities
from pyrolvm.fit import Fit, fit
from pyrolvm.guides import Amortized, PerDatum
from pyrolvm.inference.laplace import laplace_approximation
from pyrolvm.inference.scoring import score

LEARNING_RATE = 0.03
TRAINING_PARTICLES = 16
START_PARTICLES = 100


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


def same_family(amortized: Any, guide: Any) -> bool:
    """Whether an encoder and a per-datum guide search the same family."""
    return (
        isinstance(amortized, Amortized)
        and isinstance(guide, PerDatum)
        and repr(amortized.family) == repr(guide.family)
    )


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
        self._gaussians: list[tuple[Any, PerDatum]] = []
        self._laplace: dict[int, tuple[Tensor, Tensor]] = {}

    def elbo(self, name: str) -> Tensor | None:
        """ELBO of the best member of a guide's family, from fresh draws.

        Returns:
            Nats, shape ``(N,)``; None for a guide without an encoder into a family.
        """
        model, guide = self.pairs[name]
        if not isinstance(guide, Amortized) or not self.settings.steps:
            return None
        own = (g for m, g in self.pairs.values() if m is model and same_family(guide, g))
        oracle = next(own, None) or self._fitted(name, model, guide)
        if oracle.family.name in ("diagonal", "full"):
            self._gaussians.append((model, oracle))
        return self._score(model, oracle)

    def start(self, model: Any, oracle: PerDatum, encoder: Amortized | None) -> None:
        """Start each datum of an oracle from the best of several members of its family.

        They come from the encoder, from the solutions of simpler families, and from Laplace's
        approximation, which finds modes that the encoder overlooks.

        Args:
            model: The model.
            oracle: Takes the scored rows, and its parameters.
            encoder: A guide of the same family, if there is one.
        """
        x = self.scored.positional
        assert x is not None
        family = oracle.family
        with torch.no_grad():
            starts = [] if encoder is None else [encoder.parameters_for(x)]
            starts += [
                oracle.parameters_near(simpler.distribution(x))
                for other, simpler in self._gaussians
                if other is model
            ]
        if isinstance(model, Model):
            if id(model) not in self._laplace:
                found = laplace_approximation(model, x, seed=self.settings.seed)
                self._laplace[id(model)] = found
            loc, scale_tril = self._laplace[id(model)]
            starts.append(family.from_gaussian(loc.to(x.dtype), scale_tril.to(x.dtype)))
        starts = starts or [family.initial.to(x).expand(len(x), -1)]
        elbos = torch.stack([self._start_elbo(model, oracle, x, start) for start in starts])
        best = elbos.argmax(0).to(x.device)
        oracle.initialise(x, torch.stack(starts)[best, torch.arange(len(x), device=x.device)])

    def _fitted(self, name: str, model: Any, guide: Amortized) -> PerDatum:
        oracle = PerDatum(guide.model, guide.family)
        self.start(model, oracle, guide)
        fit_to_each(f"{name}.oracle", model, oracle, self.scored, self.settings)
        return oracle

    def _start_elbo(self, model: Any, oracle: PerDatum, x: Tensor, start: Tensor) -> Tensor:
        oracle.initialise(x, start)
        with torch.random.fork_rng():
            torch.manual_seed(self.settings.seed)
            found = log_densities(model, oracle, x, num_particles=START_PARTICLES)
        return found.log_weights.mean(0)

    def _score(self, model: Any, oracle: PerDatum) -> Tensor:
        return score(
            model,
            oracle,
            self.scored,
            num_particles=self.settings.num_particles,
            seed=self.settings.seed + 1,
            keep_values=False,
        ).elbo
