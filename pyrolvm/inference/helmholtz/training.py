"""Train one cell: the learning rate by validation, then all steps, with early stopping."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pyrolvm.core.errors import NonFiniteLossError
from pyrolvm.core.files import write_text
from pyrolvm.core.randomness import own_randomness
from pyrolvm.fit import fit
from pyrolvm.guides import HelmholtzCoupled
from pyrolvm.inference.helmholtz.objectives import OBJECTIVES
from pyrolvm.inference.helmholtz.particle_sums import particle_sums
from pyrolvm.inference.helmholtz.rows import BinaryRows
from pyrolvm.inference.helmholtz.settings import (
    LEAST_SEARCH,
    PATIENCE_SHARE,
    SEARCH_SHARE,
    Cell,
    Settings,
    steps_for,
)
from pyrolvm.models import SigmoidBeliefNetwork
from pyrolvm.objectives import Patience

WATCHED_ROWS = 1000
"""Validation rows that are looked at during training, at most."""
WATCHED_PARTICLES, SEARCH_PARTICLES = 20, 100
"""Draws for a point of a learning curve, and for the choice of a learning rate."""
CURVE_POINTS = 40


@dataclass(frozen=True)
class Trained:
    """A trained pair.

    Args:
        model: The belief network.
        guide: Its guide.
        facts: ``learning_rate``, ``steps``, ``stopped_early``, ``seconds``, and ``search``: the
            validation bound of each rate that was tried, nats.
    """

    model: SigmoidBeliefNetwork
    guide: HelmholtzCoupled
    facts: dict[str, Any]


@dataclass
class LearningCurve:
    """Watches bounds on validation rows; its file survives a killed training.

    Args:
        model: The belief network.
        guide: Its guide.
        rows: What it looks at.
        path: Of the file.
    """

    model: SigmoidBeliefNetwork
    guide: HelmholtzCoupled
    rows: torch.Tensor
    path: Path
    points: dict[int, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path.is_file():
            known = json.loads(self.path.read_text(encoding="utf-8"))
            self.points = {int(point["step"]): point for point in known}

    def __call__(self, step: int) -> None:
        """Look, and write the file."""
        sums = particle_sums(self.model, self.guide, self.rows, WATCHED_PARTICLES)
        self.points[step] = {
            "step": step,
            "nll": -sums.log_evidence.mean().item(),
            "coupled_nll": -sums.log_bound.mean().item(),
            "bc2": sums.root_ess.mean().item(),
        }
        points = [point for at, point in sorted(self.points.items()) if at <= step]
        write_text(self.path, json.dumps(points, indent=1))


def new_pair(
    cell: Cell, rows: BinaryRows, device: str | None = None
) -> tuple[SigmoidBeliefNetwork, HelmholtzCoupled]:
    """Make the pair of a cell, untrained: equal for all objectives with one seed."""
    with own_randomness(cell.seed):
        model = SigmoidBeliefNetwork(cell.layers, rows.train.shape[1])
        guide = HelmholtzCoupled(model)
    return model.to(device), guide.to(device)


def trained(
    cell: Cell,
    rows: BinaryRows,
    settings: Settings,
    folder: Path,
    *,
    device: str | None = None,
    progress: bool = True,
) -> Trained:
    """Train the pair of a cell, going on where an earlier attempt stopped.

    The rate is the one whose short training bounds log p(x) of validation rows best. Adam starts
    with it and falls along half a cosine. The state whose objective was best on validation rows is
    kept.

    Args:
        cell: What to train.
        rows: The data.
        settings: Rates, steps, draws.
        folder: Where checkpoints and the learning curve lie.
        device: Where to train.
        progress: Whether to show progress bars.

    Raises:
        NonFiniteLossError: If training meets a loss or gradient that is not finite.
    """
    model, guide = new_pair(cell, rows, device)
    watched = rows.valid[:WATCHED_ROWS]
    found = _searched(cell, rows, settings, folder, device, progress)
    rate, steps = max(found, key=lambda each: found[each]), steps_for(cell.data, settings)
    result = fit(
        model,
        guide,
        rows.train,
        loss=OBJECTIVES[cell.objective].make(settings.num_particles),
        steps=steps,
        batch_size=settings.batch_size,
        learning_rate=rate,
        seed=cell.seed,
        patience=max(round(PATIENCE_SHARE * steps), Patience.INTERVAL),
        validation=watched,
        watch=LearningCurve(model, guide, watched, folder / "curve.json"),
        watch_every=max(1, steps // CURVE_POINTS),
        checkpoint=folder / "checkpoint.safetensors",
        checkpoint_every=max(250, steps // 50),
        device=device,
        progress=cell.label if progress else False,
    )
    facts = {
        "learning_rate": rate,
        "steps": result.steps,
        "stopped_early": result.stopped_early,
        "seconds": result.seconds,
        "search": {f"{each:g}": value for each, value in found.items() if math.isfinite(value)},
    }
    return Trained(model, guide, facts)


def _searched(
    cell: Cell,
    rows: BinaryRows,
    settings: Settings,
    folder: Path,
    device: str | None,
    progress: bool,
) -> dict[float, float]:
    """Validation bound by learning rate, after a short training with each; kept in a file."""
    rates, file = settings.learning_rates, folder / "search.json"
    if len(rates) == 1:
        return {rates[0]: math.nan}
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    steps = max(LEAST_SEARCH, round(SEARCH_SHARE * steps_for(cell.data, settings)))
    for rate in rates:
        if f"{rate:g}" in known:
            continue
        pair = new_pair(cell, rows, device)
        try:
            fit(
                *pair,
                rows.train,
                loss=OBJECTIVES[cell.objective].make(settings.num_particles),
                steps=steps,
                batch_size=settings.batch_size,
                learning_rate=rate,
                seed=cell.seed,
                device=device,
                progress=f"{cell.label}, rate {rate:g}" if progress else False,
            )
            sums = particle_sums(*pair, rows.valid[:WATCHED_ROWS], SEARCH_PARTICLES)
            known[f"{rate:g}"] = sums.log_evidence.mean().item()
        except NonFiniteLossError:
            known[f"{rate:g}"] = None
        write_text(file, json.dumps(known, indent=1))
    values = {rate: known[f"{rate:g}"] for rate in rates}
    return {rate: -math.inf if value is None else value for rate, value in values.items()}
