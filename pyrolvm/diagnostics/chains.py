"""Markov chains, judged by ArviZ: R-hat, effective sample sizes, and the tree that ArviZ reads.

Rank-normalised and split R-hat and bulk effective sample size of each coordinate of each datum.

References:
    Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Rank-Normalization, Folding, and
    Localization: An Improved R-hat for Assessing Convergence of MCMC.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.arviz_export import chain_datatree, chain_statistic
from pyrolvm.diagnostics.labelling import as_array

if TYPE_CHECKING:
    import xarray as xr

LARGEST_RHAT = 1.01
"""Chains whose R-hat is not below this have not mixed."""
SMALLEST_ESS = 400
"""Fewest effective draws for which R-hat and standard errors can be trusted."""
FEWEST_DRAWS = 4


@dataclass(frozen=True, repr=False)
class ChainDraws(ABC):
    """Draws of Markov chains, with what says whether to believe them.

    Args:
        z: Draws of the latent site, shape ``(chain, draw, N, S)``.
        site: Its name.
    """

    z: Float[Tensor, "chain draw data S"]
    site: str

    @abstractmethod
    def more(self, num_draws: int, *, progress: bool = True) -> ChainDraws:
        """Let the chains go on; return these draws and the further ones."""

    @cached_property
    def rhat(self) -> Float[Tensor, "data S"]:
        """Rank-normalised split R-hat; 1 where the chains agree."""
        return chain_rhat(self.z)

    @cached_property
    def ess(self) -> Float[Tensor, "data S"]:
        """Bulk effective sample size: so many independent draws would say as much."""
        return chain_ess(self.z)

    @cached_property
    def converged(self) -> Bool[Tensor, " data"]:
        """Whether R-hat is below 1.01 and the effective sample size above 400, per datum."""
        return ((self.rhat < LARGEST_RHAT) & (self.ess > SMALLEST_ESS)).all(-1)

    @cached_property
    def mean(self) -> Float[Tensor, "data S"]:
        """Posterior mean."""
        return self.z.mean((0, 1))

    @cached_property
    def covariance(self) -> Float[Tensor, "data S S"]:
        """Posterior covariance."""
        rest = (self.z - self.mean).flatten(0, 1)
        return torch.einsum("kns,knt->nst", rest, rest) / len(rest)

    @cached_property
    def standard_error(self) -> Float[Tensor, "data S"]:
        """Monte Carlo standard error of the mean."""
        variance = self.covariance.diagonal(dim1=-2, dim2=-1)
        return (variance / chain_ess(self.z, "mean")).sqrt()

    def to_datatree(self) -> xr.DataTree:
        """Return a tree that ArviZ reads: ``posterior`` with (chain, draw, datum, latent)."""
        return chain_datatree(self.site, self.z, {"sampling": "markov_chains"})

    def __repr__(self) -> str:
        chains, draws, size, dim = self.z.shape
        name = type(self).__name__
        head = f"{name}: {chains} chains of {draws} draws for {size} data, {dim} latents"
        if draws < FEWEST_DRAWS or not size:
            return f"{head}; too few to judge"
        good = int(self.converged.sum())
        verdict = "all converged" if good == size else f"{size - good} of {size} NOT converged"
        return (
            f"{head}; {verdict} (largest R-hat {self.rhat.max():.3f}, smallest effective sample "
            f"size {self.ess.min():.0f}; wanted below {LARGEST_RHAT} and above {SMALLEST_ESS})"
        )


def chain_rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat.

    Args:
        draws: Shape ``(chain, draw, *rest)``.

    Returns:
        Shape ``rest``; below 1.01 where the chains agree.

    Raises:
        DataError: If a chain has fewer than 4 draws.
    """
    return _statistic("rhat", draws, "rank")


def chain_ess(draws: Tensor, kind: Literal["bulk", "mean"] = "bulk") -> Tensor:
    """Effective sample size: as many independent draws would say as much.

    Args:
        draws: Shape ``(chain, draw, *rest)``.
        kind: ``"bulk"``, of ranks, to judge chains by; ``"mean"``, for the error of a mean.

    Returns:
        Shape ``rest``.

    Raises:
        DataError: If a chain has fewer than 4 draws.
    """
    return _statistic("ess", draws, kind)


def _statistic(name: str, draws: Tensor, method: str) -> Tensor:
    if draws.ndim < 2 or draws.shape[1] < FEWEST_DRAWS:
        raise DataError(
            f"R-hat and effective sample sizes need at least {FEWEST_DRAWS} draws of each chain "
            f"(chain, draw, ...), but got the shape {tuple(draws.shape)}. Go on with more()."
        )
    return torch.from_numpy(chain_statistic(name, as_array(draws), method)).to(draws.device)
