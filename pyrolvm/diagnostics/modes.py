r"""Modes of the posterior that a guide does not visit.

Posterior draws are clustered: a Gaussian mixture with the number of components of least BIC, whose
components count as one mode where they overlap, or where the mixture's density between their means
does not fall below half of the lower of the two. With the share of posterior draws :math:`r_c` and
of guide draws :math:`g_c` in mode c,

.. math:: \text{missed mass} = \sum_c (r_c - g_c)_+

is the mass that the guide would have to move to another mode: 1/2 for one of two equal modes.
Only what the reference has found can be missed: chains that stayed in one mode know of no other.

Schwarz (1978), Estimating the Dimension of a Model; Hennig (2010), Methods for Merging Gaussian
Mixture Components.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import require_seed
from pyrolvm.diagnostics.draw_pair import DrawPair, Labels, whitening

if TYPE_CHECKING:
    import xarray as xr

MOST_MODES = 8
"""Components that are tried at most."""
MOST_DRAWS = 1500
"""Posterior draws that the mixture is fitted to at most."""
MOST_COORDINATES = 10
"""Above so many coordinates as many directions are looked at."""
DIP = 0.5
"""Components are one mode where the density between them stays above this share of the lower."""
OVERLAP = 0.05
"""Components are one mode where draws of one could be of the other with this probability."""


@dataclass(frozen=True, eq=False)
class Modes:
    """Shares of guide and posterior in each mode.

    Args:
        labels: Names of data and coordinates.
        posterior_share: Share of posterior draws in each mode, most first, shape ``(N, M)``; NaN
            beyond the last mode of a datum.
        guide_share: Share of guide draws, shape ``(N, M)``.
        missed: Missed mass, shape ``(N,)``.
        standard_error: Its standard error, shape ``(N,)``.
    """

    labels: Labels
    posterior_share: Float[Tensor, "data mode"]
    guide_share: Float[Tensor, "data mode"]
    missed: Float[Tensor, " data"]
    standard_error: Float[Tensor, " data"]

    @property
    def number(self) -> Int[Tensor, " data"]:
        """Number of modes that the posterior draws have, shape ``(N,)``."""
        return (~self.posterior_share.isnan()).sum(-1)

    def dataset(self) -> xr.Dataset:
        """``missed_mass`` and its error, ``num_modes``, and the shares by (datum, mode)."""
        import xarray as xr

        return xr.Dataset(
            {
                "missed_mass": ("datum", self.missed.numpy()),
                "missed_mass_se": ("datum", self.standard_error.numpy()),
                "num_modes": ("datum", self.number.numpy()),
                "posterior_share": (("datum", "mode"), self.posterior_share.numpy()),
                "guide_share": (("datum", "mode"), self.guide_share.numpy()),
            },
            coords={"datum": list(self.labels.data)},
        )


def find_modes(pair: DrawPair, *, seed: int = 0) -> Modes:
    """Cluster the posterior draws of each datum, and count the guide's draws in each mode.

    Args:
        pair: Draws of guide and posterior.
        seed: Where the mixtures start.

    Returns:
        Shares and missed mass of each datum.

    Raises:
        SettingError: If the seed is negative.
    """
    require_seed(seed)
    shares, errors = [], []
    for row, size in enumerate(pair.reference_size.tolist()):
        guide, posterior = _projected(pair.guide[:, row], pair.reference[:, row])
        in_posterior, in_guide = _shares(guide, posterior, seed)
        lost = in_posterior > in_guide
        there, here = in_posterior[lost].sum(), in_guide[lost].sum()
        variance = there * (1 - there) / size + here * (1 - here) / len(guide)
        shares.append((in_posterior, in_guide))
        errors.append((there - here, max(variance, 0.0) ** 0.5))
    width = max(len(one) for one, _ in shares)
    filled = np.full((2, len(shares), width), np.nan)
    for row, both in enumerate(shares):
        filled[:, row, : len(both[0])] = both
    missed = torch.tensor(errors, dtype=torch.float64)
    return Modes(
        pair.labels,
        torch.from_numpy(filled[0]),
        torch.from_numpy(filled[1]),
        missed[:, 0],
        missed[:, 1],
    )


def _projected(guide: Tensor, posterior: Tensor) -> tuple[NDArray, NDArray]:
    """Draws, of many coordinates in the directions in which the posterior reaches furthest.

    A mode that the guide misses stretches the posterior towards it: seen from the guide, whose
    draws are made white, it is among the longest directions.
    """
    center = guide.mean(0)
    if posterior.shape[1] <= MOST_COORDINATES:
        scale = posterior.std(0)
        return ((guide - center) / scale).numpy(), ((posterior - center) / scale).numpy()
    white = whitening(guide)
    guide, posterior = (guide - center) @ white, (posterior - center) @ white
    _, axes = torch.linalg.eigh(posterior.T @ posterior)
    axes = axes[:, -MOST_COORDINATES:]
    return (guide @ axes).numpy(), (posterior @ axes).numpy()


def _shares(guide: NDArray, posterior: NDArray, seed: int) -> tuple[NDArray, NDArray]:
    some = posterior[:: -(-len(posterior) // MOST_DRAWS)]
    mixture = _mixture(some, seed)
    mode = _merged(mixture, mixture.predict_proba(some))
    counts = [
        np.bincount(mode[mixture.predict(draws)], minlength=mode.max() + 1) / len(draws)
        for draws in (posterior, guide)
    ]
    order = np.argsort(-counts[0], kind="stable")
    return counts[0][order], counts[1][order]


def _mixture(draws: NDArray, seed: int) -> Any:
    """The Gaussian mixture of least BIC; the search ends when two more components did not help."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    best, least, since = None, np.inf, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for number in range(1, MOST_MODES + 1):
            fitted = GaussianMixture(
                number, n_init=2, init_params="k-means++", random_state=seed % 2**32
            ).fit(draws)
            bic = fitted.bic(draws)
            best, since = (fitted, 0) if bic < least else (best, since + 1)
            least = min(bic, least)
            if since == 2:
                break
    return best


def _merged(mixture: Any, belongs: NDArray) -> NDArray:
    """Mode of each component: components are linked where they overlap or no dip lies between."""
    from scipy.sparse.csgraph import connected_components

    means = mixture.means_
    confused = belongs.T @ belongs / np.maximum(belongs.sum(0)[:, None], 1e-300)
    linked = np.maximum(confused, confused.T) > OVERLAP
    steps = np.linspace(0, 1, 21)[:, None]
    for one in range(len(means)):
        for other in range(one):
            path = mixture.score_samples((1 - steps) * means[one] + steps * means[other])
            linked[one, other] |= path.min() > min(path[0], path[-1]) + np.log(DIP)
    modes: NDArray = connected_components(linked, directed=False)[1]
    return modes
