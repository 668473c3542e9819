"""Invertible maps of vectors with the log-determinant of their Jacobian, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core.errors import DataError


class Bijection(nn.Module, ABC):
    """An invertible, differentiable map of R^d onto itself that acts on the last axis.

    Attributes:
        dim: Dimension d.
    """

    dim: int

    @abstractmethod
    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the outputs and log |det J|, in nats."""

    @abstractmethod
    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the inputs that lead to these outputs."""


class Composition(Bijection):
    """Bijections one after another, first to last.

    Args:
        parts: At least one, all of one dimension.
    """

    def __init__(self, parts: Iterable[Bijection]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.dim = int(self.parts[0].dim)  # type: ignore[arg-type]

    def forward(
        self, inputs: Float[Tensor, "*batch dim"]
    ) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
        """Return the outputs and log |det J|, in nats.

        Raises:
            DataError: If the inputs have another width.
        """
        check_width(inputs, self.dim, type(self).__name__)
        total = inputs.new_zeros(inputs.shape[:-1])
        for part in self.parts:
            inputs, log_det = part(inputs)
            total = total + log_det
        return inputs, total

    def inverse(self, outputs: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the inputs that lead to these outputs.

        Raises:
            DataError: If the outputs have another width.
        """
        check_width(outputs, self.dim, type(self).__name__)
        for part in reversed(list(self.parts)):
            outputs = part.inverse(outputs)  # type: ignore[operator]
        return outputs


def check_width(points: Tensor, dim: int, who: str) -> None:
    """Refuse points of another width.

    Raises:
        DataError: Giving both shapes.
    """
    if points.dim() < 1 or points.shape[-1] != dim:
        raise DataError(
            f"{who} needs points of shape (..., {dim}), but got {tuple(points.shape)}. "
            "Put one point in a row."
        )


def check_finite(points: Tensor, who: str) -> None:
    """Refuse points that are not finite.

    Raises:
        DataError: Saying how many there are.
    """
    bad = ~torch.isfinite(points).all(-1)
    if bool(bad.any()):
        raise DataError(
            f"{who} needs finite points, but {int(bad.sum())} of {bad.numel()} hold NaN or "
            "infinity. Remove or impute them."
        )
