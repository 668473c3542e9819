r"""What can be asked of any posterior with one latent: probabilities, quantiles, intervals.

A mixture of posteriors mixes their distribution functions; its quantiles lie between those of its
components, and are found there.

.. math:: P(Z \le t \mid x) = \sum_k r_k(x) \, P_k(Z \le t \mid x)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from pyrolvm.exact.errors import ProbabilityError


class LineQueries(ABC):
    """Questions about one latent, for posteriors of N data that know their two tails."""

    @property
    @abstractmethod
    def log_evidence(self) -> Tensor:
        """Log p(x_n) in nats, ``(N,)``."""

    @abstractmethod
    def log_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log P(Z <= z | x_n) and log P(Z > z | x_n) for one latent.

        Args:
            z: Points, ``(..., N)``; infinite ones are allowed.

        Returns:
            Two tensors ``(..., N)``, in nats; each is accurate relative to the probability.

        Raises:
            LatentDimensionError: If there are more latents.
            ObservationError: If the last dimension is not N, or a point is NaN.
        """

    @abstractmethod
    def icdf(self, probability: Tensor) -> Tensor:
        """Points of one latent with given probabilities below them.

        Args:
            probability: One for each datum, from 0 to 1, ``(..., N)``.

        Returns:
            Points z with P(Z <= z | x_n) = probability, ``(..., N)``.

        Raises:
            LatentDimensionError: If there are more latents.
            ObservationError: If the last dimension is not N.
            ProbabilityError: If a probability is not between 0 and 1.
        """

    def cdf(self, z: Tensor) -> Tensor:
        """P(Z <= z | x_n) for one latent, ``(..., N)``; see :meth:`log_tails`."""
        below, above = self.log_tails(z)
        return torch.where(below < above, below.exp(), -above.expm1())

    def quantile(self, q: float | Tensor) -> Tensor:
        """Quantiles of one latent, the same for all data.

        Args:
            q: Probability below, a number or ``(Q,)``.

        Returns:
            Shape ``(N,)``, or ``(Q, N)``; errors as :meth:`icdf`.
        """
        probability = torch.as_tensor(q, dtype=torch.float64, device=self.log_evidence.device)
        return self.icdf(probability[..., None].expand(*probability.shape, len(self.log_evidence)))

    def interval(self, mass: float) -> Tensor:
        """Central intervals of one latent with equal tails.

        Args:
            mass: Probability inside, strictly between 0 and 1.

        Returns:
            Lower and upper ends, ``(N, 2)``; errors as :meth:`icdf`.
        """
        check_mass(mass)
        tail = 0.5 * (1 - mass)
        return self.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).T


def check_mass(mass: float) -> None:
    """Refuse a probability that is not strictly between 0 and 1.

    Raises:
        ProbabilityError: With the value.
    """
    if not 0 < mass < 1:
        raise ProbabilityError(
            f"An interval needs a mass strictly between 0 and 1, but got {mass:g}."
        )


def mix_tails(
    parts: Sequence[LineQueries], responsibilities: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Log tails of a mixture, with responsibilities ``(N, K)``."""
    log_share = responsibilities.log().to(z.device).T
    below, above = zip(*(part.log_tails(z) for part in parts), strict=True)
    found = [
        torch.stack([tail + share for tail, share in zip(tails, log_share, strict=True)])
        for tails in (below, above)
    ]
    return found[0].logsumexp(0), found[1].logsumexp(0)


def mix_icdf(
    parts: Sequence[LineQueries], responsibilities: Tensor, probability: Tensor
) -> Tensor:
    """Quantiles of a mixture by Newton steps on its nearer log tail, within a bracket."""
    each = torch.stack([part.icdf(probability) for part in parts])
    low, high = each.amin(0), each.amax(0)
    left = probability <= 0.5
    target = torch.where(left, probability.log(), (-probability).log1p())
    # infinite quantiles are common to all components
    point = torch.where(low.isfinite() & high.isfinite(), 0.5 * (low + high), low)
    for _ in range(100):
        below, above = mix_tails(parts, responsibilities, point)
        tail = torch.where(left, below, above)
        error = torch.where(left, tail - target, target - tail).nan_to_num()
        low, high = torch.where(error < 0, point, low), torch.where(error > 0, point, high)
        step = point - error / (_mix_log_density(parts, responsibilities, point) - tail).exp()
        good = (step > low) & (step < high)
        new = torch.where(good, step, torch.where(error == 0, point, 0.5 * (low + high)))
        new = torch.where(point.isinf(), point, new)
        if (new.sub(point).nan_to_num().abs() <= 4e-16 * point.abs()).all():
            return new
        point = new
    return point


def _mix_log_density(parts: Sequence[LineQueries], responsibilities: Tensor, z: Tensor) -> Tensor:
    finite = z.nan_to_num(posinf=0.0, neginf=0.0)[..., None]
    each = torch.stack([part.log_prob(finite) for part in parts], -1)  # type: ignore[attr-defined]
    return (each + responsibilities.log().to(each.device)).logsumexp(-1)
