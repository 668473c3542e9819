r"""Missing observations, integrated out exactly.

.. math:: p(x_o) = \int p(z) \, N(x_o; g_o(z), \operatorname{diag}(\sigma_o^2)) \, dz

where o are the coordinates that were observed: the generator without the other rows of its last
layer. The regions do not depend on that layer, so that one partition serves all patterns of
missing entries. Entries are taken to be missing at random.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (the integrals).
    Little & Rubin (2002), Statistical Analysis with Missing Data (what may be left out, and when).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pyrolvm.exact.errors import ObservationError
from pyrolvm.exact.gradient import log_evidence
from pyrolvm.exact.observed_posterior import ObservedPosterior, Part, Pattern
from pyrolvm.exact.partition import Partition
from pyrolvm.exact.solving import solve
from pyrolvm.exact.stack import AffineStack


def find_patterns(x: Tensor, obs_dim: int) -> tuple[Pattern, ...]:
    """Group rows by which of their entries are missing.

    Args:
        x: Observations, ``(N, D)``; a missing entry is NaN.
        obs_dim: D.

    Returns:
        Patterns that cover all rows, each row once.

    Raises:
        ObservationError: If the shape is wrong, or all entries of a row are missing.
    """
    if x.ndim != 2 or x.shape[1] != obs_dim:
        raise ObservationError(
            f"The generator needs observations of shape (N, {obs_dim}), but got {tuple(x.shape)}."
        )
    seen = ~x.detach().isnan()
    empty = torch.nonzero(~seen.any(1))[:, 0].tolist()
    if empty:
        named = ", ".join(map(str, empty[:8])) + (", ..." if len(empty) > 8 else "")
        raise ObservationError(
            "Rows with missing entries need at least one that was observed, but all are missing "
            f"in {len(empty)} of {len(x)} rows ({named}). Remove those rows."
        )
    if len(x) == 0:
        return (Pattern(seen.new_ones(obs_dim), torch.zeros(0, dtype=torch.long)),)
    kinds, kind = torch.unique(seen, dim=0, return_inverse=True)
    order = kind.argsort(stable=True)
    rows = order.split(torch.bincount(kind, minlength=len(kinds)).tolist())
    return tuple(Pattern(one, group) for one, group in zip(kinds, rows, strict=True))


def solve_observed(
    stack: AffineStack, x: Tensor, *, partition: Partition | Sequence[Partition] | None = None
) -> ObservedPosterior:
    """Compute p(z | observed entries) and their log density exactly.

    Args:
        stack: The generator.
        x: Observations, ``(N, D)``; entries that are NaN are integrated out.
        partition: See :func:`~pyrolvm.exact.solve`.

    Returns:
        The posterior of every row; nothing in it carries a graph.

    Raises:
        ObservationError: If the shape is wrong, a row is empty, or an entry is infinite; further
            errors as in :func:`~pyrolvm.exact.solve`.
    """
    patterns = find_patterns(x, stack.obs_dim)
    return ObservedPosterior(patterns, tuple(_solve_each(stack, x, patterns, partition)))


def log_evidence_observed(
    stack: AffineStack, x: Tensor, *, partition: Partition | Sequence[Partition] | None = None
) -> Tensor:
    """Exact log density of the observed entries, differentiable once.

    Args:
        stack: The generator.
        x: Observations, ``(N, D)``; entries that are NaN are integrated out, and have gradient 0.
        partition: See :func:`~pyrolvm.exact.solve`.

    Returns:
        Log density of each row's observed entries in nats, float64, ``(N,)``.

    Raises:
        ObservationError: As :func:`solve_observed`.
    """
    patterns = find_patterns(x, stack.obs_dim)
    order = torch.cat([pattern.rows for pattern in patterns]).argsort()
    if not torch.is_grad_enabled():
        # no more than one posterior is held at a time
        solved = _solve_each(stack, x, patterns, partition)
        return torch.cat([part.log_evidence for part in solved])[order]
    if partition is None:
        partition = tuple(Partition.of(component) for component in stack.components())
    found = [
        log_evidence(stack.observe(pattern.seen), _observed(x, pattern), partition=partition)
        for pattern in patterns
    ]
    return torch.cat(found)[order]


def _solve_each(
    stack: AffineStack,
    x: Tensor,
    patterns: Sequence[Pattern],
    partition: Partition | Sequence[Partition] | None,
) -> Iterator[Part]:
    """Solve pattern by pattern; regions that one had to look for farther out serve the next."""
    for pattern in patterns:
        part = solve(stack.observe(pattern.seen), _observed(x, pattern), partition=partition)
        partition = part.partition
        yield part


def _observed(x: Tensor, pattern: Pattern) -> Tensor:
    return x[pattern.rows][:, pattern.seen]
