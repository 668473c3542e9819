r"""The rate plane of a linear Gaussian hierarchy, in closed form, and the same by SVI.

All quantities of the best guide are quadratic in x without a linear part, so that their mean over
the model's own data distribution is their mean over the 2n rows

.. math:: \pm \sqrt n \, c_1, \dots, \pm \sqrt n \, c_n, \qquad
          \operatorname{Cov}(x) = \sum_i c_i c_i^\top

which have its mean and its covariance. For affine guides so is the loss: SVI on these rows has
the population's optimum, without sampling error in the data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyro
import torch
from pyro.distributions import MultivariateNormal
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrolvm.core import evaluating
from pyrolvm.fit_ensemble import fit_ensemble
from pyrolvm.inference.rate_plane.members import weight_grid
from pyrolvm.models import HierarchicalLinearGaussian

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["weight_1", "weight_2", "rate_1", "rate_2", "distortion"]


@dataclass(frozen=True)
class LinearPlane:
    r"""Rates and distortion of the best guides of a linear Gaussian hierarchy.

    Args:
        frame: One row for each pair of weights: ``weight_1``, ``weight_2``, ``rate_1``,
            ``rate_2``, ``distortion``, in nats, exact means over the model's own data.
        entropy: Differential entropy h(X) of the data, nats; no guide has a distortion below
            h(X) - R_1 - R_2, and the one with weights of 1 reaches it.
        trained: The same columns for guides that SVI has trained; empty where none were.
    """

    frame: pd.DataFrame
    entropy: float
    trained: pd.DataFrame


def linear_rate_plane(
    model: HierarchicalLinearGaussian, grid: int | Sequence[float] = 21
) -> LinearPlane:
    """Return rates and distortion of the best guide for all pairs of weights, in closed form.

    Args:
        model: A hierarchy of two layers, as it is: only the guide is optimal.
        grid: Weights of each layer's rate, or how many from 0.1 to 10.

    Raises:
        SettingError: If the weights make no sense.
    """
    import pandas as pd

    x, rows = population_rows(model), []
    weights = weight_grid(grid)
    with torch.no_grad():
        for first in weights:
            for second in weights:
                best = model.optimal_layers(x, {"z_1": first, "z_2": second})
                means = (best.rates["z_1"], best.rates["z_2"], best.distortion)
                rows.append((first, second, *(each.mean().item() for each in means)))
        entropy = 0.5 * torch.logdet(2 * math.pi * math.e * model.data_covariance).item()
    none = pd.DataFrame(columns=COLUMNS, dtype=float)
    return LinearPlane(pd.DataFrame(rows, columns=COLUMNS), entropy, none)


def trained_linear_plane(
    model: HierarchicalLinearGaussian,
    grid: int | Sequence[float] = 3,
    *,
    steps: int = 1500,
    learning_rate: float = 1e-2,
    num_particles: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Train an affine guide by SVI for each pair of weights, the model fixed, and measure it.

    Args:
        model: A hierarchy of two layers.
        grid: Weights of each layer's rate, or how many from 0.1 to 10.
        steps: Steps of Adam.
        learning_rate: Of Adam at the start.
        num_particles: Draws a row and step.
        seed: Of the guides' starts and of the draws.
        progress: Whether to show a progress bar.

    Returns:
        The columns of :class:`LinearPlane`.
    """
    import pandas as pd

    x, weights = population_rows(model), weight_grid(grid)
    pairs = [(first, second) for first in weights for second in weights]
    result = fit_ensemble(
        lambda: _frozen(model),
        AffineLayers,
        x.to(model.scales.dtype),
        seeds=[seed],
        grid=[{"rate_weights": {"z_1": first, "z_2": second}} for first, second in pairs],
        steps=steps,
        learning_rate=learning_rate,
        num_particles=num_particles,
        progress="train linear plane" if progress else False,
    )
    rows = []
    for pair, member in zip(pairs, result.members, strict=True):
        rows.append((*pair, *exact_terms(model, member.guide, x)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _frozen(model: HierarchicalLinearGaussian) -> HierarchicalLinearGaussian:
    """A copy that does not learn."""
    return copy.deepcopy(model).requires_grad_(False).eval()


def population_rows(model: HierarchicalLinearGaussian) -> Tensor:
    """Return 2n rows with mean 0 and the covariance of the model's data, float64, ``(2n, n)``."""
    with torch.no_grad():
        factor = torch.linalg.cholesky(model.data_covariance)
    rows = math.sqrt(len(factor)) * factor.mT
    return torch.cat([rows, -rows])


class AffineLayers(PyroModule):
    r"""A plain Pyro guide of two layers, affine in what it reads, with any covariance.

    .. math:: q(z_2 \mid x) = N(B x + b, L_2 L_2^\top), \qquad
              q(z_1 \mid z_2, x) = N(C x + F z_2 + c, L_1 L_1^\top)

    The best guide of a linear Gaussian hierarchy is of this form for all weights.
    """

    def __init__(self, model: HierarchicalLinearGaussian) -> None:
        super().__init__()
        self.dims = model.layer_dims
        self.loc_2 = nn.Linear(model.obs_dim, self.dims["z_2"])
        self.loc_1 = nn.Linear(model.obs_dim + self.dims["z_2"], self.dims["z_1"])
        self.raw_2 = nn.Parameter(torch.zeros(self.dims["z_2"], self.dims["z_2"]))
        self.raw_1 = nn.Parameter(torch.zeros(self.dims["z_1"], self.dims["z_1"]))

    def forward(self, x: Tensor) -> None:
        """Sample both layers given observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", x.shape[-2], dim=-1):
            z_2 = pyro.sample("z_2", _gaussian(self.loc_2(x), self.raw_2))
            read = torch.cat([x.expand(*z_2.shape[:-1], x.shape[-1]), z_2], -1)
            pyro.sample("z_1", _gaussian(self.loc_1(read), self.raw_1))


def exact_terms(
    model: HierarchicalLinearGaussian, guide: AffineLayers, x: Tensor
) -> tuple[float, float, float]:
    """Return R_1, R_2 and the distortion of an affine guide, means over rows, without sampling.

    Args:
        model: A hierarchy of two layers.
        guide: Its guide.
        x: Rows, float64, shape ``(N, obs_dim)``.
    """
    with evaluating(model, guide):
        top = _gaussian(guide.loc_2(x), guide.raw_2)
        bottom = _gaussian(guide.loc_1(torch.cat([x, top.mean], -1)), guide.raw_1)
        follows = guide.loc_1.weight[:, x.shape[-1] :]  # of the mean of z_1 as z_2 moves
        loading, up, scale = model.loadings[0], model.loadings[1], model.scales[0]
        noise = model.noise()

        spread_2 = top.covariance_matrix
        rate_2 = _kl(top.mean, spread_2, spread_2, torch.ones(()))
        drift = follows - up
        own = bottom.covariance_matrix
        shift = bottom.mean - top.mean @ up.mT
        rate_1 = _kl(shift, own + drift @ spread_2 @ drift.mT, own, scale)

        spread = loading @ (own + follows @ spread_2 @ follows.mT) @ loading.mT
        squares = (x - bottom.mean @ loading.mT).square().sum(-1)
        squares = squares + spread.diagonal(dim1=-2, dim2=-1).sum(-1)
        constant = x.shape[-1] * torch.log(math.sqrt(2 * math.pi) * noise)
        distortion = constant + squares / (2 * noise**2)
        return rate_1.mean().item(), rate_2.mean().item(), distortion.mean().item()


def _kl(shift: Tensor, spread: Tensor, covariance: Tensor, scale: Tensor) -> Tensor:
    """Mean KL to N(0, scale² I) of a Gaussian whose mean is uncertain.

    Args:
        shift: Mean of its mean.
        spread: Its covariance plus that of its mean.
        covariance: Its covariance.
        scale: Of the prior.
    """
    dim = shift.shape[-1]
    ratio = (spread.diagonal(dim1=-2, dim2=-1).sum(-1) + shift.square().sum(-1)) / scale**2
    return 0.5 * (ratio - dim - torch.logdet(covariance) + 2 * dim * scale.log())


def _gaussian(loc: Tensor, raw: Tensor) -> MultivariateNormal:
    factor = raw.tril(-1) + torch.diag_embed(softplus(raw.diagonal()))
    return MultivariateNormal(loc, scale_tril=factor)
