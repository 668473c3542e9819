r"""Which generator explains held-out rows best: differences of exact log p(x), row by row.

Generators that were fitted to the same rows are scored on the same rows. The standard error of the
mean of the differences is then much smaller than those of the means themselves:

.. math:: \bar d = \frac{1}{N} \sum_n [\log p_{best}(x_n) - \log p(x_n)], \qquad
          \mathrm{se}(\bar d) = \mathrm{sd}(d_n) / \sqrt{N}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyrolvm.studies.settings import SETTINGS

if TYPE_CHECKING:
    import pandas as pd

PAIRED = ("behind_best", "behind_best_se")
PROBLEM = ("data", "test_size")
SEEDS = ("model_seed", "seed")


def with_differences(frame: pd.DataFrame, per_datum: pd.DataFrame) -> pd.DataFrame:
    """Add how far each learned generator stays behind the best one of its problem.

    The best one has the highest mean over all seeds; it is the reference for every seed, so that
    another generator may be ahead of it in one of them.

    Args:
        frame: The table of a study.
        per_datum: From :func:`pyrolvm.studies.per_datum.read_per_datum`.

    Returns:
        The table with ``behind_best``, nats a datum, and its paired standard error
        ``behind_best_se`` over the scored rows; NaN where a generator did not learn, where its
        likelihood is not exact, or where nothing shares its rows.
    """
    frame = frame.assign(**dict.fromkeys(PAIRED, np.nan))
    if frame.empty or "nll" not in frame or frame["nll"].isna().all():
        return frame
    learned = frame[frame["nll"].notna()]
    kinds = _kinds(learned)
    rows = {str(key): part["log_evidence"].to_numpy() for key, part in per_datum.groupby("cell")}
    for _, problem in learned.groupby(list(PROBLEM), sort=False):
        means = problem["nll"].groupby(kinds[problem.index]).agg(["mean", "count"])
        most = means[means["count"] == means["count"].max()]
        best = str(most["mean"].idxmin())
        for _, seed in problem.groupby(list(SEEDS), sort=False):
            reference = seed[kinds[seed.index] == best]["cell"]
            if len(seed) > 1 and len(reference) == 1:
                _compare(frame, seed["cell"], rows, str(reference.iloc[0]))
    return frame


def _compare(
    frame: pd.DataFrame, cells: pd.Series[str], rows: Mapping[str, NDArray[np.float64]], best: str
) -> None:
    for index, key in cells.items():
        if best in rows and key in rows and len(rows[key]) == len(rows[best]):
            lost = rows[best] - rows[key]
            error = lost.std(ddof=1) / len(lost) ** 0.5
            frame.loc[index, list(PAIRED)] = [lost.mean(), error]


def _kinds(frame: pd.DataFrame) -> pd.Series[str]:
    """What tells a cell from the others of its problem and seed: everything that was set."""
    settings = [
        name for name in _settings(frame)
        if name not in (*PROBLEM, *SEEDS) and frame[name].nunique(dropna=False) > 1
    ]  # fmt: skip
    if not settings:
        return frame["cell"].map(lambda _: "the only one")
    return frame[settings].apply(lambda row: " | ".join(map(str, row)), axis=1)


def _settings(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if str(name).split(".")[0] in SETTINGS]
