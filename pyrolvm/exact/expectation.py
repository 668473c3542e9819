r"""E-step: which regions explain each datum, how probable they are, and their moments.

No table of data times regions is made: each thread holds one row of bounds, and only the pairs
that matter are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from pyrolvm.exact.errors import BoxError
from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.geometry import RegionGeometry, whiten
from pyrolvm.exact.kernels import integrator
from pyrolvm.exact.partition import Partition, find_partition
from pyrolvm.exact.threads import run_in_threads

# Regions that lie this many nats below the best one are left out, by latent dimension: e^-40 is
# 4e-18. Above two, where there are more of them and each costs more, all that is left out of ten
# thousand regions stays below 3e-12 of p(x), and from four on far below the error of integrals.
KEEP = {1: 40.0, 2: 40.0, 3: 36.0, 4: 27.0, 5: 27.0}
# The box is grown until the mass outside is below this fraction of p(x), by latent dimension. A
# larger box costs time, and in 4 and 5 dimensions the integrals themselves err by about 1e-4.
LOST_MASS = {1: 1e-13, 2: 1e-13, 3: 1e-10, 4: 1e-8, 5: 1e-8}
MAX_CHUNK = 1024
# Data whose evidence decides, before all are solved, whether the box must grow.
PILOTS = 4


@dataclass(frozen=True)
class Expectation:
    """Sums over regions, in whitened coordinates; pairs (datum, region) in row-sparse form.

    Attributes:
        partition: Regions, maybe in a larger box than asked for.
        geometry: Their affine maps.
        reduced: Reduced data, ``(N, D')``.
        constant: Log density of what was reduced away, ``(N,)``.
        log_evidence: Log p(x) less the constant, ``(N,)``.
        energy: Posterior mean of -(|y - f(u)|^2 + |u|^2)/2, ``(N,)``.
        error: Standard error of the log evidence from numerical integration, in nats, ``(N,)``;
            0 up to three latent coordinates, where the integrals are exact.
        lost_mass: Bound on the mass outside the box over p(x), ``(N,)``.
        offsets: Pairs of datum n are ``offsets[n]:offsets[n + 1]``, ``(N + 1,)``.
        region: Region of each pair.
        probability: Its posterior probability.
        mean: Mean of u - c on the region, ``(pairs, S)``.
        covariance: Covariance of u on the region, ``(pairs, S, S)``.
    """

    partition: Partition
    geometry: RegionGeometry
    reduced: Array
    constant: Array
    log_evidence: Array
    energy: Array
    error: Array
    lost_mass: Array
    offsets: NDArray[np.int64]
    region: NDArray[np.int32]
    probability: Array
    mean: Array
    covariance: Array

    @property
    def datum(self) -> NDArray[np.int64]:
        """Datum of each pair."""
        return np.repeat(np.arange(len(self.log_evidence)), np.diff(self.offsets))

    def moments(self) -> tuple[Array, Array]:
        """Posterior mean ``(N, S)`` and covariance ``(N, S, S)`` of u."""
        datum, size = self.datum, len(self.log_evidence)
        point = self.geometry.anchors[self.region] + self.mean
        weight = self.probability

        def total(values: Array) -> Array:
            flat = values.reshape(len(datum), int(np.prod(values.shape[1:])))
            sums = [np.bincount(datum, weight * flat[:, i], size) for i in range(flat.shape[1])]
            return np.stack(sums, 1)

        mean = total(point)
        rest = point - mean[datum]
        spread = self.covariance + rest[:, :, None] * rest[:, None, :]
        dim = mean.shape[1]
        return mean, total(spread).reshape(size, dim, dim)


def expect(folded: FoldedGenerator, x: Array, partition: Partition) -> Expectation:
    """Run the E-step, in a larger box if the data need one.

    Args:
        folded: The generator.
        x: Observations, ``(N, D)``.
        partition: Its regions.

    Returns:
        Evidence, region probabilities and moments.

    Raises:
        BoxError: If no box holds the posterior of the data, or it is too far out to resolve.
    """
    reduced, constant = folded.reduce(x)
    for _ in range(7):
        geometry = whiten(folded, partition)
        pilots = _pilots(geometry, partition, reduced)
        if len(pilots):
            found = _solve(geometry, partition, reduced[pilots], x)
            lost = _lost_mass(partition, found[0])
        if not len(pilots) or lost.max() <= LOST_MASS[partition.latent_dim]:
            found = _solve(geometry, partition, reduced, x)
            lost = _lost_mass(partition, found[0])
            if len(x) == 0 or lost.max() <= LOST_MASS[partition.latent_dim]:
                return _pack(partition, geometry, reduced, constant, lost, found)
        lowest = float(np.nan_to_num(found[0], nan=-np.inf).min())
        partition = find_partition(folded, _larger_box(partition, lowest), partition.max_regions)
    raise BoxError(
        f"No box up to {partition.box:.3g} prior standard deviations holds the posterior: the "
        f"farthest datum has log evidence {lowest:.4g} nats. Rescale the data or the noise."
    )


def _solve(
    geometry: RegionGeometry, partition: Partition, reduced: Array, x: Array
) -> tuple[Array, ...]:
    try:
        found = _all_chunks(geometry, partition, reduced)
    except ZeroDivisionError as error:
        raise _unresolved(x) from error
    if np.isposinf(found[0]).any():
        raise _unresolved(x)
    return found


def _pilots(geometry: RegionGeometry, partition: Partition, reduced: Array) -> NDArray[np.int64]:
    """Data far from f at every anchor; none for one and two latents, where an E-step is cheap."""
    if partition.latent_dim < 3 or len(reduced) <= 2 * PILOTS:
        return np.zeros(0, dtype=np.int64)
    nearest = np.empty(len(reduced))
    chunk = max(1, 2**22 // partition.num_regions)
    for begin in range(0, len(reduced), chunk):
        rows = reduced[begin : begin + chunk]
        joint = geometry.square - 2 * rows @ geometry.values.T
        nearest[begin : begin + chunk] = joint.min(1) + (rows**2).sum(1)
    return np.argsort(nearest)[-PILOTS:]


def _larger_box(partition: Partition, lowest: float) -> float:
    """Half the side that holds a datum of log evidence ``lowest``, with a margin."""
    bound = -log(LOST_MASS[partition.latent_dim]) + 4 + max(-lowest, 0.0)
    wanted = float(np.sqrt(2 * bound)) if np.isfinite(bound) else partition.box**2
    # in the plane a cell costs little, and a second time around costs more
    least = 1.5 if partition.latent_dim == 2 else 1.05
    return max(1.01 * wanted, least * partition.box)


def _unresolved(x: Array) -> BoxError:
    return BoxError(
        "Double precision cannot resolve the posterior of data that reach "
        f"{np.abs(x).max():.3g}. Rescale the data or the noise."
    )


def _lost_mass(partition: Partition, log_evidence: Array) -> Array:
    if partition.latent_dim == 1:
        return np.zeros(len(log_evidence))
    outside = log(2.0 * partition.latent_dim) + float(log_ndtr(-partition.box))
    with np.errstate(over="ignore"):
        return np.exp(np.minimum(outside - np.nan_to_num(log_evidence, nan=-np.inf), 700.0))


def _all_chunks(
    geometry: RegionGeometry, partition: Partition, reduced: Array
) -> tuple[Array, ...]:
    kernel, arrays = integrator(geometry, partition)
    largest = float(np.sqrt(geometry.square.max()))

    def run(begin: int, end: int) -> tuple[Array, ...]:
        y = reduced[begin:end]
        slack = 1e-14 + 4e-15 * (np.sqrt((y**2).sum(1)) + largest) ** 2
        found = kernel(y, slack, KEEP[partition.latent_dim], *arrays)
        return found if len(found) == 6 else (*found, np.zeros(end - begin))

    smallest = 8 if partition.latent_dim <= 2 else 1
    found = run_in_threads(run, len(reduced), smallest, MAX_CHUNK)
    return tuple(np.concatenate(column) for column in zip(*found, strict=True))


def _pack(
    partition: Partition,
    geometry: RegionGeometry,
    reduced: Array,
    constant: Array,
    lost: Array,
    found: tuple[Array, ...],
) -> Expectation:
    log_evidence, energy, counts, region, rows, error = found
    dim = partition.latent_dim
    place = np.zeros((dim, dim), dtype=np.int64)
    place[np.triu_indices(dim)] = np.arange(dim * (dim + 1) // 2)
    spread = rows[:, 1 + dim :][:, np.maximum(place, place.T).ravel()]
    return Expectation(
        partition=partition,
        geometry=geometry,
        reduced=reduced,
        constant=constant,
        log_evidence=log_evidence,
        energy=energy,
        error=error,
        lost_mass=lost,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        region=region.astype(np.int32, copy=False),
        probability=np.ascontiguousarray(rows[:, 0]),
        mean=np.ascontiguousarray(rows[:, 1 : 1 + dim]),
        covariance=spread.reshape(-1, dim, dim),
    )
