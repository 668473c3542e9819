"""Two-sample tests of a guide against reference draws, datum by datum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.diagnostics.draw_pair import Draws, Labels, PerCoordinate, draw_pair
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.two_sample.classifier import c2st
from pyrolvm.diagnostics.two_sample.findings import two_sample_findings
from pyrolvm.diagnostics.two_sample.kernel import mmd
from pyrolvm.diagnostics.two_sample.permutation import Permuted, pooled
from pyrolvm.diagnostics.two_sample.sliced import sliced_wasserstein

if TYPE_CHECKING:
    import xarray as xr

PerDatum = Float[NDArray, " data"]

FEWEST_PERMUTATIONS = 19


@dataclass(frozen=True, eq=False)
class Tests:
    """A test of each datum, and of all together.

    Args:
        value: The statistic, shape ``(N,)``.
        null_low: 5 % quantile of the statistic if guide and posterior were the same, ``(N,)``.
        null_high: Its 95 % quantile, shape ``(N,)``.
        p_value: Of each datum alone, shape ``(N,)``.
        pooled_p_value: Of all data in one test.
    """

    __test__ = False

    value: PerDatum
    null_low: PerDatum
    null_high: PerDatum
    p_value: PerDatum
    pooled_p_value: float

    @classmethod
    def of(cls, permuted: list[Permuted]) -> Tests:
        """Read the tests of all data."""
        low, high = zip(*(one.band for one in permuted), strict=True)
        return cls(
            np.array([one.value for one in permuted]),
            np.array(low),
            np.array(high),
            np.array([one.p_value for one in permuted]),
            pooled(permuted).p_value,
        )


@dataclass(frozen=True, eq=False)
class TwoSample:
    """Can draws of the guide be told from draws of the posterior, and how far apart are they?

    Args:
        labels: Names of data and coordinates.
        num_draws: Independent draws of each that were used, shape ``(N,)``.
        num_permutations: Permutations behind each p-value.
        c2st: Cross-validated accuracy of a classifier; 1/2 is no difference.
        mmd: Squared maximum mean discrepancy in whitened coordinates; 0 is no difference.
        sliced_wasserstein: Distance in posterior standard deviations, shape ``(N,)``.
        sliced_wasserstein_se: Its standard error; NaN where it is 0.
        sliced_wasserstein_null: What chance reaches in one of twenty cases.
    """

    labels: Labels
    num_draws: Int[NDArray, " data"]
    num_permutations: int
    c2st: Tests
    mmd: Tests
    sliced_wasserstein: PerDatum
    sliced_wasserstein_se: PerDatum
    sliced_wasserstein_null: PerDatum

    @property
    def c2st_se(self) -> PerDatum:
        """Binomial standard error of the accuracy, shape ``(N,)``."""
        errors: PerDatum = np.sqrt(self.c2st.value * (1 - self.c2st.value) / (2 * self.num_draws))
        return errors

    def findings(self) -> tuple[Finding, ...]:
        """What the tests mean: classifier, kernel, distance."""
        return two_sample_findings(self)

    def dataset(self) -> xr.Dataset:
        """Statistics, null bands and p-values by ``datum``."""
        import xarray as xr

        columns = {
            "c2st": self.c2st.value,
            "c2st_se": self.c2st_se,
            "c2st_null_low": self.c2st.null_low,
            "c2st_null_high": self.c2st.null_high,
            "c2st_p": self.c2st.p_value,
            "mmd": self.mmd.value,
            "mmd_null_high": self.mmd.null_high,
            "mmd_p": self.mmd.p_value,
            "sliced_wasserstein": self.sliced_wasserstein,
            "sliced_wasserstein_se": self.sliced_wasserstein_se,
            "sliced_wasserstein_null": self.sliced_wasserstein_null,
            "num_draws": self.num_draws,
        }
        attrs = {
            "num_permutations": self.num_permutations,
            "null_band": "5 % to 95 % under permuted labels",
            "c2st_pooled_p": self.c2st.pooled_p_value,
            "mmd_pooled_p": self.mmd.pooled_p_value,
            "mmd_unit": "squared, kernel in whitened coordinates",
            "sliced_wasserstein_unit": "posterior sd",
        }
        variables = {name: ("datum", values) for name, values in columns.items()}
        return xr.Dataset(variables, {"datum": list(self.labels.data)}, attrs)


def two_sample_tests(
    draws: Draws,
    reference: Draws,
    *,
    ess: PerCoordinate | None = None,
    coordinates: Sequence[str] | None = None,
    data: Sequence[int] | None = None,
    num_permutations: int | None = None,
    most_draws: int = 1000,
    seed: int = 0,
) -> TwoSample:
    """Test draws of a guide against draws of the posterior; about a second a datum.

    Args:
        draws: Independent draws of the guide, shape ``(K, N, S)``, unconstrained coordinates.
        reference: Draws of the posterior, shape ``(R, N, S)``; of Markov chains one chain after
            the other.
        ess: Effective sizes of the reference if its draws depend on each other, shape ``(N, S)``;
            so many draws are used.
        coordinates: Name of each coordinate.
        data: Index of each datum in its data set.
        num_permutations: Permutations of the labels; as a rule 999, and more for over 25 data, so
            that a difference in one of them can still be found.
        most_draws: Draws of each that are used at most.
        seed: Where folds, permutations, directions and splits come from.

    Returns:
        The tests.

    Raises:
        DataError: If the draws cannot be compared (see :func:`draw_pair`).
        SettingError: If the seed or a size makes no sense.
    """
    require_seed(seed)
    pair = draw_pair(draws, reference, ess=ess, coordinates=coordinates, data=data)
    size = len(pair.labels.data)
    if num_permutations is None:
        num_permutations = max(999, 40 * size - 1)
    require_at_least(FEWEST_PERMUTATIONS, num_permutations=num_permutations)
    require_at_least(20, most_draws=most_draws)
    classified, kernels, distances, sizes = [], [], [], []
    for row in range(size):
        rng = np.random.default_rng([seed, row])
        both = pair.independent(row, most_draws)
        classified.append(c2st(*both, num_permutations=num_permutations, rng=rng))
        kernels.append(mmd(*both, num_permutations=num_permutations, rng=rng))
        distances.append(sliced_wasserstein(*both, rng=rng))
        sizes.append(len(both[0]))
    return TwoSample(
        pair.labels,
        np.array(sizes),
        num_permutations,
        Tests.of(classified),
        Tests.of(kernels),
        *np.array(distances).T,
    )
