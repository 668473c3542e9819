"""Draws of a guide beside draws of the posterior, checked, with the names of what was drawn.

Coordinates are unconstrained. A reference from Markov chains brings its effective sample sizes:
standard errors use them in the place of the number of draws, and tests for independent draws see
so many of them, evenly spaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError

Draws = Float[Tensor, "draw data coordinate"]
PerCoordinate = Float[Tensor, "data coordinate"]
Sample = Float[NDArray, "draw coordinate"]

FEWEST_DRAWS = 20
"""Draws below which nothing is compared."""


@dataclass(frozen=True)
class Labels:
    """What rows and columns are called.

    Args:
        data: Index of each datum in the data set.
        coordinates: Name of each latent coordinate.
    """

    data: tuple[int, ...]
    coordinates: tuple[str, ...]

    def datum(self, row: int) -> str:
        """Name of one datum; ``"the data"`` if there is only one."""
        return f"datum {self.data[row]}" if len(self.data) > 1 else "the data"

    def place(self, row: int, column: int) -> str:
        """Name of one coordinate of one datum."""
        coordinate = self.coordinates[column]
        return f"{coordinate} of {self.datum(row)}" if len(self.data) > 1 else coordinate


@dataclass(frozen=True, eq=False)
class DrawPair:
    """Draws of guide and posterior for the same data; made by :func:`draw_pair`.

    Args:
        guide: Independent draws, shape ``(K, N, S)``, float64.
        reference: Draws of the posterior, shape ``(R, N, S)``, float64.
        ess: Effective size of the reference, at most R, shape ``(N, S)``.
        labels: Names of data and coordinates.
    """

    guide: Draws
    reference: Draws
    ess: PerCoordinate
    labels: Labels

    @property
    def reference_size(self) -> Float[Tensor, " data"]:
        """Effective size of the reference: that of its worst coordinate, shape ``(N,)``."""
        return self.ess.amin(-1)

    def independent(self, row: int, most: int) -> tuple[Sample, Sample]:
        """About independent draws of one datum, as many of the guide as of the posterior.

        Args:
            row: Which datum.
            most: More draws than this are not used.

        Returns:
            Draws of guide and posterior, shape ``(n, S)`` each.
        """
        size = min(len(self.guide), int(self.reference_size[row]), most)
        return _spaced(self.guide[:, row], size), _spaced(self.reference[:, row], size)


def draw_pair(
    draws: Draws,
    reference: Draws,
    *,
    ess: PerCoordinate | None = None,
    coordinates: Sequence[str] | None = None,
    data: Sequence[int] | None = None,
) -> DrawPair:
    """Put draws of guide and posterior beside each other.

    Args:
        draws: Independent draws of the guide, shape ``(K, N, S)``, unconstrained coordinates.
        reference: Draws of the posterior, shape ``(R, N, S)``; of Markov chains one chain after
            the other.
        ess: Effective sizes of the reference if its draws depend on each other, shape ``(N, S)``;
            of bulk and standard deviation the smaller one.
        coordinates: Name of each coordinate; ``z[0]``, ``z[1]``, … if not given.
        data: Index of each datum in its data set; 0, 1, … if not given.

    Returns:
        The pair, in double precision on the CPU.

    Raises:
        DataError: If shapes do not fit, fewer than 20 (effective) draws came, a draw is not
            finite, or a coordinate of the posterior does not vary.
    """
    guide, posterior = (each.detach().double().cpu() for each in (draws, reference))
    _require_shapes(guide, posterior)
    _, size, dim = posterior.shape
    names = tuple(coordinates) if coordinates is not None else _numbered(dim)
    labels = Labels(tuple(data) if data is not None else tuple(range(size)), names)
    if (len(labels.data), len(names)) != (size, dim):
        raise DataError(
            f"Draws of {size} data and {dim} coordinates came with {len(labels.data)} indices of "
            f"data and {len(names)} names of coordinates. Give one for each."
        )
    for whose, sample in (("guide", guide), ("posterior", posterior)):
        _require_finite(whose, sample, labels)
    return DrawPair(guide, posterior, _sizes(ess, posterior), _require_spread(posterior, labels))


def whitening(sample: Float[Tensor, "draw coordinate"]) -> Float[Tensor, "coordinate coordinate"]:
    r"""Symmetric matrix W that makes draws white and leaves coordinates as near as can be.

    :math:`W = D^{-1} R^{-1/2}` with standard deviations D and correlations R, which are shrunk
    towards none by S / (S + n), so that as many coordinates as draws are no obstacle.
    """
    size, dim = sample.shape
    scale = sample.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    centred = (sample - sample.mean(0)) / scale
    weight = size / (size + dim)
    correlation = weight * (centred.T @ centred / size)
    correlation.diagonal().copy_(torch.ones(dim))
    values, vectors = torch.linalg.eigh(correlation)
    root = vectors * values.clamp(min=1e-10).rsqrt() @ vectors.T
    return root / scale[:, None]


def _spaced(sample: Tensor, size: int) -> Sample:
    rows = np.linspace(0, len(sample) - 1, size).round().astype(int)
    return sample.numpy()[rows]


def _numbered(dim: int) -> tuple[str, ...]:
    return tuple(f"z[{index}]" for index in range(dim))


def _require_shapes(guide: Tensor, posterior: Tensor) -> None:
    shapes = f"{tuple(guide.shape)} of the guide and {tuple(posterior.shape)} of the posterior"
    if guide.ndim != 3 or posterior.ndim != 3 or guide.shape[1:] != posterior.shape[1:]:
        raise DataError(
            "Draws need the shape (draws, data, coordinates), with the same data and coordinates "
            f"for guide and posterior, but have {shapes}."
        )
    if min(len(guide), len(posterior)) < FEWEST_DRAWS or 0 in guide.shape:
        raise DataError(
            f"Comparing draws needs at least {FEWEST_DRAWS} of each, one datum and one coordinate,"
            f" but the shapes are {shapes}. Draw 1,000 or so."
        )


def _require_finite(whose: str, sample: Tensor, labels: Labels) -> None:
    unusable = ~sample.isfinite()
    if unusable.any():
        draw, row, column = (int(index) for index in unusable.nonzero()[0])
        raise DataError(
            f"{int(unusable.sum())} of {sample.numel()} values that the {whose} drew are not "
            f"finite; the first is draw {draw} of {labels.place(row, column)}. Look for a value "
            "on the edge of its support, and for a scale that overflows."
        )


def _require_spread(posterior: Tensor, labels: Labels) -> Labels:
    still = posterior.amax(0) == posterior.amin(0)
    if still.any():
        row, column = (int(index) for index in still.nonzero()[0])
        raise DataError(
            f"All posterior draws of {labels.place(row, column)} are equal, so that there is no "
            "standard deviation to measure in. Leave the coordinate out."
        )
    return labels


def _sizes(ess: Tensor | None, posterior: Tensor) -> Tensor:
    draws, *shape = posterior.shape
    if ess is None:
        return torch.full(shape, float(draws), dtype=torch.float64)
    if list(ess.shape) != shape or not (ess >= FEWEST_DRAWS).all():
        raise DataError(
            f"Effective sample sizes need the shape {tuple(shape)} and values of {FEWEST_DRAWS} "
            f"and more, but have the shape {tuple(ess.shape)} and start at {float(ess.min()):.0f}."
            " Run the chains for longer."
        )
    return ess.detach().double().cpu().clamp(max=draws)
