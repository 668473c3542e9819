r"""The data of the study: what models observe, and the true codes where there are such.

Its surface has two outputs that are triangular monotone in z, and six that are anything:

.. math:: x_{1:2} = T(z) + \varepsilon, \qquad
          x_{3:8} = \sin(z W) + 0.3 \, z W' + \varepsilon, \qquad z \sim N(0, I)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.datasets import SegmentedSources, TriangularToy, wave
from pyrolvm.datasets.streams import stream
from pyrolvm.inference.runs_agreement import FEWEST_DISTANCES

NOISE = 0.1
"""Standard deviation of the noise, known to all models of noisy data."""
ENVIRONMENTS = 10
FEWEST_ROWS, FEWEST_RESAMPLES = 50, 20
SURFACE_OUTPUTS = 8


@dataclass(frozen=True)
class StudySettings:
    """How large the study is.

    Args:
        runs: Runs of each model.
        best: So many with the highest bound are compared.
        flow_steps: Steps of Adam on the exact likelihood of a flow.
        elbo_steps: Steps of training on the ELBO.
        warm_steps: Steps of the anchored warm start.
        curve_steps: Iterations of L-BFGS on the exact likelihood of the curve.
        flow_rows: Rows of the triangular toy.
        environment_rows: Rows of each environment.
        curve_rows: Rows of ``wave``.
        surface_rows: Rows of the surface.
        test_rows: Rows held out, on which codes are compared.
        num_draws: Draws of a guide for each of these.
        num_resamples: Bootstrap samples of an interval.
        num_distances: Pairs of rows whose distances are compared.
        slack: Nats per datum below the best bound beyond which a run counts as a failure.
        seed: Of the data; runs have the seeds 0, 1, …

    Raises:
        SettingError: If there are too few runs, steps, rows, bootstrap samples or distances.
    """

    runs: int = 5
    best: int = 4
    flow_steps: int = 400
    elbo_steps: int = 2500
    warm_steps: int = 400
    curve_steps: int = 600
    flow_rows: int = 4000
    environment_rows: int = 400
    curve_rows: int = 1000
    surface_rows: int = 4000
    test_rows: int = 1000
    num_draws: int = 100
    num_resamples: int = 100
    num_distances: int = 16
    slack: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(2, runs=self.runs, best=self.best)
        require_at_least(1, flow_steps=self.flow_steps, elbo_steps=self.elbo_steps)
        require_at_least(1, curve_steps=self.curve_steps)
        require_at_least(FEWEST_ROWS, test_rows=self.test_rows)
        require_at_least(FEWEST_RESAMPLES, num_resamples=self.num_resamples)
        if 0 < self.num_distances < FEWEST_DISTANCES:
            raise SettingError(
                f"num_distances should be 0 or at least {FEWEST_DISTANCES}, but it is "
                f"{self.num_distances}."
            )
        require_seed(self.seed)


@dataclass(frozen=True, eq=False)
class World:
    """Data of one experiment.

    Args:
        train: What models learn from: x, or ``{"x": x, "u": u}``.
        test: Rows held out, of the same form.
        truth: True codes of the rows held out, shape ``(N, D)``, where there are such.
        law: How the segments were made, where there are segments.
    """

    train: Any
    test: Any
    truth: Tensor | None = None
    law: SegmentedSources | None = None

    @property
    def x(self) -> Float[Tensor, "data obs_dim"]:
        """Observations to learn from, without their environments."""
        return self.train["x"] if isinstance(self.train, dict) else self.train


def triangular_toy(settings: StudySettings) -> World:
    """Two latents through a triangular map, without noise."""
    data = TriangularToy().dataset(
        settings.flow_rows, seed=settings.seed, test_size=settings.test_rows
    )
    return World(data.train, data.test, data.test_codes)


def segments(settings: StudySettings, *, centred: bool = False) -> World:
    """Sources in ten environments, with their labels; centred ones differ in scale alone."""
    law = SegmentedSources.random(
        2, 4, ENVIRONMENTS, centred=centred, noise_scale=NOISE, seed=settings.seed
    )
    data = law.dataset(
        settings.environment_rows,
        seed=settings.seed,
        test_rows_per_environment=settings.test_rows // ENVIRONMENTS,
    )
    return World(data.train_data, data.test_data, data.test_codes, law)


def centred_segments(settings: StudySettings) -> World:
    """Sources whose environments differ in scale alone."""
    return segments(settings, centred=True)


def unlabelled_segments(settings: StudySettings) -> World:
    """The same sources, the labels withheld."""
    labelled = segments(settings)
    return World(labelled.train["x"], labelled.test["x"], labelled.truth, labelled.law)


def curve(settings: StudySettings) -> World:
    """Points along a wave, with noise; its position is a code up to its sign."""
    data = wave(
        settings.curve_rows, noise_scale=NOISE, seed=settings.seed, test_size=settings.test_rows
    )
    return World(data.train, data.test)


def surface(settings: StudySettings) -> World:
    """Eight noisy outputs of two latents, the first two a triangular map."""
    law = stream(settings.seed, "law")
    weights = torch.randn(2, 2, SURFACE_OUTPUTS - 2, generator=law)

    def rows(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        z = torch.randn(count, 2, generator=generator)
        rest = (z @ weights[0]).sin() + 0.3 * z @ weights[1]
        clean = torch.cat([TriangularToy().decode(z), rest], -1)
        return z, clean + NOISE * torch.randn(clean.shape, generator=generator)

    train = rows(settings.surface_rows, stream(settings.seed, "train"))
    truth, test = rows(settings.test_rows, stream(settings.seed, "test"))
    return World(train[1], test, truth)
