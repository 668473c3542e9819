"""Tables of runs: medians with their ranges, counts of rises, gaps by modes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyrolvm.report.runs_table import modes_table, runs_table
from pyrolvm.report.study_captions import alternative, caption, number_of_seeds

COLUMNS = {"x": "train_nll", "row": "learner", "panel": "problem"}


@pytest.fixture
def runs():
    return pd.DataFrame({
        "learner": ["EM"] * 3 + ["VAE"] * 3, "problem": "circle",
        "train_nll": [1.0, 3.0, 2.0, 1.0, np.nan, 5.0],
        "rises": [0.0, 2.0, 1.0, np.nan, np.nan, np.nan],
        "model_seed": [0, 1, 2, 0, 1, 2], "seed": 0,
    })  # fmt: skip


def test_a_cell_is_the_median_with_the_range(runs):
    table = runs_table(runs, COLUMNS)
    assert table.rows[0] == ("circle", "EM", "3", "2.000 [1.000, 3.000]")


def test_a_run_without_a_finite_figure_is_the_worst(runs):
    assert runs_table(runs, COLUMNS).rows[1][3] == "5.000 [1.000, ∞]"


def test_rises_are_counted_in_runs_that_can_have_them(runs):
    table = runs_table(runs, COLUMNS, ["rises"])
    assert table.headers[-1] == "runs that rose by more than 0.01"
    assert [row[-1] for row in table.rows] == ["2 of 3", "–"]


def test_the_title_says_what_is_shown(runs):
    wanted = "Training −log p(x), nats a datum: median [least, most] over runs"
    assert runs_table(runs, COLUMNS).title == wanted


def test_gaps_stand_by_class_of_modes_with_the_number_of_data():
    rows = pd.DataFrame({"family": ["diagonal"] * 4 + ["exact"] * 4,
                         "mode_entropy": [0.0, 0.0, 0.5, 0.5] * 2,
                         "gap": [0.0, 0.02, 0.5, 0.7] + [0.0] * 4})  # fmt: skip
    table = modes_table(rows)
    assert table.rows[0] == ("diagonal", "0.010 ± 0.010", "–", "–", "0.60 ± 0.10")
    assert table.rows[1] == ("exact", "0", "–", "–", "0")
    assert table.rows[2] == ("number of data", "2", "0", "0", "2")


def test_problems_count_as_seeds(runs):
    assert number_of_seeds(runs) == 3


@pytest.mark.parametrize("kind", ["strips", "gaps-by-modes"])
def test_figures_say_how_they_are_read(runs, kind):
    block = {"name": "a", "kind": kind}
    assert caption(block, runs).startswith("A dot is a")
    assert alternative(block)
