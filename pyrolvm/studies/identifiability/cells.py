"""The models that are compared: what each learns from, and how it is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyrolvm import guides, models
from pyrolvm.studies.identifiability.worlds import (
    ENVIRONMENTS,
    NOISE,
    SURFACE_OUTPUTS,
    StudySettings,
    World,
    centred_segments,
    curve,
    segments,
    surface,
    triangular_toy,
    unlabelled_segments,
)

EXPERIMENTS = {
    "flows": "two latents through a triangular map, without noise",
    "environments": "two latents in ten environments",
    "curve": "points along a wave",
    "surface": "eight outputs of two latents",
}
"""What each experiment observes."""
HIDDEN = (64, 64)


@dataclass(frozen=True)
class Cell:
    """One model of the study; its runs differ in their seeds alone.

    Args:
        key: Its name in files and tables.
        experiment: A key of :data:`EXPERIMENTS`.
        title: What a reader calls it.
        world: Makes the data that it observes.
        make: Makes an untrained model with a guide.
        training: ``"flow"`` (Adam on the exact likelihood), ``"curve"`` (L-BFGS on it) or
            ``"elbo"``.
        warm_start: Whether training on the ELBO starts from the arrangement of the prior.
        turns: Key of a cell whose runs are taken, each mirrored where x_1 falls with z.
    """

    key: str
    experiment: str
    title: str
    world: Callable[[StudySettings], World]
    make: Callable[[World], tuple[Any, Any]]
    training: str
    warm_start: bool = False
    turns: str | None = None

    def runs(self, settings: StudySettings) -> int:
        """How many runs there are; the exact likelihood of a flow needs none to spare."""
        return min(settings.best, settings.runs) if self.training == "flow" else settings.runs


def _triangular_map(_: World) -> tuple[Any, Any]:
    model = models.TriangularMap(dim=2)
    return model, guides.ExactCode(model)


def _generic_flow(_: World) -> tuple[Any, Any]:
    model = models.GenericFlow(dim=2)
    return model, guides.ExactCode(model)


def _plain_vae(world: World) -> tuple[Any, Any]:
    return _amortized(
        models.VAE(2, 4, hidden=HIDDEN, activation="leaky_relu", noise_scale=NOISE), world
    )


def _learned_prior(world: World) -> tuple[Any, Any]:
    return _product(
        models.IVAE(2, 4, ENVIRONMENTS, hidden=HIDDEN, noise_scale=NOISE, learn_means=True), world
    )


def _fixed_prior(world: World) -> tuple[Any, Any]:
    assert world.law is not None
    prior = models.EnvironmentPrior(world.law.loc, world.law.scale)
    return _product(models.AnchoredIVAE(prior, obs_dim=4, hidden=HIDDEN, noise_scale=NOISE), world)


def _curve(_: World) -> tuple[Any, Any]:
    model = models.CPAGenerator(
        1, 2, hidden=(8, 8), noise_scale=NOISE, activation="leaky_relu", learn_noise=False
    )
    return model, guides.ExactCPA(model)


def _surface_vae(world: World) -> tuple[Any, Any]:
    return _amortized(
        models.VAE(2, SURFACE_OUTPUTS, hidden=HIDDEN, activation="tanh", noise_scale=NOISE), world
    )


def _triangular_vae(world: World) -> tuple[Any, Any]:
    model = models.TriangularVAE(2, SURFACE_OUTPUTS, hidden=HIDDEN, noise_scale=NOISE)
    return _amortized(model.standardise_by(world.x), world)


def _amortized(model: Any, world: World) -> tuple[Any, Any]:
    guide = guides.Amortized(model, "diagonal", hidden=HIDDEN, activation="leaky_relu")
    return model, guide.standardise_by(world.x)


def _product(model: Any, world: World) -> tuple[Any, Any]:
    return model, guides.ConditionalProduct(model, hidden=HIDDEN).standardise_by(world.x)


CELLS = (
    Cell("triangular-map", "flows", "triangular map", triangular_toy, _triangular_map, "flow"),
    Cell("generic-flow", "flows", "generic flow", triangular_toy, _generic_flow, "flow"),
    Cell("vae", "environments", "VAE, no labels", unlabelled_segments, _plain_vae, "elbo"),
    Cell("learned-prior", "environments", "learned prior", segments, _learned_prior, "elbo"),
    Cell("fixed-prior", "environments", "fixed prior", segments, _fixed_prior, "elbo"),
    Cell(
        "fixed-prior-warm-start",
        "environments",
        "fixed prior, warm start",
        segments,
        _fixed_prior,
        "elbo",
        warm_start=True,
    ),
    Cell(
        "fixed-prior-centred",
        "environments",
        "fixed prior, zero means",
        centred_segments,
        _fixed_prior,
        "elbo",
    ),
    Cell("curve", "curve", "leaky ReLU curve", curve, _curve, "curve"),
    Cell("curve-sign", "curve", "the same, sign fixed", curve, _curve, "curve", turns="curve"),
    Cell("surface-vae", "surface", "VAE", surface, _surface_vae, "elbo"),
    Cell("triangular-vae", "surface", "triangular VAE", surface, _triangular_vae, "elbo"),
)
"""All cells, in the order of the table; one that turns another's runs comes after it."""
