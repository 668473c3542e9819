"""Bijections that mix or reorder coordinates: what a triangular map must not contain."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.orthonormal import random_orthonormal
from pyrolvm.nn.triangular.bijection import Bijection


class Rotation(Bijection):
    """A fixed rotation (or reflection), drawn uniformly.

    Args:
        dim: Dimension d.
    """

    matrix: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        require_at_least(1, dim=dim)
        self.dim = dim
        self.register_buffer("matrix", random_orthonormal(dim, dim))

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the rotated inputs, and the log |det J| of the matrix (0 up to rounding)."""
        log_det = torch.linalg.slogdet(self.matrix)[1]
        return inputs @ self.matrix.mT, log_det.expand(inputs.shape[:-1])

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Rotate back; solved, because the matrix is orthogonal up to rounding only."""
        return torch.linalg.solve(self.matrix, outputs[..., None]).squeeze(-1)


class Reversed(Bijection):
    """A bijection in the reverse order of coordinates, d, ..., 1.

    Args:
        part: The bijection.
    """

    def __init__(self, part: Bijection) -> None:
        super().__init__()
        self.dim, self.part = part.dim, part

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the outputs and log |det J|, in nats."""
        outputs, log_det = self.part(inputs.flip(-1))
        return outputs.flip(-1), log_det

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the inputs that lead to these outputs."""
        return self.part.inverse(outputs.flip(-1)).flip(-1)
