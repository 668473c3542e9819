"""Solve for the exact posterior of a piecewise-affine generator."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from pyrolvm.exact.errors import PartitionMismatchError
from pyrolvm.exact.expectation import expect
from pyrolvm.exact.folding import fold, observations
from pyrolvm.exact.mixture_posterior import MixturePosterior
from pyrolvm.exact.partition import (
    DEFAULT_MAX_REGIONS,
    Partition,
    find_partition,
)
from pyrolvm.exact.posterior import PiecewisePosterior
from pyrolvm.exact.stack import AffineStack


def solve(
    stack: AffineStack,
    x: Tensor,
    *,
    partition: Partition | Sequence[Partition] | None = None,
    box: float | None = None,
    max_regions: int = DEFAULT_MAX_REGIONS,
) -> PiecewisePosterior | MixturePosterior:
    r"""Compute p(z | x_n) and log p(x_n) exactly, in float64.

    .. math:: p(x) = \sum_\omega \kappa_\omega(x)
              \int_\omega N(z; \mu_\omega(x), \Sigma_\omega) \, dz

    The sum runs over the regions on which the generator is affine; those 40 nats below the best
    one are left out.

    Args:
        stack: The generator; one to five latent coordinates.
        x: Observations, ``(N, D)``, any dtype and device.
        partition: Regions from an earlier call (``Partition.of(stack)`` or
            ``posterior.partition``) with the same hidden layers and prior; one for each component
            of a mixture.
        box: Half the side of the first box in two and more dimensions, in prior standard
            deviations; by default 16 in two and 8 in more. It grows where the data need more.
        max_regions: Most regions allowed.

    Returns:
        The posterior; nothing in it carries a graph.

    Raises:
        LatentDimensionError: If there are more than 5 latent coordinates.
        ObservationError: If x has the wrong shape or is not finite.
        GeneratorError: If a parameter is not finite or a scale not positive.
        RegionLimitError: If there are more regions than allowed.
        PartitionMismatchError: If the partition belongs to another generator.
        BoxError: If no box holds the posterior.

    References:
        Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
        Expectation-Maximization for Deep Generative Networks (the integrals are our own).

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(1, 3))
        >>> solve(AffineStack.from_sequential(net, 0.1), torch.zeros(4, 3)).mean.shape
        torch.Size([4, 1])
    """
    components = stack.components()
    partitions = one_each(partition, len(components))
    parts = tuple(
        solve_one(component, x, found, box, max_regions)
        for component, found in zip(components, partitions, strict=True)
    )
    if stack.prior_logits is None:
        return parts[0]
    return MixturePosterior(parts, stack.prior_logits.detach().double().log_softmax(0))


def one_each(
    partition: Partition | Sequence[Partition] | None, size: int
) -> Sequence[Partition | None]:
    """One partition, if known, for each component of the prior.

    Raises:
        PartitionMismatchError: If there are more or fewer.
    """
    if partition is None:
        return [None] * size
    found = (partition,) if isinstance(partition, Partition) else partition
    if len(found) != size:
        raise PartitionMismatchError(
            f"solve needs a partition for each of {size} components of the prior, but got "
            f"{len(found)}. Hand over posterior.partition of the same generator."
        )
    return found


def solve_one(
    stack: AffineStack, x: Tensor, partition: Partition | None, box: float | None, max_regions: int
) -> PiecewisePosterior:
    """Solve under a single Gaussian prior; see :func:`solve`."""
    folded = fold(stack)
    values = observations(x, stack.obs_dim)
    if partition is None:
        partition = find_partition(folded, box, max_regions)
    else:
        partition.check(folded)
    return PiecewisePosterior(folded, expect(folded, values, partition), x.device)
