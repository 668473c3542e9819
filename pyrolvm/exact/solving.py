"""Solve for the exact posterior of a piecewise-affine generator."""

from __future__ import annotations

from torch import Tensor

from pyrolvm.exact.expectation import expect
from pyrolvm.exact.folding import fold, observations
from pyrolvm.exact.partition import (
    DEFAULT_BOX,
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
    partition: Partition | None = None,
    box: float = DEFAULT_BOX,
    max_regions: int = DEFAULT_MAX_REGIONS,
) -> PiecewisePosterior:
    r"""Compute p(z | x_n) and log p(x_n) exactly, in float64.

    .. math:: p(x) = \sum_\omega \kappa_\omega(x)
              \int_\omega N(z; \mu_\omega(x), \Sigma_\omega) \, dz

    The sum runs over the regions on which the generator is affine; those 40 nats below the best
    one are left out.

    Args:
        stack: The generator; one or two latent coordinates.
        x: Observations, ``(N, D)``, any dtype and device.
        partition: Regions from an earlier call (``Partition.of(stack)`` or
            ``posterior.partition``) with the same hidden layers and prior.
        box: Half the side of the first box in two dimensions, in prior standard deviations; it
            grows where the data need more.
        max_regions: Most regions allowed.

    Returns:
        The posterior; nothing in it carries a graph.

    Raises:
        LatentDimensionError: If the latent dimension is neither 1 nor 2.
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
    folded = fold(stack)
    values = observations(x, stack.obs_dim)
    if partition is None:
        partition = find_partition(folded, box, max_regions)
    else:
        partition.check(folded)
    return PiecewisePosterior(folded, expect(folded, values, partition), x.device)
