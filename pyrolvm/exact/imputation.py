r"""Exact imputation: what the observed entries of a row say about the missing ones.

.. math:: E[x_m \mid x_o] = \sum_\omega \big( A_\omega \, E[z 1_\omega \mid x_o]
          + b_\omega \, P(\omega \mid x_o) \big)

with A and b the missing rows of the generator's affine map on region omega. The standard deviation
includes the observation noise: it is that of x, not of g(z).

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (moments on regions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pyrolvm.exact.features import output_moments
from pyrolvm.exact.folding import to_numpy
from pyrolvm.exact.missing import solve_observed
from pyrolvm.exact.observed_posterior import ObservedPosterior
from pyrolvm.exact.partition import Partition
from pyrolvm.exact.stack import AffineStack


@dataclass(frozen=True)
class Imputation:
    """The missing entries given the observed ones. Tensors are float64, without a graph.

    Attributes:
        x: The observations, NaN where missing, ``(N, D)``.
        posterior: The latent given the observed entries.
        mean: Observed entries as they are, the mean of missing ones, ``(N, D)``.
        standard_deviation: 0 where observed, that of the missing entry elsewhere, ``(N, D)``.
    """

    x: Tensor = field(repr=False)
    posterior: ObservedPosterior = field(repr=False)
    mean: Tensor = field(repr=False)
    standard_deviation: Tensor = field(repr=False)
    _stack: AffineStack = field(repr=False)

    @property
    def log_evidence(self) -> Tensor:
        """Log density of each row's observed entries in nats, ``(N,)``."""
        return self.posterior.log_evidence

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw the missing entries, jointly for each row, exactly and independently.

        Args:
            num: Draws for each row.
            generator: Source of random numbers; torch's global one by default.

        Returns:
            Completed rows, ``(num, N, D)``; observed entries are the same in all draws.
        """
        z = self.posterior.sample(num, generator)
        device = z.device if generator is None else generator.device
        noise = torch.randn(num, *self.x.shape, generator=generator, dtype=z.dtype, device=device)
        drawn = self._stack.forward(z) + self._stack.noise_scale * noise.to(z.device)
        return torch.where(self.x.isnan(), drawn, self.x)


def impute(
    stack: AffineStack, x: Tensor, *, partition: Partition | Sequence[Partition] | None = None
) -> Imputation:
    """Impute missing entries exactly.

    Args:
        stack: The generator.
        x: Observations, ``(N, D)``; an entry to impute is NaN.
        partition: See :func:`~pyrolvm.exact.solve`.

    Returns:
        Means, standard deviations and draws of the missing entries.

    Raises:
        ObservationError: As :func:`~pyrolvm.exact.solve_observed`.
    """
    return impute_from(stack, x, solve_observed(stack, x, partition=partition))


def impute_from(stack: AffineStack, x: Tensor, posterior: ObservedPosterior) -> Imputation:
    """As :func:`impute`, from the latent's posterior given the observed entries of x."""
    weight, bias = to_numpy(stack.weights[-1]), to_numpy(stack.biases[-1])
    variance = to_numpy(stack.noise_scale) ** 2
    mean = to_numpy(x).copy()
    deviation = np.zeros_like(mean)
    for pattern, part in zip(posterior.patterns, posterior.parts, strict=True):
        gone = ~pattern.seen.cpu().numpy()
        if not gone.any():
            continue
        where = np.ix_(pattern.rows.cpu().numpy(), gone)
        mean[where], found = output_moments(part, weight[gone], bias[gone])
        deviation[where] = np.sqrt(found + variance[gone])
    first, second = (torch.from_numpy(values).to(x.device) for values in (mean, deviation))
    return Imputation(
        x.detach().double().clone(), posterior, first, second, _frozen(stack, x.device)
    )


def _frozen(stack: AffineStack, device: torch.device) -> AffineStack:
    """A copy of layers and noise in double precision, which later training does not change."""

    def copy(value: Tensor) -> Tensor:
        return value.detach().to(device, torch.float64, copy=True)

    return AffineStack(
        tuple(map(copy, stack.weights)),
        tuple(map(copy, stack.biases)),
        stack.slopes,
        copy(stack.noise_scale),
        copy(stack.prior_loc),
        copy(stack.prior_scale_tril),
        None if stack.prior_logits is None else copy(stack.prior_logits),
    )
