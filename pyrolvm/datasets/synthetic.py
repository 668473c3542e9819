r"""Data sets drawn from a formula: a latent variable, a curve or a plane, and Gaussian noise.

.. math:: x = g(t) + \sigma \varepsilon, \qquad \varepsilon \sim N(0, I)

Circle and wave are those of Balestriero, Paris & Baraniuk (2020), Analytical Probability
Distributions and Exact Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.datasets.dataset import Dataset

DEFAULT_SIZE = 500
LICENCE = "public domain (generated)"


def circle(
    size: int = DEFAULT_SIZE,
    *,
    noise_scale: float = 0.1,
    seed: int = 0,
    test_size: int | None = None,
) -> Dataset:
    """Points on the unit circle, at angles uniform on [0, 2π), with noise.

    Args:
        size: Rows to train on.
        noise_scale: Standard deviation σ of the noise.
        seed: Of rows and noise.
        test_size: Rows held out, drawn independently; None for as many as to train on.

    Returns:
        Rows of 2 entries.

    Raises:
        DataError: If a size is not positive or the noise is negative.

    Examples:
        >>> circle(100).train.shape
        torch.Size([100, 2])
    """

    def rows(count: int, generator: Generator) -> Tensor:
        angle = 2 * math.pi * torch.rand(count, generator=generator)
        return torch.stack([angle.cos(), angle.sin()], 1)

    return _noisy("circle", rows, "unit circle", size, test_size, noise_scale, seed)


def wave(
    size: int = DEFAULT_SIZE,
    *,
    noise_scale: float = 0.1,
    seed: int = 0,
    test_size: int | None = None,
) -> Dataset:
    """Points (t, cos 1.4 t) with t standard normal, with noise.

    Args:
        size: Rows to train on.
        noise_scale: Standard deviation σ of the noise, on both entries.
        seed: Of rows and noise.
        test_size: Rows held out, drawn independently; None for as many as to train on.

    Returns:
        Rows of 2 entries.

    Raises:
        DataError: If a size is not positive or the noise is negative.
    """

    def rows(count: int, generator: Generator) -> Tensor:
        position = torch.randn(count, generator=generator)
        return torch.stack([position, torch.cos(1.4 * position)], 1)

    return _noisy("wave", rows, "(t, cos 1.4 t), t ~ N(0, 1)", size, test_size, noise_scale, seed)


def spiral(
    size: int = DEFAULT_SIZE,
    *,
    noise_scale: float = 0.05,
    seed: int = 0,
    test_size: int | None = None,
) -> Dataset:
    """Two turns of an Archimedean spiral, radius 0 to 1, about evenly filled, with noise.

    Args:
        size: Rows to train on.
        noise_scale: Standard deviation σ of the noise; neighbouring turns lie 0.5 apart.
        seed: Of rows and noise.
        test_size: Rows held out, drawn independently; None for as many as to train on.

    Returns:
        Rows of 2 entries.

    Raises:
        DataError: If a size is not positive or the noise is negative.
    """

    def rows(count: int, generator: Generator) -> Tensor:
        # Arc length grows with the square of the radius.
        radius = torch.rand(count, generator=generator).sqrt()
        angle = 4 * math.pi * radius
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

    return _noisy("spiral", rows, "two spiral turns", size, test_size, noise_scale, seed)


def factor_loadings(latent_dim: int = 2, obs_dim: int = 8, *, seed: int = 0) -> Tensor:
    """Loadings W of :func:`gaussian_factors` with the same seed.

    Args:
        latent_dim: Number of factors L.
        obs_dim: Entries of a row D.
        seed: The same as that of the data.

    Returns:
        Independent standard normal entries, shape ``(D, L)``, float32.
    """
    return torch.randn(obs_dim, latent_dim, generator=random_stream(seed, 0))


def gaussian_factors(
    size: int = DEFAULT_SIZE,
    *,
    latent_dim: int = 2,
    obs_dim: int = 8,
    noise_scale: float = 0.5,
    seed: int = 0,
    test_size: int | None = None,
) -> Dataset:
    """Data of a linear factor model: x = W z + σ ε, so that x ~ N(0, W Wᵀ + σ² I) exactly.

    Args:
        size: Rows to train on.
        latent_dim: Number of factors L.
        obs_dim: Entries of a row D.
        noise_scale: Standard deviation σ of the noise.
        seed: Of loadings (see :func:`factor_loadings`), rows and noise.
        test_size: Rows held out, drawn independently; None for as many as to train on.

    Returns:
        Rows of D entries.

    Raises:
        DataError: If a size is not positive or the noise is negative.
    """
    loadings = factor_loadings(latent_dim, obs_dim, seed=seed)

    def rows(count: int, generator: Generator) -> Tensor:
        return torch.randn(count, latent_dim, generator=generator) @ loadings.T

    formula = f"W z, z ~ N(0, I), {latent_dim} factors"
    return _noisy("gaussian_factors", rows, formula, size, test_size, noise_scale, seed)


def _noisy(
    name: str,
    rows: Callable[[int, Generator], Tensor],
    formula: str,
    size: int,
    test_size: int | None,
    noise_scale: float,
    seed: int,
) -> Dataset:
    test_size = size if test_size is None else test_size
    if size < 1 or test_size < 0 or not 0 <= noise_scale < math.inf:
        raise DataError(
            f"The data set {name!r} needs size ≥ 1, test_size ≥ 0 and a finite noise_scale ≥ 0, "
            f"but got size={size}, test_size={test_size}, noise_scale={noise_scale}."
        )

    def draw(count: int, stream: int) -> Tensor:
        generator = random_stream(seed, stream)
        clean = rows(count, generator)
        return clean + noise_scale * torch.randn(clean.shape, generator=generator)

    return Dataset(
        name=name,
        train=draw(size, 1),
        test=draw(test_size, 2) if test_size else None,
        kind="continuous",
        source=f"generated: {formula}, noise {noise_scale:g}, seed {seed}",
        licence=LICENCE,
    )


def random_stream(seed: int, stream: int) -> Generator:
    """Random numbers of one purpose; streams of seeds below 2**62 share none.

    Args:
        seed: That of the data set.
        stream: 0 for what the rows have in common (loadings), 1 for train, 2 for test.

    Returns:
        A generator of its own, at its start.
    """
    return Generator().manual_seed((3 * seed + stream) % 2**64)
