r"""Sums over a guide's draws for each row of a large data set, without keeping the draws.

With :math:`w_k = p(x, z_k) / q(z_k \mid x)`, all that is asked of the weights of a row follows
from four sums, which grow draw by draw:

.. math:: \sum_k \log w_k, \quad \log \sum_k \sqrt{w_k}, \quad \log \sum_k w_k, \quad
          \log \sum_k w_k^2

Layers of zeros and ones run in single precision, straight through their affine maps: a pass over
26,000 rows with 1,000 draws each takes minutes on one core. :func:`rounding_error` says what the
precision costs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import evaluating
from pyrolvm.core.randomness import own_randomness

CPU_ELEMENTS, GPU_ELEMENTS = 2**20, 2**27
"""Units of the widest layer that run at once."""
MOST_ROWS = 100
"""Rows that run together; the rest of the room is for their draws."""


@dataclass(frozen=True)
class ParticleSums:
    """What K draws for each row come to.

    Args:
        num_particles: Number of draws K.
        log_weight: Mean of log w, in nats, shape ``(N,)``, float64 like all others.
        log_roots: Log of the sum of the roots of w.
        log_total: Log of the sum of w.
        log_squares: Log of the sum of the squares of w.
    """

    num_particles: int
    log_weight: Float[Tensor, " data"]
    log_roots: Float[Tensor, " data"]
    log_total: Float[Tensor, " data"]
    log_squares: Float[Tensor, " data"]

    @property
    def log_evidence(self) -> Float[Tensor, " data"]:
        """Importance-weighted bound on log p(x), nats."""
        return self.log_total - math.log(self.num_particles)

    @property
    def log_bound(self) -> Float[Tensor, " data"]:
        """Estimate of log p~*(x), nats; too low by O(1/K) on average."""
        return 2 * (self.log_roots - math.log(self.num_particles))

    @property
    def root_ess(self) -> Float[Tensor, " data"]:
        """Effective share of the draws under the weights √w: estimates BC², from above."""
        return torch.exp(2 * self.log_roots - self.log_total) / self.num_particles

    @property
    def ess(self) -> Float[Tensor, " data"]:
        """Effective share of the draws under the weights w."""
        return torch.exp(2 * self.log_total - self.log_squares) / self.num_particles


def particle_sums(
    model: Any,
    guide: Any,
    x: Float[Tensor, "data obs_dim"],
    num_particles: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    progress: bool | str = False,
) -> ParticleSums:
    """Draw from a guide for each row, and sum up the weights.

    Args:
        model: A module that offers :class:`pyrolvm.core.BinaryLayers`.
        guide: A module that offers :class:`pyrolvm.core.BinaryRecognition`, on the same device.
        x: Zeros and ones.
        num_particles: Draws K for each row.
        seed: Of the draws.
        dtype: Precision of the passes through the layers; sums are in float64.
        progress: Whether to show a bar; a text names it.

    Returns:
        The sums, on the CPU.
    """
    device = next(guide.parameters()).device
    widest = max(*model.layer_dims.values(), model.obs_dim)
    room = max(1, (GPU_ELEMENTS if device.type == "cuda" else CPU_ELEMENTS) // widest)
    label = progress if isinstance(progress, str) else "score"
    bar = tqdm(total=len(x), desc=label, unit="row", disable=not progress, mininterval=1.0)
    found = []
    with bar, evaluating(model, guide, dtype=dtype), own_randomness(seed):
        for rows in x.split(min(MOST_ROWS, room)):
            part = rows.to(device, dtype)
            chunks = _chunks(num_particles, max(1, room // len(rows)))
            found.append(_sums(model, guide, part, chunks).cpu())
            bar.update(len(rows))
    return ParticleSums(num_particles, *torch.cat(found, 1))


def rounding_error(
    model: Any,
    guide: Any,
    x: Float[Tensor, "data obs_dim"],
    num_particles: int = 100,
    seed: int = 0,
) -> float:
    """Return how far single precision puts log p(x) or log p~*(x) of a row off, at most, in nats.

    The same draws are scored in both precisions.
    """
    device = next(guide.parameters()).device
    with evaluating(model, guide, dtype=torch.float32), own_randomness(seed):
        values, log_guide = drawn(model, guide, x.to(device).float(), num_particles)
        single = (log_joint(model, x.to(device).float(), values) - log_guide).double()
    with evaluating(model, guide):
        rows, values = x.to(device).double(), {name: z.double() for name, z in values.items()}
        double = log_joint(model, rows, values) - log_recognition(model, guide, rows, values)
    off = [
        (single * power).logsumexp(0) / power - (double * power).logsumexp(0) / power
        for power in (1.0, 0.5)
    ]
    return torch.stack(off).abs().max().item()


def drawn(
    model: Any, guide: Any, x: Tensor, num_particles: int
) -> tuple[dict[str, Tensor], Float[Tensor, "particle data"]]:
    """Draw K values of each layer for each row, with their log q(z | x) in nats."""
    values: dict[str, Tensor] = {}
    total, below = x.new_zeros(()), x
    for site in reversed(model.latent_sites):
        logits = guide.layer_logits(site, below)
        if below is x:
            logits = logits.expand(num_particles, *logits.shape)
        below = values[site] = (torch.rand_like(logits) < logits.sigmoid()).to(x.dtype)
        total = total + log_units(logits, below)
    return values, total


def log_recognition(
    model: Any, guide: Any, x: Tensor, values: Mapping[str, Tensor]
) -> Float[Tensor, "particle data"]:
    """Return log q(z | x) of given values, in nats."""
    total, below = x.new_zeros(()), x
    for site in reversed(model.latent_sites):
        total = total + log_units(guide.layer_logits(site, below), values[site])
        below = values[site]
    return total


def log_joint(
    model: Any, x: Tensor, values: Mapping[str, Tensor]
) -> Float[Tensor, "particle data"]:
    """Return log p(x, z) of given values, in nats."""
    total, above = x.new_zeros(()), None
    for site in model.latent_sites:
        total = total + log_units(model.layer_logits(site, above), values[site])
        above = values[site]
    return total + log_units(model.layer_logits("x", above), x)


def log_units(logits: Tensor, value: Tensor) -> Tensor:
    """Log probability of a layer of independent units with these log odds, nats."""
    return (value * logits).sum(-1) - softplus(logits).sum(-1)


def _sums(model: Any, guide: Any, x: Tensor, chunks: Iterator[int]) -> Float[Tensor, "4 data"]:
    means, logs = x.new_zeros(len(x), dtype=torch.float64), None
    size = 0
    for count in chunks:
        values, log_guide = drawn(model, guide, x, count)
        log_weights = (log_joint(model, x, values) - log_guide).double()
        means, size = means + log_weights.sum(0), size + count
        own = torch.stack([(power * log_weights).logsumexp(0) for power in (0.5, 1.0, 2.0)])
        logs = own if logs is None else torch.logaddexp(logs, own)
    assert logs is not None
    return torch.cat([means[None] / size, logs])


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
