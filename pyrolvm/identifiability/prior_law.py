"""What a model says about its latent law: given or learned, one or one for each environment.

Nothing is asked for by name of a class: a law that carries a gradient learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from pyro.distributions import Independent, MultivariateNormal, Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.identifiability.codes import Array

Family = Literal["gaussian", "another"]


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
        family: ``"gaussian"``, or ``"another"`` (a mixture, for example).
        learns: Whether it is learned.
    """

    family: Family
    learns: bool


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
    gaussian = isinstance(law, MultivariateNormal) or (
        isinstance(law, Independent) and isinstance(law.base_dist, Normal)
    )
    return PriorLaw("gaussian" if gaussian else "another", any(map(_carries, _tensors(law))))


def noise_learns(model: Any, latent_dim: int) -> bool:
    """Whether the noise of a Gaussian likelihood is learned; False where there is none."""
    if not callable(getattr(model, "likelihood", None)):
        return False
    point = torch.zeros(2, latent_dim, device=_device(model), dtype=_dtype(model))
    with torch.enable_grad():
        law = model.likelihood(point)
    base = law.base_dist if isinstance(law, Independent) else law
    return isinstance(base, Normal) and bool(base.scale.requires_grad)


def _learning_rows(law: Any, model: Any) -> tuple[bool, ...]:
    """Which rows of a law depend on a parameter that learns."""
    parameters = [p for p in _parameters(model) if p.requires_grad]
    carrying = [t for t in _tensors(law) if t.requires_grad]
    if not carrying or not parameters:
        return (bool(carrying),) * len(law.mean)
    learns = []
    for row in range(len(law.mean)):
        total = torch.stack([tensor[row].sum() for tensor in carrying]).sum()
        found = torch.autograd.grad(total, parameters, retain_graph=True, allow_unused=True)
        learns.append(any(bool((g != 0).any()) for g in found if g is not None))
    return tuple(learns)


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
