r"""Sources whose means and scales change from segment to segment, mixed by an injective network.

.. math:: z_i \mid u = \mu_{ui} + \sigma_{ui} \, s_i, \qquad x = f(z) + \tau \varepsilon, \qquad
          f = A_L \circ h \circ A_{L-1} \circ \dots \circ h \circ A_1

with independent s_i of mean 0 and variance 1, h a leaky ReLU, and A_l matrices with columns of
length 1, well conditioned. Segments are the environments u.

References:
    Hyvärinen & Morioka (2016), Unsupervised Feature Extraction by Time-Contrastive Learning and
    Nonlinear ICA.
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor
from torch.nn.functional import leaky_relu

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.datasets.dataset import Dataset
from pyrolvm.datasets.streams import Stream, stream

LICENCE = "public domain (generated)"
LARGEST_CONDITION = 1e6
"""Condition number of a layer beyond which single precision does not recover the sources."""
CANDIDATES = 2000
ACCEPTED_SHARE = 0.25


def _gaussian(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator)


def _laplace(shape: tuple[int, ...], generator: Generator) -> Tensor:
    first, second = torch.empty((2, *shape)).exponential_(generator=generator).unbind()
    return (first - second) / math.sqrt(2)


def _hypersecant(shape: tuple[int, ...], generator: Generator) -> Tensor:
    place = torch.rand(shape, generator=generator, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
    return (2 / math.pi * torch.tan(0.5 * math.pi * place).log()).float()


SOURCES: dict[str, Callable[[tuple[int, ...], Generator], Tensor]] = {
    "gaussian": _gaussian,
    "laplace": _laplace,
    "hypersecant": _hypersecant,
}
"""Laws of one source, of mean 0 and variance 1."""


@dataclass(frozen=True, eq=False)
class SegmentedSources:
    """The law of segmented sources and their mixing; draw one with :meth:`random`.

    Args:
        loc: Mean of each source in each environment, shape ``(E, d)``.
        scale: Standard deviations, shape ``(E, d)``.
        mixing: Matrices A_1, …, A_L of shape ``(out, in)`` each; the first takes d, the last
            gives D.
        slope: Slope of the leaky ReLU left of 0, positive.
        noise_scale: Standard deviation τ of the noise.
        sources: ``"gaussian"``, ``"laplace"`` or ``"hypersecant"``.

    Raises:
        DataError: If a shape does not fit, a scale is not positive, or the mixing cannot be
            inverted.
        UnknownNameError: If there is no such law of sources.

    >>> law = SegmentedSources.random(latent_dim=2, obs_dim=4, num_environments=10)
    >>> law.dataset(rows_per_environment=5).train.shape
    torch.Size([50, 4])
    """

    loc: Tensor
    scale: Tensor
    mixing: tuple[Tensor, ...]
    slope: float = 0.2
    noise_scale: float = 0.1
    sources: str = "gaussian"

    def __post_init__(self) -> None:
        if self.sources not in SOURCES:
            raise UnknownNameError("law of sources", self.sources, SOURCES)
        _check_priors(self.loc, self.scale)
        _check_mixing(self.mixing, self.latent_dim, self.slope)
        if not 0 <= self.noise_scale < math.inf:
            raise DataError(f"noise_scale should be finite and ≥ 0, but it is {self.noise_scale}.")

    @classmethod
    def random(
        cls,
        latent_dim: int = 2,
        obs_dim: int = 4,
        num_environments: int = 10,
        *,
        num_layers: int = 2,
        centred: bool = False,
        mean_range: tuple[float, float] = (-3.0, 3.0),
        scale_range: tuple[float, float] = (0.5, 2.0),
        slope: float = 0.2,
        noise_scale: float = 0.1,
        sources: str = "gaussian",
        seed: int = 0,
    ) -> SegmentedSources:
        """Draw means, scales and a well-conditioned mixing.

        Args:
            latent_dim: Number of sources d.
            obs_dim: Entries of a row D, at least d.
            num_environments: Number of segments E.
            num_layers: Number of matrices L of the mixing; one mixes linearly.
            centred: Whether all means are 0, so that segments differ in scales alone.
            mean_range: Means are uniform over it, where they are not 0.
            scale_range: Scales are uniform over it.
            slope: Slope of the leaky ReLU left of 0.
            noise_scale: Standard deviation of the noise.
            sources: ``"gaussian"``, ``"laplace"`` or ``"hypersecant"``.
            seed: Of means, scales and mixing.

        Raises:
            DataError: If a number or a range makes no sense, or ``obs_dim`` is below
                ``latent_dim``: such a mixing cannot be inverted.
        """
        _check_sizes(latent_dim, obs_dim, num_environments, num_layers)
        generator = stream(seed, "law")
        shape = (num_environments, latent_dim)
        scale = _uniform(shape, scale_range, "scale_range", generator)
        loc = _uniform(shape, mean_range, "mean_range", generator)
        widths = [latent_dim, *[obs_dim] * num_layers]
        mixing = tuple(
            _well_conditioned(widths[i + 1], widths[i], generator) for i in range(num_layers)
        )
        loc = torch.zeros_like(loc) if centred else loc
        return cls(loc, scale, mixing, slope, noise_scale, sources)

    @property
    def latent_dim(self) -> int:
        """Number of sources d."""
        return self.loc.shape[1]

    @property
    def obs_dim(self) -> int:
        """Entries of a row D."""
        return self.mixing[-1].shape[0]

    @property
    def num_environments(self) -> int:
        """Number of segments E."""
        return self.loc.shape[0]

    @property
    def condition_numbers(self) -> tuple[float, ...]:
        """Ratio of the largest to the smallest singular value of each matrix."""
        return tuple(float(torch.linalg.cond(matrix.double())) for matrix in self.mixing)

    def mix(self, z: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch D"]:
        """Return f(z), without noise."""
        for matrix in self.mixing[:-1]:
            z = leaky_relu(z @ matrix.to(z).mT, self.slope)
        return z @ self.mixing[-1].to(z).mT

    def unmix(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch d"]:
        """Return the sources of rows without noise: the inverse of :meth:`mix` on its image."""
        for place, matrix in enumerate(reversed(self.mixing)):
            x = leaky_relu(x, 1 / self.slope) if place else x
            x = x @ torch.linalg.pinv(matrix.double()).to(x).mT
        return x

    def draw(
        self, u: Int[Tensor, " data"], generator: Generator
    ) -> tuple[Float[Tensor, "data d"], Float[Tensor, "data D"]]:
        """Draw codes z and rows x in given environments.

        Args:
            u: Labels, shape ``(N,)``.
            generator: Of the random numbers.
        """
        noise = SOURCES[self.sources]((len(u), self.latent_dim), generator)
        z = self.loc[u] + self.scale[u] * noise
        clean = self.mix(z)
        return z, clean + self.noise_scale * torch.randn(clean.shape, generator=generator)

    def dataset(
        self,
        rows_per_environment: int = 400,
        *,
        seed: int = 0,
        test_rows_per_environment: int | None = None,
    ) -> Dataset:
        """Draw a data set, segment after segment.

        Args:
            rows_per_environment: Rows of each segment to train on.
            seed: Of sources and noise.
            test_rows_per_environment: Rows held out of each; None for as many.

        Returns:
            Rows of D entries with the labels ``u`` as covariate and their true codes z.

        Raises:
            DataError: If a size is not positive (0 is allowed for those held out).
        """
        held_out = test_rows_per_environment
        held_out = rows_per_environment if held_out is None else held_out
        if rows_per_environment < 1 or held_out < 0:
            raise DataError(
                "Segmented sources need at least 1 row an environment to train on and 0 held "
                f"out, but got {rows_per_environment} and {held_out}."
            )
        u, z, x = self._rows(rows_per_environment, seed, "train")
        test = self._rows(held_out, seed, "test") if held_out else None
        return Dataset(
            name="segmented_sources",
            train=x,
            test=None if test is None else test[2],
            kind="continuous",
            source=f"generated: {self.num_environments} segments of {self.sources} sources, "
            f"{len(self.mixing)} layers of mixing, noise {self.noise_scale:g}, seed {seed}",
            licence=LICENCE,
            train_covariates={"u": u},
            test_covariates=None if test is None else {"u": test[0]},
            train_codes=z,
            test_codes=None if test is None else test[1],
        )

    def _rows(self, count: int, seed: int, part: Stream) -> tuple[Tensor, Tensor, Tensor]:
        u = torch.arange(self.num_environments).repeat_interleave(count)
        return u, *self.draw(u, stream(seed, part))


def _uniform(
    shape: tuple[int, int], ends: tuple[float, float], name: str, generator: Generator
) -> Tensor:
    low, high = ends
    if not -math.inf < low <= high < math.inf:
        raise DataError(f"{name} should be two finite numbers in order, but it is {ends}.")
    return low + (high - low) * torch.rand(shape, generator=generator)


def _well_conditioned(rows: int, columns: int, generator: Generator) -> Tensor:
    """A matrix with columns of length 1 whose condition is among the best quarter of many."""
    drawn = 2 * torch.rand((CANDIDATES, rows, columns), generator=generator) - 1
    drawn = drawn / drawn.norm(dim=1, keepdim=True)
    condition = torch.linalg.cond(drawn)
    return drawn[condition <= condition.quantile(ACCEPTED_SHARE)][0].clone()


def _check_sizes(latent_dim: int, obs_dim: int, num_environments: int, num_layers: int) -> None:
    if min(latent_dim, num_environments, num_layers) < 1:
        raise DataError(
            "Segmented sources need at least one source, one environment and one layer, but got "
            f"{latent_dim}, {num_environments} and {num_layers}."
        )
    if obs_dim < latent_dim:
        raise DataError(
            f"A mixing of {latent_dim} sources into {obs_dim} observations cannot be inverted. "
            f"Give obs_dim of at least {latent_dim}."
        )


def _check_priors(loc: Tensor, scale: Tensor) -> None:
    if loc.dim() != 2 or loc.numel() == 0 or loc.shape != scale.shape:
        raise DataError(
            "Segmented sources need means and scales of one shape (E, d), but got "
            f"{tuple(loc.shape)} and {tuple(scale.shape)}."
        )
    if not bool((loc.isfinite() & scale.isfinite() & (scale > 0)).all()):
        raise DataError("Segmented sources need finite means and positive finite scales.")


def _check_mixing(mixing: tuple[Tensor, ...], latent_dim: int, slope: float) -> None:
    if not 0 < slope < math.inf:
        raise DataError(
            f"A mixing with slope {slope} left of 0 cannot be inverted. Give a positive slope."
        )
    width = latent_dim
    for place, matrix in enumerate(mixing, 1):
        if matrix.dim() != 2 or matrix.shape[1] != width:
            raise DataError(
                f"Matrix {place} of the mixing should take {width} entries, but has the shape "
                f"{tuple(matrix.shape)}."
            )
        condition = float(torch.linalg.cond(matrix.double()))
        if matrix.shape[0] < width or not condition < LARGEST_CONDITION:
            raise DataError(
                f"Matrix {place} of the mixing, of shape {tuple(matrix.shape)} and condition "
                f"number {condition:.3g}, cannot be inverted. Give columns that are linearly "
                "independent."
            )
        width = matrix.shape[0]
    if not mixing:
        raise DataError("A mixing needs at least one matrix.")
