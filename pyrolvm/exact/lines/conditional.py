"""The exact posterior along one line, to look at and to check."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.errors import ObservationError
from pyrolvm.exact.folding import Array, observations, to_numpy
from pyrolvm.exact.lines.problem import BEGIN, LENGTH, MEAN, PRECISION, SIGN, line_problem
from pyrolvm.exact.stack import AffineStack


@dataclass(frozen=True)
class LineConditional:
    """p(t | x) for z = point + t direction: normal variables cut to the pieces of the line.

    Attributes:
        pieces: One row for each piece and component of the prior, from
            :func:`~pyrolvm.exact.lines.conditional_kernel.sweep_line`, ``(R, 7)``.
    """

    pieces: Array = field(repr=False)

    def _ends(self) -> tuple[Array, Array]:
        near, far = self.pieces[:, BEGIN], self.pieces[:, BEGIN] + self.pieces[:, LENGTH]
        right = self.pieces[:, SIGN] > 0
        return np.where(right, near, -far), np.where(right, far, -near)

    @property
    def breakpoints(self) -> Tensor:
        """Where the generator has a kink on the line, increasing; 0 where it has one there."""
        low, high = self._ends()
        inner = np.unique(np.concatenate([low, high]))
        return torch.from_numpy(inner[np.isfinite(inner) & (inner != 0.0)])

    @property
    def low(self) -> Tensor:
        """Lower end of each piece, ``(R,)``; a piece that holds t = 0 is cut in two there."""
        return torch.from_numpy(self._ends()[0])

    @property
    def high(self) -> Tensor:
        """Upper end of each piece, ``(R,)``."""
        return torch.from_numpy(self._ends()[1])

    @property
    def log_weights(self) -> Tensor:
        """Log of each piece's integral of p(x, z) along the line, up to a constant, ``(R,)``."""
        from pyrolvm.exact.lines.conditional_kernel import log_weight

        return torch.tensor([log_weight(piece) for piece in self.pieces], dtype=torch.float64)

    @property
    def mean(self) -> float:
        """Mean of t."""
        return self._moments()[0]

    @property
    def variance(self) -> float:
        """Variance of t."""
        mean, square = self._moments()
        return square - mean**2

    def _moments(self) -> tuple[float, float]:
        from pyrolvm.exact.lines.conditional_kernel import standardised
        from pyrolvm.exact.special import interval_moments

        first = second = 0.0
        for share, piece in zip(self.log_weights.softmax(0).tolist(), self.pieces, strict=True):
            if share == 0.0:
                continue
            low, high, root = standardised(piece)
            base, m0, m1, m2 = interval_moments(low, high)
            centre = piece[BEGIN] + piece[MEAN] + base / root
            step, square = m1 / m0 / root, m2 / m0 / piece[PRECISION]
            first += share * piece[SIGN] * (centre + step)
            second += share * (centre**2 + 2 * centre * step + square)
        return first, second


def line_conditional(
    stack: AffineStack, x: Tensor, point: Tensor, direction: Tensor
) -> LineConditional:
    """Solve for the posterior along a line, all pieces kept.

    Args:
        stack: The generator; any latent dimension.
        x: One observation, ``(D,)``.
        point: Where t = 0, ``(S,)``.
        direction: Change of z with t, ``(S,)``, not all 0.

    Returns:
        The conditional of t.

    Raises:
        ObservationError: If a shape is wrong or a value not finite.
        GeneratorError: If a parameter is not finite or a scale not positive.

    Example:
        >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4))
        >>> stack = AffineStack.from_sequential(net, 0.1)
        >>> len(line_conditional(stack, torch.ones(4), torch.zeros(3), torch.ones(3)).breakpoints)
        0
    """
    from pyrolvm.exact.lines.conditional_kernel import make_room, sweep_line

    problem = line_problem(stack)
    y, _ = problem.folded.reduce(observations(x.reshape(1, -1), stack.obs_dim))
    for name, value in (("a point", point), ("a direction", direction)):
        if value.shape != (stack.latent_dim,) or not value.isfinite().all():
            raise ObservationError(
                f"A line needs {name} of {stack.latent_dim} finite coordinates, but got "
                f"{tuple(value.shape)}: {value.tolist()}."
            )
    start = problem.folded.to_whitened(to_numpy(point))
    along = np.linalg.solve(problem.folded.prior_scale_tril, to_numpy(direction))
    if not along.any():
        raise ObservationError("A line needs a direction, but all its coordinates are 0.")
    room, rows = make_room(problem.net), np.empty((64, 7))
    pieces, used, _ = sweep_line(start, along, y[0], 1.0, problem.net, room, inf, rows)
    return LineConditional(pieces[:used])
