r"""The rate plane of a linear Gaussian hierarchy, in closed form, and the same by SVI.

All quantities of the best guide are quadratic in x without a linear part, so that their mean over
the model's own data distribution is their mean over the 2n rows

.. math:: \pm \sqrt n \, c_1, \dots, \pm \sqrt n \, c_n, \qquad
          \operatorname{Cov}(x) = \sum_i c_i c_i^\top

which have its mean and its covariance. For affine guides so is the loss: SVI on these rows has
the population's optimum, without sampling error in the data.
"""

from __future__ import annotations

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

from pyrolvm.core.randomness import own_randomness
from pyrolvm.fit import fit
from pyrolvm.inference.layer_rates import layer_rates
from pyrolvm.inference.rate_plane.members import weight_grid
from pyrolvm.models import HierarchicalLinearGaussian
from pyrolvm.objectives import LayerwiseELBO

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
    steps: int = 1000,
    learning_rate: float = 3e-2,
    num_particles: int = 16,
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
        seed: Of the draws.
        progress: Whether to show progress bars.

    Returns:
        The columns of :class:`LinearPlane`.
    """
    import pandas as pd

    x, rows, weights = population_rows(model), [], weight_grid(grid)
    for first in weights:
        for second in weights:
            with own_randomness(seed):
                guide = AffineLayers(model)
            wanted = {"z_1": first, "z_2": second}
            loss = LayerwiseELBO(
                wanted, num_particles=num_particles, vectorize_particles=True, log=False
            )
            fit(
                model, guide, x.to(model.scales.dtype), steps=steps, learning_rate=learning_rate,
                train="guide", loss=loss, seed=seed, progress=progress,
            )  # fmt: skip
            found = layer_rates(model, guide, x, num_particles=4000, seed=seed)
            means = (found.rates["z_1"], found.rates["z_2"], found.distortion)
            rows.append((first, second, *(each.mean().item() for each in means)))
    return pd.DataFrame(rows, columns=COLUMNS)


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


def _gaussian(loc: Tensor, raw: Tensor) -> MultivariateNormal:
    factor = raw.tril(-1) + torch.diag_embed(softplus(raw.diagonal()))
    return MultivariateNormal(loc, scale_tril=factor)
