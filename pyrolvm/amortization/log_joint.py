"""log p(x, z) as a function of z, and its derivatives at any time, also without a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Density = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LogJoint:
    """Log p(x, z) of a model at given observations; the model's weights are read live.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        x: Observations, shape ``(N, obs_dim)``.
    """

    model: Any
    x: Tensor

    def __call__(self, z: Float[Tensor, "*batch data D"]) -> Float[Tensor, "*batch data"]:
        """Return log p(x, z) in nats for z of shape ``(..., N, D)``."""
        return self.model.prior().log_prob(z) + self.log_likelihood(z)

    def log_likelihood(self, z: Float[Tensor, "*batch data D"]) -> Float[Tensor, "*batch data"]:
        """Return log p(x | z) in nats for z of shape ``(..., N, D)``."""
        return self.model.likelihood(z).log_prob(self.x.to(z.dtype))


def slope(log_density: Density, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """Gradient of a log density in z, as :func:`value_and_slope` gives it."""
    return value_and_slope(log_density, z)[1]


def value_and_slope(
    log_density: Density, z: Float[Tensor, "*batch D"], *, create_graph: bool = True
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch D"]]:
    """Log density and its gradient in z, row by row; no parameter's ``grad`` is touched.

    Args:
        log_density: From ``(..., D)`` to ``(...)``; rows must not depend on each other.
        z: Where, shape ``(..., D)``.
        create_graph: Whether the gradient can be differentiated, where gradients are enabled.

    Returns:
        The value in nats, shape ``(...)``, without a graph; nats per unit of z, ``(..., D)``, 0
        where the density does not depend on z.
    """
    graph = torch.is_grad_enabled() and create_graph
    with torch.enable_grad():
        point = z if graph and z.requires_grad else z.detach().requires_grad_()
        value = log_density(point)
        return value.detach(), _gradient(value.sum(), point, graph)


def curvature(log_density: Density, z: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D D"]:
    """Hessian of the negative log density in z, row by row, symmetric.

    Args:
        log_density: From ``(..., D)`` to ``(...)``; rows must not depend on each other.
        z: Where, shape ``(..., D)``.

    Returns:
        Nats per squared unit of z, shape ``(..., D, D)``, with a graph as gradients are enabled.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        point = z if graph and z.requires_grad else z.detach().requires_grad_()
        gradient = _gradient(log_density(point).sum(), point, create_graph=True)
        columns = [
            _gradient(each.sum(), point, graph, retain_graph=True) for each in gradient.unbind(-1)
        ]
    hessian = -torch.stack(columns, -1)
    return 0.5 * (hessian + hessian.mT)


def _gradient(
    total: Tensor, point: Tensor, create_graph: bool, retain_graph: bool | None = None
) -> Tensor:
    if not total.requires_grad:
        return torch.zeros_like(point)
    (found,) = torch.autograd.grad(
        total, point, create_graph=create_graph, retain_graph=retain_graph or create_graph,
        allow_unused=True,
    )  # fmt: skip
    return torch.zeros_like(point) if found is None else found
