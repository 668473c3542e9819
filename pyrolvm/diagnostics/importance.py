r"""Pareto-smoothed importance sampling, one fit a datum, all data at once.

The largest M weights of a datum are replaced by quantiles of a generalised Pareto distribution
fitted to them; its shape k̂ says how heavy the tail of the weights is. A guide whose k̂ exceeds
:func:`khat_threshold` is too narrow for importance sampling to repair at this number of particles.

Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto Smoothed Importance Sampling, JMLR 25;
Yao, Vehtari, Simpson & Gelman (2018), Yes, but Did It Work?: Evaluating Variational Inference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics.log_weights import LogWeights, PerDatum, checked
from pyrolvm.diagnostics.pareto import (
    PRIOR_WEIGHT,
    Tails,
    fit_generalized_pareto,
    generalized_pareto_quantile,
)

SHORTEST_TAIL = 5
"""Exceedances below which no tail is fitted."""

CHUNK_ELEMENTS = 2**21
"""Elements (data × tail × grid) that one fit may fill: 16 MiB in double precision."""


def tail_length(num_particles: int) -> int:
    """Number of weights in the tail, ⌈min(K/5, 3√K)⌉.

    Args:
        num_particles: Number of draws K.

    Returns:
        M, below K for every K > 1.

    Examples:
        >>> [tail_length(size) for size in (25, 100, 1000, 10_000)]
        [5, 20, 95, 300]
    """
    return math.ceil(min(num_particles / 5, 3 * math.sqrt(num_particles)))


def khat_threshold(num_particles: int) -> float:
    """Largest k̂ at which K draws still give a usable importance estimate, min(1 − 1/log₁₀ K, 0.7).

    Args:
        num_particles: Number of draws K, at least 2.

    Returns:
        The threshold; negative for K < 10, when nothing passes.

    Raises:
        SettingError: If K is below 2.

    References:
        Vehtari et al. (2024), Pareto Smoothed Importance Sampling.

    Examples:
        >>> khat_threshold(100), round(khat_threshold(1000), 3), khat_threshold(100_000)
        (0.5, 0.667, 0.7)
    """
    if num_particles < 2:
        raise SettingError(
            f"A threshold for k-hat needs at least 2 particles, but got {num_particles}. Draw "
            "1,000 or so."
        )
    return min(1.0 - 1.0 / math.log10(num_particles), 0.7)


def pareto_khat(log_weights: LogWeights) -> PerDatum:
    r"""Tail shape k̂ of each datum's importance weights.

    Weights that agree to rounding are one value: an exact guide, whose weights all equal p(x), has
    k̂ = −∞. Where the largest weight fills the whole tail but others are smaller (a discrete latent
    variable), the tail is cut at the largest of those: k̂ is then finite and far below 0, as for
    any bounded weight.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``; −∞ where all weights are equal, +∞ where fewer than 5 weights exceed the
        cutoff (always so for K ≤ 20, unless all weights are equal) or every weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.
    """
    return torch.cat([_fit(tails)[0] for _, tails in _tails(log_weights)])


def khat_standard_error(khat: PerDatum, num_particles: int) -> PerDatum:
    """Large-sample standard error of k̂, for the interval to show beside it.

    (1 + k)/√M for the maximum-likelihood shape of M exceedances, times M/(M + 10) for the pull of
    the prior.

    Args:
        khat: From :func:`pareto_khat`, shape ``(N,)``.
        num_particles: Number of draws K that it came from.

    Returns:
        Shape ``(N,)``; 0 where k̂ is −∞, infinite where it is +∞. Below k = −1/2, where the theory
        ends, as at −1/2.

    References:
        Smith (1987), Estimating Tails of Probability Distributions, Annals of Statistics 15(3).
    """
    length = tail_length(num_particles)
    error = (1.0 + khat.clamp(min=-0.5)) * math.sqrt(length) / (length + PRIOR_WEIGHT)
    return torch.where(khat.isneginf(), 0.0, error)


def psis(log_weights: LogWeights) -> tuple[LogWeights, PerDatum]:
    """Pareto-smoothed log weights, normalised over particles, and k̂.

    Where k̂ is infinite, or the largest weights are all equal, nothing is smoothed: the normalised
    weights come back as they were.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Log weights whose exponentials sum to 1 over particles, shape ``(K, N)`` (all −∞ for a
        datum whose weights are all 0), and k̂, shape ``(N,)``.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    Examples:
        >>> smoothed, khat = psis(torch.zeros(4, 1))
        >>> smoothed.exp().flatten().tolist(), khat.item()
        ([0.25, 0.25, 0.25, 0.25], -inf)
    """
    smoothed, khats = [], []
    for rows, tails in _tails(log_weights):
        khat, values = _fit(tails)
        smoothed.append(rows.scatter(1, tails.positions, values))
        khats.append(khat)
    joined = torch.cat(smoothed)
    total = joined.logsumexp(1, keepdim=True)
    normalised = joined - torch.where(total.isneginf(), 0.0, total)
    return normalised.T.contiguous(), torch.cat(khats)


def effective_sample_size(log_weights: LogWeights) -> PerDatum:
    r"""Kish's effective sample size, :math:`(\sum_k w_k)^2 / \sum_k w_k^2`.

    Args:
        log_weights: Log importance weights in nats, shape ``(K, N)``.

    Returns:
        Shape ``(N,)``, in draws, between 1 and K; 0 where every weight is 0.

    Raises:
        DataError: If the weights have another shape, or hold NaN or +inf.

    References:
        Kish (1965), Survey Sampling.

    Examples:
        >>> effective_sample_size(torch.tensor([[0.0, 0.0], [0.0, -torch.inf]]))
        tensor([2., 1.], dtype=torch.float64)
    """
    log_weights = checked(log_weights)
    size = torch.exp(2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0))
    return torch.nan_to_num(size, nan=0.0)


class _Tails(NamedTuple):
    """The M largest log weights of each datum, ascending, shifted so that the largest is 0.

    ``constant`` says that all weights are equal, ``tied`` that the M + 1 largest are.
    """

    log_values: Tails
    positions: Tensor
    log_cutoff: Tensor
    exceeds: Tensor
    constant: Tensor
    tied: Tensor


def _tails(log_weights: LogWeights) -> Iterator[tuple[Tensor, _Tails]]:
    """Shifted log weights, data first, and their tails, a chunk of data at a time."""
    rounding = 8 * torch.finfo(log_weights.dtype).eps if log_weights.is_floating_point() else 0.0
    log_weights = checked(log_weights)
    length = tail_length(log_weights.shape[0])
    chunk = max(1, CHUNK_ELEMENTS // (length * (30 + math.isqrt(length))))
    for part in log_weights.T.split(chunk):
        largest = part.amax(1, keepdim=True)
        magnitude = part.abs().nan_to_num(posinf=0.0).amax(1, keepdim=True)
        rows = part - torch.where(largest.isneginf(), 0.0, largest)
        yield rows, _cut(rows, length, (rounding * magnitude).clamp(min=1e-9))


def _cut(rows: Tensor, length: int, tolerance: Tensor) -> _Tails:
    size = rows.shape[1]
    top, positions = rows.topk(min(length + 1, size), dim=1)
    log_tiny = math.log(torch.finfo(rows.dtype).tiny)
    below = rows.masked_fill(rows >= top[:, :1] - tolerance, -math.inf).amax(1, keepdim=True)
    log_cutoff = torch.minimum(top[:, -1:], below).clamp(min=log_tiny)
    values = top[:, :length].flip(1)
    return _Tails(
        log_values=values,
        positions=positions[:, :length].flip(1),
        log_cutoff=log_cutoff,
        exceeds=values > log_cutoff + tolerance,
        constant=below.isneginf().squeeze(1) & ~rows.isneginf().any(1) & (size > 1),
        tied=top[:, -1:] >= top[:, :1] - tolerance,
    )


def _fit(tails: _Tails) -> tuple[PerDatum, Tails]:
    """k-hat, and the tails' log weights after smoothing."""
    cutoff = tails.log_cutoff.exp()
    counts = tails.exceeds.sum(1)
    exceedances = torch.where(
        tails.exceeds, cutoff * torch.expm1(tails.log_values - tails.log_cutoff), 0.0
    )
    shape, scale = fit_generalized_pareto(exceedances, counts.clamp(min=1))
    fitted = (counts >= SHORTEST_TAIL) & shape.isfinite() & scale.isfinite()
    khat = torch.where(fitted, shape, math.inf).masked_fill(tails.constant, -math.inf)

    width = exceedances.shape[1]
    rank = torch.arange(width, device=cutoff.device) - width + counts[:, None].double()
    levels = ((rank + 0.5) / counts[:, None]).clamp(0.0, 1.0)
    smoothed = cutoff + generalized_pareto_quantile(levels, shape, scale)
    usable = tails.exceeds & khat.isfinite()[:, None] & ~tails.tied
    return khat, torch.where(usable, smoothed.log().clamp(max=0.0), tails.log_values)
