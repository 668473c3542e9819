"""What a model says about its latent law: given or learned, one or one for each environment.

Nothing is asked for by name of a class: a law that carries a gradient learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from pyro.distributions import (
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    TorchDistribution,
)
from torch import Tensor, nn

from pyrolvm.identifiability.codes import Array
from pyrolvm.identifiability.gaussian_symmetries import EQUAL

Family = Literal["gaussian", "mixture", "another"]
Noise = Literal["known", "one scale", "free"]
SHARED = 1e-3
"""Derivative of a contrast of log scales that counts as none; of unequal ones it is about 1."""


@runtime_checkable
class HasPrior(Protocol):
    """The law of z can be had."""

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        ...


@dataclass(frozen=True)
class EnvironmentLaws:
    """Gaussian laws of z, one for each environment.

    Args:
        loc: Means, shape ``(E, D)``.
        scale: Standard deviations, shape ``(E, D)``.
        learned: Which environments learn, shape ``(E,)``.
        learns_loc: Whether any mean learns.
        learns_scale: Whether any scale learns.
        family: ``"another"`` where the laws are no diagonal Gaussians; means and scales are then
            empty.
    """

    loc: Array
    scale: Array
    learned: tuple[bool, ...]
    learns_loc: bool = False
    learns_scale: bool = False
    family: Family = "gaussian"


@dataclass(frozen=True)
class PriorLaw:
    """The single law of z.

    Args:
        family: ``"gaussian"``, ``"mixture"`` of Gaussians, or ``"another"``.
        learns: Whether it is learned.
        loc: Mean of a Gaussian, shape ``(D,)``; empty elsewhere.
        covariance: Of a Gaussian, shape ``(D, D)``; empty elsewhere.
    """

    family: Family
    learns: bool
    loc: Array
    covariance: Array

    @property
    def is_centred(self) -> bool:
        """Whether the mean of a Gaussian is 0, in its own scales."""
        return bool((np.abs(self.loc) <= EQUAL * np.sqrt(np.diagonal(self.covariance))).all())

    @property
    def is_isotropic(self) -> bool:
        """Whether the covariance of a Gaussian is a multiple of the identity."""
        size = float(np.trace(self.covariance)) / len(self.covariance)
        rest = self.covariance - size * np.eye(len(self.covariance))
        return bool(np.abs(rest).max() <= EQUAL * size)


def environment_laws(model: Any) -> EnvironmentLaws:
    """Read the laws of a model with a conditional prior.

    Args:
        model: It offers :class:`pyrolvm.core.ConditionalPrior`.
    """
    labels = torch.arange(model.num_environments, device=_device(model))
    with torch.enable_grad():
        law = model.conditional_prior(labels)
        learned = _learning_rows(law, model)
    base = law.base_dist if isinstance(law, Independent) else law
    if not isinstance(base, Normal):
        empty = np.zeros((0, 0))
        return EnvironmentLaws(empty, empty, learned, family="another")
    return EnvironmentLaws(
        _array(base.loc), _array(base.scale), learned,
        learns_loc=base.loc.requires_grad, learns_scale=base.scale.requires_grad,
    )  # fmt: skip


def prior_law(model: Any) -> PriorLaw:
    """Read the law of a model with ``prior()``."""
    with torch.enable_grad():
        law = model.prior()
    learns = any(map(_carries, _tensors(law)))
    if _is_gaussian(law):
        full = isinstance(law, MultivariateNormal)
        covariance = law.covariance_matrix if full else law.variance.diag_embed()
        return PriorLaw("gaussian", learns, _array(law.mean), _array(covariance))
    mixes = isinstance(law, MixtureSameFamily) and _is_gaussian(law.component_distribution)
    return PriorLaw("mixture" if mixes else "another", learns, np.zeros(0), np.zeros((0, 0)))


def noise_of(model: Any) -> Noise:
    """Say what is known of the noise of a Gaussian likelihood.

    Args:
        model: Any model; one without a likelihood has no noise.

    Returns:
        ``"known"`` where it does not learn, ``"one scale"`` where one learned number serves all
        outputs and codes, ``"free"`` elsewhere.
    """
    if not callable(getattr(model, "likelihood", None)):
        return "known"
    places = np.linspace(-1, 1, 2 * model.latent_dim).reshape(2, -1)
    point = as_latents(model, places).requires_grad_()
    with torch.enable_grad():
        law = model.likelihood(point)
        base = law.base_dist if isinstance(law, Independent) else law
        if not isinstance(base, Normal) or not base.scale.requires_grad:
            return "known"
        # Where one number serves all, a contrast of outputs has no derivative.
        contrast = torch.arange(base.scale.numel()).to(base.scale).cos().reshape(base.scale.shape)
        total = (base.scale.log() * (contrast - contrast.mean())).sum()
        sources = [point, *(p for p in _parameters(model) if p.requires_grad)]
        found = torch.autograd.grad(total, sources, allow_unused=True)
    slopes = [float(g.abs().max()) for g in found if g is not None]
    return "one scale" if slopes and max(slopes) <= SHARED else "free"


def as_latents(model: Any, points: Array) -> Tensor:
    """Points of the latent space as a model takes them: on its device, in its precision."""
    return torch.from_numpy(points).to(_device(model), _dtype(model))


def _is_gaussian(law: Any) -> bool:
    return isinstance(law, MultivariateNormal) or (
        isinstance(law, Independent) and isinstance(law.base_dist, Normal)
    )


def _learning_rows(law: Any, model: Any) -> tuple[bool, ...]:
    """Which rows of a law depend on a parameter that learns."""
    parameters = [p for p in _parameters(model) if p.requires_grad]
    carrying = [t for t in _tensors(law) if t.requires_grad]
    if not carrying or not parameters:
        return (bool(carrying),) * len(law.mean)
    learns = []
    for row in range(len(law.mean)):
        # Unequal weights: a plain sum has no derivative where a row adds up to a constant.
        total = torch.stack([_weighted(tensor[row]) for tensor in carrying]).sum()
        found = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        learns.append(any(bool((g != 0).any()) for g in found if g is not None))
    return tuple(learns)


def _weighted(values: Tensor) -> Tensor:
    weights = torch.arange(1, values.numel() + 1).to(values).sqrt()
    return (values.flatten() * weights).sum()


def _tensors(law: Any) -> list[Tensor]:
    """Tensors that a law is made of, those of the laws inside it too."""
    found: list[Tensor] = []
    for value in vars(law).values():
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, torch.distributions.Distribution):
            found.extend(_tensors(value))
    return found


def _carries(tensor: Tensor) -> bool:
    return bool(tensor.requires_grad)


def _parameters(model: Any) -> list[Tensor]:
    return list(model.parameters()) if isinstance(model, nn.Module) else []


def _device(model: Any) -> torch.device:
    return next((p.device for p in _parameters(model)), torch.device("cpu"))


def _dtype(model: Any) -> torch.dtype:
    return next((p.dtype for p in _parameters(model)), torch.get_default_dtype())


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().double().numpy())
