r"""Annealed importance sampling of the evidence of each datum.

.. math:: \log \hat p(x) = \log \frac1K \sum_k w_k, \qquad
          \log w_k = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \, r(u_{k,t-1})

u_{k,0} is drawn from the start of the path, and u_{k,t} comes from u_{k,t-1} by a Hamiltonian
move that leaves the density at β_t invariant. E[w] = p(x), so that log p̂ is a lower bound in
expectation, by about half the variance of log w divided by K where that is small.

References:
    Neal (2001), Annealed Importance Sampling. Jarzynski (1997), Nonequilibrium Equality for Free
    Energy Differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import Data
from pyrolvm.core.errors import require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import iwae
from pyrolvm.inference.annealing.path import PerChain
from pyrolvm.inference.annealing.runs import (
    AnnealingSettings,
    annealing_path,
    cool,
    progress_bar,
    row_slices,
)
from pyrolvm.inference.annealing.tuning import tune


@dataclass(frozen=True)
class AnnealedEstimate:
    """Log p(x) of each datum by annealing.

    Args:
        log_weights: Of K chains, in nats, shape ``(K, N)``.
        acceptance: Mean acceptance of the moves, shape ``(N,)``.
        length: Thermodynamic length of the path, as the preliminary run saw it, shape ``(N,)``.
        settings: How long annealing took.
    """

    log_weights: PerChain
    acceptance: Float[Tensor, " data"]
    length: Float[Tensor, " data"]
    settings: AnnealingSettings

    @property
    def value(self) -> Float[Tensor, " data"]:
        """Log p(x) in nats, shape ``(N,)``; a lower bound in expectation."""
        return iwae(self.log_weights)

    @property
    def standard_error(self) -> Float[Tensor, " data"]:
        """Error of the log of the mean weight, shape ``(N,)``; see :func:`annealing_error`."""
        return annealing_error(self.log_weights)

    @property
    def effective_chains(self) -> Float[Tensor, " data"]:
        """Effective number of chains (Σ w)² / Σ w², between 1 and K, shape ``(N,)``."""
        return (2 * self.log_weights.logsumexp(0) - (2 * self.log_weights).logsumexp(0)).exp()


def annealing_error(log_weights: PerChain) -> Float[Tensor, " data"]:
    r"""Standard error of the log of the mean weight, by the jackknife, for few chains as well.

    .. math:: \sqrt{\tfrac{K-1}{K} \sum_k (\ell_{-k} - \bar\ell)^2}

    with ℓ₋ₖ the estimate without chain k. Where the weights are even it is the delta method's
    error; where one chain outweighs the others, which the delta method never calls worse than 1
    nat, it tells how far the estimate would fall without that chain.

    Args:
        log_weights: Of K independent chains, in nats, shape ``(K, N)``.

    Returns:
        Nats, shape ``(N,)``; infinite for one chain, and where all weights but one are 0.

    References:
        Efron & Stein (1981), The Jackknife Estimate of Variance.
    """
    size = len(log_weights)
    others = ~torch.eye(size, dtype=torch.bool, device=log_weights.device)
    left = torch.where(others[..., None], log_weights, -torch.inf).logsumexp(1)
    spread = ((size - 1) * (left - left.mean(0)).square().mean(0)).sqrt()
    return torch.where(spread.isfinite() & (size > 1), spread, math.inf)


def annealed_evidence(
    model: Callable[..., Any],
    data: Any,
    settings: AnnealingSettings | None = None,
    *,
    guide: Callable[..., Any] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> AnnealedEstimate:
    """Estimate log p(x) of each datum of any Pyro program by annealed importance sampling.

    Temperatures, steps and scales are found for each datum in a preliminary run and then fixed.

    Args:
        model: A Pyro program with continuous latents (discrete ones marked to be summed out).
        data: A tensor, or a mapping from argument name to tensor, rows first.
        settings: How long it takes.
        guide: A Pyro program with the same arguments, where annealing starts from one.
        seed: The same seed gives the same estimate.
        progress: Whether to show a progress bar.

    Returns:
        The estimate; with a latent site outside the data plate the whole data set is one datum.

    Raises:
        SiteError: If a latent site is discrete and cannot be summed out.
        SettingError: If annealing starts from a guide and there is none.
    """
    settings = settings or AnnealingSettings()
    require_seed(seed)
    rows = Data.of(data)
    parts = []
    with own_randomness(seed):
        slices = row_slices(model, rows, settings.num_chains)
        bar = progress_bar(settings.num_temperatures * len(slices), rows, progress)
        for part in slices:
            with annealing_path(model, rows.rows(part), settings, guide) as path:
                tuned = tune(path, settings.num_leapfrog).schedule
                weights, acceptance = cool(path, tuned, settings, bar.update)
                parts.append((weights.T, acceptance, tuned.length))
        bar.close()
    weights, acceptance, length = (torch.cat(each) for each in zip(*parts, strict=True))
    return AnnealedEstimate(weights.T.contiguous(), acceptance, length, settings)
