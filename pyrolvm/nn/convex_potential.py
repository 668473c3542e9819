r"""A strongly convex network, and its gradient as a bijection.

.. math:: \phi(x) = \tfrac{\alpha}{2} \|x\|^2 + \sum_k a_k h^{(L)}_k(x), \qquad
          h^{(l)} = \operatorname{softplus}(W_l h^{(l-1)} + V_l x + b_l), \quad
          W_l, a \ge 0, \; \alpha > 0

The gradient of such a potential is one to one and onto, its Jacobian the symmetric positive
definite Hessian. Values, gradients and Hessians are carried through the layers together, by the
chain rule: no nested differentiation.

References:
    Amos, Xu & Kolter (2017), Input Convex Neural Networks.
    Huang, Chen, Tsirigotis & Courville (2021), Convex Potential Flows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.triangular.bijection import Bijection

NEWTON_STEPS = 200
NEWTON_TOLERANCE = 1e-12
LEAST_STEP = 1e-10


class ConvexPotential(nn.Module):
    """An input-convex network of softplus units on top of a paraboloid.

    Args:
        dim: Dimension d of the input.
        hidden: Widths of the layers, at least one.
        convexity: Least curvature α, below which no training goes.

    Raises:
        SettingError: If a size is below 1, or the least curvature is not positive.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int] = (32, 32), convexity: float = 1e-2
    ) -> None:
        super().__init__()
        require_at_least(1, dim=dim, layers=len(hidden), hidden=min(hidden, default=1))
        if not 0 < convexity < float("inf"):
            raise SettingError(f"convexity should be positive and finite, but it is {convexity}.")
        self.dim, self.convexity = dim, convexity
        self.readers = nn.ModuleList(nn.Linear(dim, width) for width in hidden)
        self.carriers = nn.ParameterList(
            _small(width, before) for before, width in pairwise(hidden)
        )
        self.output = _small(hidden[-1])
        self.curvature = nn.Parameter(torch.zeros(dim))

    def forward(
        self, x: Float[Tensor, "*batch dim"]
    ) -> tuple[
        Float[Tensor, "*batch"], Float[Tensor, "*batch dim"], Float[Tensor, "*batch dim dim"]
    ]:
        """Return value, gradient and Hessian."""
        h, first, second = self._unit(self.readers[0], x, None)
        for reader, carrier in zip(self.readers[1:], self.carriers, strict=True):
            h, first, second = self._unit(reader, x, (softplus(carrier), h, first, second))
        weight, curvature = softplus(self.output), self.convexity + softplus(self.curvature)
        value = h @ weight + (curvature * x.square()).sum(-1) / 2
        gradient = torch.einsum("k,...ki->...i", weight, first) + curvature * x
        hessian = torch.einsum("k,...kij->...ij", weight, second) + curvature.diag()
        return value, gradient, hessian

    @staticmethod
    def _unit(
        reader: nn.Module, x: Tensor, below: tuple[Tensor, Tensor, Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values of a layer with their gradients ``(..., K, d)`` and Hessians ``(..., K, d, d)``.

        Args:
            reader: The affine map of the input.
            x: The input.
            below: Non-negative weights of the layer below, its values, gradients and Hessians.
        """
        assert isinstance(reader, nn.Linear)
        inner, first, second = reader(x), reader.weight, None
        if below is not None:
            weight, h, gradients, hessians = below
            inner = inner + h @ weight.mT
            first = first + torch.einsum("kj,...ji->...ki", weight, gradients)
            second = torch.einsum("kl,...lij->...kij", weight, hessians)
        slope = inner.sigmoid()
        bend = (slope * (1 - slope))[..., None, None] * first[..., None] * first[..., None, :]
        if second is not None:
            bend = bend + slope[..., None, None] * second
        return softplus(inner), slope[..., None] * first, bend


class ConvexGradientMap(Bijection):
    r"""The gradient of a strongly convex potential, :math:`z = \nabla \phi(x)`.

    Args:
        potential: The potential.
    """

    def __init__(self, potential: ConvexPotential) -> None:
        super().__init__()
        self.dim, self.potential = potential.dim, potential

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the gradient at the inputs and the log-determinant of the Hessian, in nats."""
        _, gradient, hessian = self.potential(inputs)
        factor = torch.linalg.cholesky(hessian)
        return gradient, 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        r"""Return the point whose gradient is z: the minimum of :math:`\phi(x) - z \cdot x`.

        Newton's method with step halving, which converges from anywhere because φ is strongly
        convex; a last step carries the derivatives in z and in the parameters.
        """
        with torch.no_grad():
            found = self._minimise(outputs.detach())
        if not torch.is_grad_enabled():
            return found
        _, gradient, hessian = self.potential(found)
        step = torch.linalg.solve(hessian.detach(), (outputs - gradient)[..., None])
        return found + step.squeeze(-1)

    def _minimise(self, target: Tensor) -> Tensor:
        x = torch.zeros_like(target)
        value, gradient, hessian = self.potential(x)
        limit = max(NEWTON_TOLERANCE, 4 * torch.finfo(x.dtype).eps)
        for _ in range(NEWTON_STEPS):
            rest = gradient - target
            if bool((rest.abs().amax(-1) <= limit * (1 + target.abs().amax(-1))).all()):
                break
            step = -torch.linalg.solve(hessian, rest[..., None]).squeeze(-1)
            moved = self._halved(x, step, value - (target * x).sum(-1), rest, target)
            if torch.equal(moved, x):
                break
            x = moved
            value, gradient, hessian = self.potential(x)
        return x

    def _halved(
        self, x: Tensor, step: Tensor, before: Tensor, rest: Tensor, target: Tensor
    ) -> Tensor:
        """Halve the steps of those points at which the objective or its slope does not fall."""
        size = torch.ones_like(before)
        while True:
            moved = x + size[..., None] * step
            value, gradient, _ = self.potential(moved)
            objective = value - (target * moved).sum(-1)
            enough = objective <= before + 1e-4 * size * (rest * step).sum(-1)
            # Near the minimum the objective is flat to rounding, and its gradient tells more.
            flatter = (gradient - target).norm(dim=-1) <= rest.norm(dim=-1) / 2
            bad = ~(enough | flatter)
            if not bool(bad.any()) or float(size.min()) < LEAST_STEP:
                return torch.where(bad[..., None], x, moved)
            size = torch.where(bad, size / 2, size)


def _small(*shape: int) -> nn.Parameter:
    """Free values of non-negative weights that add up to about 1 over the last axis."""
    free = torch.full(shape, 1.0 / shape[-1]).expm1().log()
    return nn.Parameter(free + 0.1 * torch.randn(shape))
