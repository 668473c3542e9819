r"""Two latents through a triangular map, without noise: density and codes are known exactly.

.. math:: x_1 = z_1 + 0.6 \sin z_1, \qquad
          x_2 = z_2 \, e^{0.4 \sin 1.5 x_1} + 0.6 x_1^2 - 0.6, \qquad z \sim N(0, I)

Each x_i increases in z_i given those before: the Knothe-Rosenblatt map from z to x, and the only
triangular one with positive diagonal that makes this density out of a standard normal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.dataset import Dataset
from pyrolvm.datasets.streams import Stream, stream

LICENCE = "public domain (generated)"
DEFAULT_SIZE = 4000
BEND = 0.6
"""Size of the sine in x_1; the map is increasing below 1."""
BISECTIONS = 60


@dataclass(frozen=True)
class TriangularToy:
    """The map, its inverse, its density, and data drawn from it.

    >>> toy = TriangularToy()
    >>> z = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    >>> bool(torch.allclose(toy.encode(toy.decode(z)), z))
    True
    """

    def decode(self, z: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Return x of codes z."""
        first = z[..., 0] + BEND * z[..., 0].sin()
        return torch.stack([first, z[..., 1] * _log_spread(first).exp() + _shift(first)], -1)

    def encode(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Return the code of x: the inverse of :meth:`decode`, to rounding."""
        first = x[..., 0]
        second = (x[..., 1] - _shift(first)) * (-_log_spread(first)).exp()
        return torch.stack([_inverse_of_first(first), second], -1)

    def log_density(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch"]:
        r"""Return log p(x) in nats: :math:`\log N(z; 0, I) - \log |\partial x / \partial z|`."""
        z = self.encode(x)
        slope = (1 + BEND * z[..., 0].cos()).log() + _log_spread(x[..., 0])
        return -0.5 * z.square().sum(-1) - math.log(2 * math.pi) - slope

    def dataset(
        self, size: int = DEFAULT_SIZE, *, seed: int = 0, test_size: int | None = None
    ) -> Dataset:
        """Draw a data set with its true codes.

        Args:
            size: Rows to train on.
            seed: Of the codes.
            test_size: Rows held out, drawn independently; None for as many as to train on.

        Returns:
            Rows of 2 entries; ``train_codes`` and ``test_codes`` hold z.

        Raises:
            DataError: If a size is not positive (0 is allowed for those held out).
        """
        test_size = size if test_size is None else test_size
        if size < 1 or test_size < 0:
            raise DataError(
                "The data set 'triangular_toy' needs size ≥ 1 and test_size ≥ 0, but got "
                f"size={size}, test_size={test_size}."
            )
        z, x = self._rows(size, seed, "train")
        test = self._rows(test_size, seed, "test") if test_size else None
        return Dataset(
            name="triangular_toy",
            train=x,
            test=None if test is None else test[1],
            kind="continuous",
            source=f"generated: a triangular map of two standard normals, seed {seed}",
            licence=LICENCE,
            train_codes=z,
            test_codes=None if test is None else test[0],
        )

    def _rows(self, size: int, seed: int, part: Stream) -> tuple[Tensor, Tensor]:
        z = torch.randn(size, 2, generator=stream(seed, part))
        return z, self.decode(z)


def _log_spread(first: Tensor) -> Tensor:
    return 0.4 * (1.5 * first).sin()


def _shift(first: Tensor) -> Tensor:
    return 0.6 * first.square() - 0.6


def _inverse_of_first(first: Tensor) -> Tensor:
    """Solve z + 0.6 sin z = x by bisection; z lies within 0.6 of x."""
    low, high = first - BEND, first + BEND
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        is_below = middle + BEND * middle.sin() < first
        low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
    return 0.5 * (low + high)
