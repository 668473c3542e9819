"""What a calibration found: ranks, tests, shapes, coverage; as findings, data set and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from pyrolvm.diagnostics.calibration import (
    RankShape,
    UniformityTest,
    chi_squared_p_value,
    rank_shape,
)
from pyrolvm.diagnostics.calibration.histogram import resampled_shares
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.significance import holm
from pyrolvm.inference.calibration.shard import LOG_JOINT, ShardRanks

if TYPE_CHECKING:
    import xarray as xr

BAND = 0.95
"""Probability with which a calibrated guide stays inside the bands."""

Array = np.ndarray


@dataclass(frozen=True)
class QuantityCalibration:
    """What the ranks of one quantity say.

    Args:
        name: A coordinate, or :data:`~pyrolvm.inference.calibration.shard.LOG_JOINT`.
        p_value: Of the simultaneous test that the ranks are uniform.
        adjusted: The same, adjusted for all quantities after Holm.
        chi_squared_p: Of the test over bins.
        distance: Largest difference of the ranks' distribution function from uniform.
        shape: Mean and spread of the ranks.
    """

    name: str
    p_value: float
    adjusted: float
    chi_squared_p: float
    distance: float
    shape: RankShape


@dataclass(frozen=True)
class Calibration:
    """Ranks of N simulated truths among L draws of a guide.

    Args:
        names: Of the quantities: coordinates, and the log joint density last.
        ranks: Shape ``(N, S + 1)``.
        levels: Draws at which the guide is denser than at the truth, ``(N,)``; None where the
            guide has no density there.
        distances: Draws nearer to a random point than the truth, ``(N,)``.
        num_draws: Draws L.
        num_data_sets: Simulated data sets, or parts of one.
        refitted: Why the guide was fitted anew to each; empty where it was not.
        without_density: Why there are no levels.
    """

    names: tuple[str, ...]
    ranks: Int[Array, "simulation quantity"]
    levels: Int[Array, " simulation"] | None
    distances: Int[Array, " simulation"]
    num_draws: int
    num_data_sets: int
    refitted: str = ""
    without_density: str = ""

    @classmethod
    def joined(
        cls,
        shards: Sequence[ShardRanks],
        num_simulations: int,
        num_draws: int,
        num_data_sets: int,
        refitted: str,
    ) -> Calibration:
        """Put shards together, and leave out coordinates that never vary."""
        first = shards[0]
        varies = np.logical_or.reduce([shard.varies for shard in shards])
        chosen = [*np.flatnonzero(varies), len(varies)]
        some = slice(0, num_simulations)
        levels = [shard.levels for shard in shards if shard.levels is not None]
        return cls(
            names=tuple(np.array([*first.names, LOG_JOINT])[chosen].tolist()),
            ranks=np.concatenate([shard.ranks for shard in shards])[some, chosen],
            levels=np.concatenate(levels)[some] if len(levels) == len(shards) else None,
            distances=np.concatenate([shard.distances for shard in shards])[some],
            num_draws=num_draws,
            num_data_sets=num_data_sets,
            refitted=refitted,
            without_density=first.without_density,
        )

    @property
    def num_simulations(self) -> int:
        """Number of simulations N."""
        return len(self.ranks)

    @cached_property
    def uniformity(self) -> UniformityTest:
        """The test that every set of ranks is put to."""
        return UniformityTest.of(self.num_draws + 1, self.num_simulations)

    @cached_property
    def quantities(self) -> tuple[QuantityCalibration, ...]:
        """One judgement a coordinate, and that of the log joint density last."""
        test, num_ranks = self.uniformity, self.num_draws + 1
        p_values = np.array([test.p_value(ranks) for ranks in self.ranks.T])
        return tuple(
            QuantityCalibration(
                name, float(p), float(adjusted), chi_squared_p_value(ranks, num_ranks),
                float(np.abs(test.counts(ranks) / test.size - test.nominal).max()),
                rank_shape(ranks, num_ranks),
            )
            for name, p, adjusted, ranks in zip(
                self.names, p_values, holm(p_values), self.ranks.T, strict=True
            )
        )  # fmt: skip

    @cached_property
    def coverage_p(self) -> float:
        """p-value of the levels of highest density; NaN where there are none."""
        return np.nan if self.levels is None else self.uniformity.p_value(self.levels)

    @cached_property
    def tarp_p(self) -> float:
        """p-value of the ranks of distances to random points."""
        return self.uniformity.p_value(self.distances)

    def coverage(self, level: float) -> tuple[float, float]:
        """Share of truths inside the guide's highest-density region of a level, and its error.

        NaN where the guide has no density at the truth.
        """
        if self.levels is None:
            return np.nan, np.nan
        share = float((self.levels < level * (self.num_draws + 1)).mean())
        return share, float(np.sqrt(level * (1 - level) / self.num_simulations))

    def findings(self) -> tuple[Finding, ...]:
        """Judge the guide: its coordinates, its coverage, and distances to random points."""
        from pyrolvm.inference.calibration.judging import judge_calibration

        return judge_calibration(self)

    def dataset(self) -> xr.Dataset:
        """Ranks, curves, bands and tests; dims ``simulation``, ``coordinate``, ``level``."""
        import xarray as xr

        test = self.uniformity
        low, high = test.bands(BAND)
        curves: dict[str, Any] = {
            "alpha": test.nominal, "ecp": self._shares(self.distances), "band_low": low,
            "band_high": high,
        }  # fmt: skip
        curves["ecp_low"], curves["ecp_high"] = resampled_shares(self.distances, test.edges, BAND)
        if self.levels is not None:
            curves |= {"nominal": test.nominal, "covered": self._shares(self.levels)}
        return xr.Dataset(
            {
                "rank": (("simulation", "coordinate"), self.ranks),
                "ecdf": (
                    ("coordinate", "level"),
                    np.stack([self._shares(ranks) for ranks in self.ranks.T]),
                ),
                **{name: ("level", values) for name, values in curves.items()},
                **{
                    name: ("coordinate", np.array(values))
                    for name, values in self._by_quantity().items()
                },
            },
            coords={"coordinate": list(self.names)},
            attrs={
                "num_draws": self.num_draws,
                "num_data_sets": self.num_data_sets,
                "band": BAND,
                "coverage_p": self.coverage_p,
                "tarp_p": self.tarp_p,
                "method": f"guide fitted anew: {self.refitted}" if self.refitted else "amortized",
                "without_density": self.without_density,
                "shift_unit": "posterior sd",
            },
        )

    def _shares(self, ranks: Int[Array, " simulation"]) -> Array:
        return self.uniformity.counts(ranks) / self.num_simulations

    def _by_quantity(self) -> dict[str, list[float]]:
        names = ("p_value", "adjusted", "chi_squared_p", "distance")
        table = {name: [getattr(each, name) for each in self.quantities] for name in names}
        shapes = [vars(each.shape) for each in self.quantities]
        return table | {name: [shape[name] for shape in shapes] for name in shapes[0]}

    def __str__(self) -> str:
        fits = (
            f", the guide fitted anew to {self.num_data_sets} data sets" if self.refitted else ""
        )
        head = f"Calibration: {self.num_simulations:,} simulations, {self.num_draws} draws{fits}"
        lines = [f"  [{f.level}] {f.sentence}" for f in self.findings()]
        return "\n".join([head, *lines])
