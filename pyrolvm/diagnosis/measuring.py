"""The parts of a diagnosis, one after another; what stops one of them does not lose the others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Data, EvidenceError, SiteError
from pyrolvm.core.doubts import doubts_about
from pyrolvm.core.latent_space import latent_space
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnosis.effort import EFFORTS, Effort
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.importance_report import Importance
from pyrolvm.diagnostics.moments import compare_moments
from pyrolvm.diagnostics.two_sample import two_sample_tests
from pyrolvm.inference.annealing import AnnealingSettings
from pyrolvm.inference.calibration import calibrate
from pyrolvm.inference.calibration.refitting import Refit, reach_of
from pyrolvm.inference.calibration.sharding import Runner
from pyrolvm.inference.evidence import Evidence
from pyrolvm.inference.evidence_routes import Method, log_evidence
from pyrolvm.inference.gap_split import gap_split
from pyrolvm.inference.importance_evidence import iwae_evidence
from pyrolvm.inference.prediction import predict
from pyrolvm.inference.reference import Reference, reference_draws
from pyrolvm.inference.rows import densities_at_rows, space_at_rows
from pyrolvm.inference.scoring import GuideScore, score

if TYPE_CHECKING:
    import xarray as xr

REFERENCE_DRAWS = 2000
SHOWN_DRAWS = 1000
MOST_ON_GRIDS = 2000
"""Most data whose evidence is integrated on grids: beyond, time and memory are too many."""


_TITLES = {
    "doubts": "What makes the densities doubtful",
    "evidence": "Evidence surer than the bound by the guide",
    "importance": "The importance weights",
    "moments": "The distance to the posterior's moments",
    "gaps": "The split of the gap",
    "calibration": "The calibration",
    "prediction": "The predictions",
}


class Part(Protocol):
    """What a diagnostic returns."""

    def findings(self) -> tuple[Finding, ...]:
        """Figures with their judgement."""
        ...

    def dataset(self) -> xr.Dataset:
        """Every array behind them."""
        ...


@dataclass
class Measuring:
    """One diagnosis while it is made.

    Args:
        model: The model.
        guide: The guide.
        rows: The data.
        num_particles: Draws of the guide for each datum.
        effort: How much is measured.
        seed: The same seed gives the same figures.
        progress: Whether to show progress bars.
        parts: What the diagnostics returned, by group of the tree.
        findings: Their figures, judged.
    """

    model: Callable[..., Any]
    guide: Callable[..., Any]
    rows: Data
    num_particles: int
    effort: Effort
    seed: int
    progress: bool
    parts: dict[str, xr.Dataset] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def measure(self, refit: Refit | None, run: Runner) -> None:
        """Run every part; the score comes first, and what is wrong with the pair ends it there."""
        jobs: dict[str, Callable[[], object]] = {
            "doubts": self._doubts,
            "evidence": self._evidence,
            "importance": self._importance,
            "reference": self._against_reference,
            "gaps": self._gaps,
            "calibration": lambda: self._calibration(refit, run),
            "prediction": self._prediction,
        }
        total = 1 + len(jobs)
        with tqdm(total=total, desc="diagnose", disable=not self.progress, unit="part") as bar:
            bar.set_postfix_str("draws of the guide")
            self.score = self._score()
            self.evidence = iwae_evidence(self.score.log_weights, name_of(self.guide))
            for name, job in jobs.items():
                bar.update()
                bar.set_postfix_str(name)
                with self._reported(name):
                    job()
            bar.update()

    def _score(self) -> GuideScore:
        return score(
            self.model, self.guide, self.rows, num_particles=self.num_particles, seed=self.seed
        )

    def _doubts(self) -> None:
        self.findings += [
            Finding("importance", "doubt", math.nan, level="care", sentence=doubt.sentence)
            for doubt in doubts_about(self.model, self.guide, self.rows)
        ]

    def _evidence(self) -> None:
        """Evidence by the surest route that is affordable; the guide's own bound in the end."""
        try:
            self.evidence = self._known_evidence() or self.evidence
        finally:
            self._keep("evidence", self.evidence)

    def _known_evidence(self) -> Evidence | None:
        size = self.score.log_weights.shape[1]
        routes: list[Method] = ["exact", "enumerated", "quadrature"]
        if size <= self.effort.num_annealed:
            routes.append("ais")
        for route in routes:
            if route == "quadrature" and size > MOST_ON_GRIDS:
                continue
            if route == "ais" and self._annealing_seconds() > self.effort.annealing_seconds:
                return None
            with suppress(EvidenceError, SiteError):
                found = log_evidence(
                    self.model, self.rows, route, guide=self.guide, seed=self.seed + 1,
                    progress=self.progress,
                )  # fmt: skip
                found = replace(found, value=found.value.detach())
                return found if len(found.value) == size else found.of_all_data()
        return None

    def _annealing_seconds(self) -> float:
        """Seconds of computing that annealing would take, from two of its gradients."""
        settings = AnnealingSettings()
        try:
            with (
                own_randomness(self.seed),
                latent_space(self.model, self.rows, self.guide) as space,
            ):
                points = space.prior_points(settings.num_chains)
                space.gradient(points)
                start = time.process_time()
                space.gradient(points)
                spent = time.process_time() - start
        except (SiteError, NotImplementedError):  # for annealing to refuse
            return 0.0
        return spent * settings.num_temperatures * settings.num_leapfrog

    def _importance(self) -> None:
        outside = not self.evidence.is_bound
        self.importance = Importance.of(
            self.score.log_weights,
            self.evidence.value if outside else None,
            log_evidence_se=self.evidence.standard_error if outside else None,
            method=self.evidence.method,
        )
        self._keep("importance", self.importance)

    def _against_reference(self) -> None:
        chosen = self._chosen(self.effort.num_reference)
        if not chosen:
            self._not_run("moments", "no data were held against draws of the posterior")
            return
        reference = reference_draws(
            self.model, self.rows, rows=chosen, guide=self.guide, num_draws=REFERENCE_DRAWS,
            seed=self.seed, max_seconds=self.effort.reference_seconds, progress=self.progress,
        )  # fmt: skip
        self.findings += reference.findings()
        if not reference.is_usable:
            return
        draws = self._draws_at(chosen)
        labels: dict[str, Any] = {
            "ess": None if reference.method == "exact" else reference.ess,
            "coordinates": reference.names,
            "data": reference.rows,
        }
        self._keep("moments", compare_moments(draws, reference.draws, seed=self.seed, **labels))
        self._keep(
            "two_sample", two_sample_tests(draws, reference.draws, seed=self.seed, **labels)
        )
        self.parts["reference"] = _draws_dataset(draws, reference)

    def _draws_at(self, chosen: list[int]) -> Tensor:
        """Draws of the guide at the chosen data, in unconstrained coordinates."""
        with own_randomness(self.seed + 2):
            found = densities_at_rows(self.model, self.guide, self.rows, chosen, REFERENCE_DRAWS)
        with space_at_rows(self.model, self.rows, chosen, self.guide) as space:
            return space.to_points(found.values)

    def _gaps(self) -> None:
        chosen = self._chosen(self.effort.num_gap)
        if not chosen:
            return
        index = torch.tensor(chosen)
        evidence = replace(
            self.evidence,
            value=self.evidence.value[index],
            standard_error=self.evidence.standard_error[index],
            annealed=None,
        )
        self._keep(
            "gaps",
            gap_split(
                self.model,
                self.guide,
                self.rows,
                rows=chosen,
                seed=self.seed,
                evidence=None if evidence.is_bound else evidence,
                num_particles=self.num_particles,
            ),
        )

    def _calibration(self, refit: Refit | None, run: Runner) -> None:
        own = reach_of(self.model, self.guide, self.rows).own_data_only
        number = self.effort.num_refits if own else self.effort.num_simulations
        if not number:
            if own and self.effort.num_simulations:
                refits = EFFORTS["full"].num_refits
                why = f'it asks for {refits} refits of the guide, as effort="full" makes them'
                self._not_run("calibration", why)
            return
        self._keep(
            "calibration",
            calibrate(
                self.model,
                self.guide,
                self.rows,
                num_simulations=number,
                seed=self.seed,
                refit=refit,
                run=run,
                progress=self.progress,
            ),
        )

    def _prediction(self) -> None:
        self._keep(
            "prediction",
            predict(
                self.model,
                self.guide,
                self.rows,
                densities=self.score.densities,
                evidence=self.evidence,
                seed=self.seed,
            ),
        )

    def _chosen(self, number: int) -> list[int]:
        """Data from all over the range of k-hat, best and worst among them."""
        order = self.score.khat.argsort()
        number = min(number, len(order))
        if number < 2:
            return order[:number].tolist()
        places = torch.linspace(0, len(order) - 1, number).round().long()
        return sorted(set(order[places.to(order.device)].tolist()))

    def _keep(self, name: str, part: Part) -> None:
        self.findings += part.findings()
        self.parts[name] = part.dataset()

    def _not_run(self, name: str, why: str) -> None:
        sentence = f"{_TITLES[name]} was not measured at this effort: {why}."
        self.findings.append(
            Finding(name, "not measured", math.nan, level="unknown", sentence=sentence)
        )

    @contextmanager
    def _reported(self, name: str) -> Iterator[None]:
        """Turn what stops one part into a finding, so that the others are not lost."""
        try:
            yield
        except (ValueError, TypeError, RuntimeError, IndexError, KeyError, ArithmeticError) as e:
            diagnostic = {"reference": "moments", "doubts": "importance"}.get(name, name)
            reason = " ".join(str(e).split()) or type(e).__name__
            sentence = f"{_TITLES.get(name, _TITLES[diagnostic])} could not be measured: {reason}"
            self.findings.append(
                Finding(
                    diagnostic, "could not be measured", math.nan, level="unknown",
                    sentence=sentence if sentence.endswith(".") else f"{sentence}.",
                )
            )  # fmt: skip


def name_of(program: Any) -> str:
    """Name of a function, or of a module's class."""
    return str(getattr(program, "__name__", type(program).__name__))


def _draws_dataset(draws: Tensor, reference: Reference) -> xr.Dataset:
    """Draws of guide and posterior at the chosen data, to be looked at."""
    import xarray as xr

    dims = ("draw", "datum", "coordinate")
    number = min(SHOWN_DRAWS, len(draws), len(reference.draws))
    stride = len(reference.draws) // number
    return xr.Dataset(
        {
            "guide": (dims, draws[:number].cpu().numpy()),
            "reference": (dims, reference.draws[::stride][:number].cpu().numpy()),
            "rhat": (dims[1:], reference.rhat.cpu().numpy()),
            "ess": (dims[1:], reference.ess.cpu().numpy()),
        },
        coords={"datum": list(reference.rows), "coordinate": list(reference.names)},
        attrs={
            "method": reference.method,
            "rhat": float(reference.rhat.max()),
            "ess": float(reference.ess.min()),
            "divergences": reference.divergences,
            "form": reference.form,
        },
    )
