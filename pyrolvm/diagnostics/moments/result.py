"""Moments and modes of a guide against reference draws, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pyrolvm.diagnostics.draw_pair import Draws, Labels, PerCoordinate, draw_pair
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.modes import Modes, find_modes
from pyrolvm.diagnostics.moments.correlation import (
    CorrelationError,
    conditional_log_sd,
    correlation_error,
)
from pyrolvm.diagnostics.moments.directions import Directions, extreme_directions
from pyrolvm.diagnostics.moments.estimates import (
    Estimates,
    log_sd_ratio,
    mean_error,
    shape_error,
    standardised,
)
from pyrolvm.diagnostics.moments.findings import moment_findings

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Moments:
    """Where, how far and in which direction a guide's moments are off; N data, S coordinates.

    Args:
        labels: Names of data and coordinates.
        num_draws: Draws K of the guide.
        reference_size: Effective draws of the posterior, shape ``(N,)``.
        mean_error: Guide's mean less the posterior's, in posterior standard deviations, shape
            ``(N, S)``.
        log_sd_ratio: Log of the guide's over the posterior's standard deviation, ``(N, S)``:
            negative is too narrow.
        conditional_log_sd: Log of the posterior's conditional over its marginal standard
            deviation, ``(N, S)``: how narrow missing correlations make a guide.
        correlation: The correlation of each datum that is furthest off.
        directions: Those in which the guide is narrowest, widest and most shifted against the
            posterior.
        shape_error: Largest difference of a quantile after matching mean and width, in standard
            deviations, ``(N, S)``.
        modes: Modes, and the mass of those that the guide does not visit.
    """

    labels: Labels
    num_draws: int
    reference_size: Float[Tensor, " data"]
    mean_error: Estimates
    log_sd_ratio: Estimates
    conditional_log_sd: PerCoordinate
    correlation: CorrelationError
    directions: Directions
    shape_error: Estimates
    modes: Modes

    @property
    def num_pairs(self) -> int:
        """Pairs of coordinates, at least 1."""
        dim = len(self.labels.coordinates)
        return max(1, dim * (dim - 1) // 2)

    def findings(self) -> tuple[Finding, ...]:
        """What the figures mean, the defect that explains most first."""
        return moment_findings(self)

    def dataset(self) -> xr.Dataset:
        """Figures by (datum, coordinate) and by (datum), each with ``…_se``."""
        import xarray as xr

        table, row = ("datum", "coordinate"), ("datum",)
        figures = {
            "mean_error": self.mean_error,
            "log_sd_ratio": self.log_sd_ratio,
            "shape_error": self.shape_error,
            "correlation_error": self.correlation.estimates,
            "narrowest_log_sd_ratio": self.directions.narrowest.estimates,
            "widest_log_sd_ratio": self.directions.widest.estimates,
            "furthest_mean_error": self.directions.furthest.estimates,
        }
        found: dict[str, Any] = {}
        for name, (value, error) in figures.items():
            dims = table[: value.ndim]
            found |= {name: (dims, value.numpy()), f"{name}_se": (dims, error.numpy())}
        names = np.array(self.labels.coordinates)
        found |= {
            "conditional_log_sd": (table, self.conditional_log_sd.numpy()),
            "correlation_pair": (("datum", "end"), names[self.correlation.pair.numpy()]),
            "posterior_correlation": (row, self.correlation.posterior.numpy()),
            "reference_size": (row, self.reference_size.numpy()),
        }
        found |= {
            f"{name}_loading": (table, direction.loading.numpy())
            for name, direction in self.directions._asdict().items()
        }
        coords = {"datum": list(self.labels.data), "coordinate": names}
        return xr.Dataset(found, coords, {"num_draws": self.num_draws} | UNITS).merge(
            self.modes.dataset(), combine_attrs="no_conflicts"
        )


UNITS = {
    "mean_error_unit": "posterior sd",
    "log_sd_ratio_unit": "log of guide sd over posterior sd",
    "shape_error_unit": "sd",
    "missed_mass_unit": "share of the posterior",
}


def compare_moments(
    draws: Draws,
    reference: Draws,
    *,
    ess: PerCoordinate | None = None,
    coordinates: Sequence[str] | None = None,
    data: Sequence[int] | None = None,
    seed: int = 0,
) -> Moments:
    """Compare mean, width, correlations, shape and modes of a guide with those of the posterior.

    Args:
        draws: Independent draws of the guide, shape ``(K, N, S)``, unconstrained coordinates.
        reference: Draws of the posterior, shape ``(R, N, S)``; of Markov chains one chain after
            the other.
        ess: Effective sizes of the reference if its draws depend on each other, shape ``(N, S)``;
            of bulk and standard deviation the smaller one.
        coordinates: Name of each coordinate.
        data: Index of each datum in its data set.
        seed: Where the search for modes starts; nothing else is random.

    Returns:
        Figures with standard errors.

    Raises:
        DataError: If the draws cannot be compared (see :func:`draw_pair`).
        SettingError: If the seed is negative.
    """
    pair = draw_pair(draws, reference, ess=ess, coordinates=coordinates, data=data)
    guide, posterior = standardised(pair)
    return Moments(
        labels=pair.labels,
        num_draws=len(pair.guide),
        reference_size=pair.reference_size,
        mean_error=mean_error(guide, posterior),
        log_sd_ratio=log_sd_ratio(guide, posterior),
        conditional_log_sd=conditional_log_sd(pair),
        correlation=correlation_error(guide, posterior),
        directions=extreme_directions(pair),
        shape_error=shape_error(guide, posterior),
        modes=find_modes(pair, seed=seed),
    )
