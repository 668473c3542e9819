r"""Exact evidence, coupled bound, overlap and normaliser of small nets of binary units.

.. math:: p(x) = \sum_h p(x \mid h) \, p(h), \qquad
          \tilde p^*(x) = \Big( \sum_h \sqrt{p(x \mid h) \, q(h \mid x)} \, e^{m^*(h)} \Big)^2,
          \qquad Z^2 = \sum_x \tilde p^*(x)

with h the layer next to x and :math:`m^*` half of the log weight of all that lies above it
(:mod:`pyrolvm.exact.binary.messages`). Nothing is sampled, and x is enumerated for Z alone.

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import EvidenceError
from pyrolvm.exact.binary.states import all_states, log_normaliser, log_probabilities
from pyrolvm.exact.errors import ObservationError

CHUNK_CELLS = 2**22
"""Data times states that are held at once; 32 MiB in double precision."""

MOST_CELLS = 2**30
"""States of x times states of the lowest layer over which Z is summed."""


@dataclass(frozen=True)
class Coupling:
    r"""What the geometric mean of model and guide needs beside the likelihood.

    Args:
        log_weight: The message :math:`m^*` at each state of the lowest layer, shape ``(S,)``.
        log_guide: From observations ``(N, obs_dim)`` to log q of each of these states, ``(N, S)``.
    """

    log_weight: Tensor
    log_guide: Callable[[Tensor], Tensor]


class LayerSums:
    """Sums over all latent states of a net whose lowest layer has S of them.

    Differentiable in what it is made of, as long as its makers keep their graphs.

    Args:
        likelihood_logits: Log odds of x at each state of the lowest layer, shape
            ``(S, obs_dim)``.
        log_prior: Log marginal of each of these states, shape ``(S,)``.
        coupling: The guide's part; None where only the evidence is wanted.

    Attributes:
        obs_dim: Width of x.
        num_states: States S that are summed over for each datum.
    """

    def __init__(
        self, likelihood_logits: Tensor, log_prior: Tensor, coupling: Coupling | None = None
    ) -> None:
        self._logits, self._log_prior, self._coupling = likelihood_logits, log_prior, coupling
        self._log_normaliser = log_normaliser(likelihood_logits)
        self.obs_dim: int = likelihood_logits.shape[1]
        self.num_states: int = len(log_prior)

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Log p(x), exact.

        Args:
            x: Zeros and ones, shape ``(N, obs_dim)``.

        Returns:
            Nats, shape ``(N,)``.

        Raises:
            ObservationError: If x has another shape, or other values.
        """
        parts = self._parts(x)
        return torch.cat(
            [(self._log_likelihood(p) + self._log_prior).logsumexp(-1) for p in parts]
        )

    def log_bound(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        r"""Log :math:`\tilde p^*(x)`, the limit of the coupled bound for many particles.

        Args:
            x: Zeros and ones, shape ``(N, obs_dim)``.

        Returns:
            Nats, shape ``(N,)``; at most log p(x).

        Raises:
            EvidenceError: If these sums were made without a guide.
            ObservationError: If x has another shape, or other values.
        """
        coupling = self._guide("log_bound")
        halves = [
            ((self._log_likelihood(part) + coupling.log_guide(part)) / 2 + coupling.log_weight)
            .logsumexp(-1)
            for part in self._parts(x)
        ]  # fmt: skip
        return 2 * torch.cat(halves)

    def overlap(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Squared Bhattacharyya coefficient of guide and posterior, p~*(x) / p(x).

        Args:
            x: Zeros and ones, shape ``(N, obs_dim)``.

        Returns:
            Shape ``(N,)``, between 0 and 1.

        Raises:
            EvidenceError: If these sums were made without a guide.
            ObservationError: If x has another shape, or other values.
        """
        return (self.log_bound(x) - self.log_evidence(x)).exp().clamp_max(1.0)

    @property
    def can_sum_observations(self) -> bool:
        """Whether x has so few states that Z can be summed."""
        return 2**self.obs_dim * self.num_states <= MOST_CELLS

    @cached_property
    def log_z2(self) -> float:
        """Log Z², summed over every x, in nats.

        Raises:
            EvidenceError: If these sums were made without a guide, or x has too many states.
        """
        self._guide("log_z2")
        if not self.can_sum_observations:
            raise EvidenceError(
                f"log_z2 sums over every x, but x has 2^{self.obs_dim} states and the lowest "
                f"layer {self.num_states}, more than {MOST_CELLS} together. Estimate it by "
                'sampling: PStar(model, guide).log_z2(method="sampled").'
            )
        size, logits = self._rows_at_once, self._logits
        with torch.no_grad():
            sums = [
                self.log_bound(
                    all_states(
                        self.obs_dim, logits.dtype, logits.device, start=start, stop=start + size
                    )
                ).logsumexp(-1)
                for start in range(0, 2**self.obs_dim, size)
            ]
        return torch.stack(sums).logsumexp(-1).item()

    def _log_likelihood(self, x: Tensor) -> Tensor:
        """Log p(x | h) of each datum at each state, ``(N, S)``."""
        return x @ self._logits.mT - self._log_normaliser

    @property
    def _rows_at_once(self) -> int:
        return max(1, CHUNK_CELLS // self.num_states)

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        if x.dim() != 2 or x.shape[1] != self.obs_dim or not len(x):
            raise ObservationError(
                f"Sums over binary layers need observations of shape (N, {self.obs_dim}), at "
                f"least one, but got {tuple(x.shape)}. Put one observation in a row."
            )
        if bool(((x != 0) & (x != 1)).any()):
            raise ObservationError(
                "Sums over binary layers need data of zeros and ones, but got other values. "
                "Binarise them, for example (x > threshold).float()."
            )
        x = x.to(self._logits)
        yield from x.split(self._rows_at_once)

    def _guide(self, what: str) -> Coupling:
        if self._coupling is None:
            raise EvidenceError(
                f"{what} couples a model with a guide, but these sums were made of a model alone. "
                "Make them with both: layer_sums(model, guide)."
            )
        return self._coupling


def recognition(up: Callable[[Tensor], Tensor], width: int) -> Callable[[Tensor], Tensor]:
    """Return log q(h | x) at all states of the lowest layer, as a function of x.

    Args:
        up: From x, ``(N, obs_dim)``, to the log odds of the layer, ``(N, n)``.
        width: Its number of units n.
    """

    def log_guide(x: Tensor) -> Tensor:
        logits = up(x)
        return log_probabilities(logits, all_states(width, logits.dtype, logits.device))

    return log_guide
