"""The table of a study, and how large an encoder has to be."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from pyrolvm.core import DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import smallest_encoders
from pyrolvm.studies.frame import known_columns


@pytest.fixture
def study(tiny):
    guides = [{"name": "full", "hidden": [[], [4, 4]]}, "exact"]
    return tiny("table", guide=guides, seed=[0, 1], oracle_steps=2)


@pytest.fixture
def result(study, tmp_path):
    return study.run(out=tmp_path, progress=False)


def test_the_frame_has_a_row_a_cell_and_survives_parquet_and_csv(result):
    frame = result.frame
    assert list(frame["guide"]) == ["amortized"] * 4 + ["exact"] * 2
    assert list(frame["guide.hidden"][:4]) == ["affine", "affine", "4x4", "4x4"]
    assert list(frame["seed"]) == [0, 1] * 3
    stored = pd.read_parquet(result.folder / "frame.parquet")
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False)
    numbers = frame.select_dtypes("number")
    text = pd.read_csv(result.folder / "frame.csv")
    pd.testing.assert_frame_equal(text[numbers.columns], numbers, check_dtype=False)


def test_the_gap_splits_into_its_two_kinds(result):
    frame = result.frame
    total = frame["approximation_gap"] + frame["amortization_gap"]
    np.testing.assert_allclose(total, frame["gap"], atol=1e-9)
    np.testing.assert_allclose(frame["log_evidence"] - frame["elbo"], frame["gap"], atol=1e-9)


def test_the_exact_guide_has_no_gap(result):
    exact = result.frame[result.frame["guide"] == "exact"]
    assert exact["gap"].abs().max() < 1e-9
    assert exact["tv"].max() < 1e-9
    assert list(exact["parameters"]) == [0, 0]


def test_an_encoder_counts_its_weights(result):
    parameters = result.frame.groupby("guide.hidden")["parameters"].first()
    assert parameters["affine"] == 2 * 2 + 2
    assert parameters["4x4"] == (2 * 4 + 4) + (4 * 4 + 4) + (4 * 2 + 2)


def test_a_failed_check_is_named_in_the_row(result):
    path = result.folder / "cells" / result.frame["cell"][0] / "result.json"
    found = json.loads(path.read_text())
    assert {"check", "value", "limit", "passed"} == set(found["checks"][0])
    assert (result.frame["checks_failed"] == "").any()


def made(gaps, **columns):
    """A table of encoders with 10, 100 and 1000 weights, two seeds each."""
    size = len(gaps)
    return pd.DataFrame(
        {"model": "m", "guide": "amortized", "guide.family": "full", "seed": [0, 1] * (size // 2),
         "parameters": np.repeat([10, 100, 1000], 2)[:size],
         "guide.hidden": np.repeat(["1", "10", "100"], 2)[:size], "gap": gaps, **columns}
    )  # fmt: skip


def test_the_smallest_encoder_is_the_first_whose_mean_is_within_the_limit():
    frame = made([1.0, 1.0, 0.03, 0.05, 0.01, 0.01])
    (row,) = smallest_encoders(frame, nats=0.05).to_dict("records")
    assert row["found"]
    assert (row["parameters"], row["guide.hidden"], row["seeds"]) == (100, "10", 2)
    assert row["value"] == pytest.approx(0.04)


def test_no_encoder_within_the_limit_is_said_so_and_the_best_is_shown():
    (row,) = smallest_encoders(made([3.0, 3.0, 1.0, 1.0, 2.0, 2.0])).to_dict("records")
    assert not row["found"]
    assert row["parameters"] == 100


def test_each_generator_and_family_has_a_row():
    frame = pd.concat([
        made([1.0, 1.0, 0.0, 0.0]), made([0.0, 0.0]).assign(model="easy"),
        made([1.0, 1.0]).assign(**{"guide.family": "flow"}),
    ])  # fmt: skip
    found = smallest_encoders(frame)
    rows = zip(found["model"], found["guide.family"], found["found"], strict=True)
    assert sorted(rows) == [("easy", "full", True), ("m", "flow", False), ("m", "full", True)]


def test_the_limit_may_be_one_of_total_variation():
    frame = made([9.0, 9.0], tv=[0.05, 0.07])
    assert smallest_encoders(frame, tv=0.1)["found"].all()


def test_two_limits_and_a_missing_figure_are_refused():
    with pytest.raises(SettingError, match="takes one limit"):
        smallest_encoders(made([1.0, 1.0]), nats=0.1, tv=0.1)
    with pytest.raises(DataError, match="'tv'"):
        smallest_encoders(made([1.0, 1.0]), tv=0.1)


def test_the_columns_of_a_table_are_known_before_it_is_made(study, result):
    assert set(result.frame.columns) <= known_columns(study.cells)
