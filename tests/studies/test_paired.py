"""Differences of generators, row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyrolvm.studies.paired import with_differences


def made(values, **columns):
    """A table of cells and their log p(x): a list of rows for each width and seed."""
    cells, rows = [], []
    for (width, seed), densities in values.items():
        key = f"{width}-{seed}"
        cells.append({"cell": key, "model": "m", "model.width": width, "guide": "exact-cpa",
                      "data": "digits", "test_size": 3, "model_seed": seed, "seed": 0,
                      "nll": -np.mean(densities), **columns})  # fmt: skip
        rows += [{"cell": key, "log_evidence": value} for value in densities]
    return pd.DataFrame(cells), pd.DataFrame(rows)


def test_differences_are_taken_row_by_row():
    frame, rows = made({(4, 0): [1.0, 2.0, 4.0], (8, 0): [2.0, 3.5, 6.0]})
    found = with_differences(frame, rows).set_index("model.width")
    lost = np.array([1.0, 1.5, 2.0])
    assert found.loc[4, "behind_best"] == pytest.approx(1.5)
    assert found.loc[4, "behind_best_se"] == pytest.approx(lost.std(ddof=1) / 3**0.5)
    assert list(found.loc[8, ["behind_best", "behind_best_se"]]) == [0, 0]


def test_the_reference_is_the_best_over_all_seeds():
    frame, rows = made(
        {(4, 0): [3.0] * 3, (8, 0): [2.0] * 3, (4, 1): [0.0] * 3, (8, 1): [5.0] * 3}
    )
    found = with_differences(frame, rows).set_index(["model.width", "model_seed"])["behind_best"]
    assert found[4, 0] == -1.0
    assert found[4, 1] == 5.0
    assert found[8, 0] == found[8, 1] == 0.0


def test_a_generator_that_lacks_seeds_is_no_reference():
    frame, rows = made({(4, 0): [1.0] * 3, (4, 1): [1.0] * 3, (8, 0): [9.0] * 3})
    found = with_differences(frame, rows).set_index(["model.width", "model_seed"])["behind_best"]
    assert found[8, 0] == -8.0


def test_other_data_are_another_problem():
    parts = [made({(4, 0): [1.0] * 3}), made({(8, 0): [2.0] * 3}, data="circle")]
    frame, rows = (pd.concat(each, ignore_index=True) for each in zip(*parts, strict=True))
    assert with_differences(frame, rows)["behind_best"].isna().all()


def test_cells_without_a_likelihood_have_no_difference():
    frame, rows = made({(4, 0): [1.0] * 3, (8, 0): [2.0] * 3}, nll=np.nan)
    assert with_differences(frame, rows)["behind_best"].isna().all()
    assert "behind_best" in with_differences(frame.iloc[:0], rows)
