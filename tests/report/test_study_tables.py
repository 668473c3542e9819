"""Tables of a study: means, where they pass a threshold, theory, the smallest encoder."""

from __future__ import annotations

import numpy as np

from pyrolvm.report.study_tables import study_tables
from pyrolvm.report.terminal import parts, print_table

SWEEP = {
    "name": "s", "kind": "sweep", "x": "guide.width", "y": "gap", "line": "guide.family",
    "panel": "model.contraction",
}  # fmt: skip
BUDGET = {"name": "b", "kind": "encoder-budget"}


def only(frame, block):
    (table,) = study_tables(frame, [block])
    return table


def row(table, *names):
    return next(each for each in table.rows if each[: len(names)] == names)


class TestSweep:
    def test_cells_are_means_with_their_standard_errors(self, frame):
        assert row(only(frame, SWEEP), "0.5", "full") == (
            "0.5", "full", "0.610 ± 0.010", "0.340 ± 0.010", "0.313 ± 0.010",
        )  # fmt: skip

    def test_headers_name_the_columns_and_the_title_the_unit(self, frame):
        table = only(frame, SWEEP)
        assert table.headers == ("contraction", "family", "10", "100", "1,000")
        assert table.title == "Gap, nats a datum, by width of the hidden layers"

    def test_where_a_threshold_is_first_met(self, frame):
        table = only(frame, {**SWEEP, "threshold": 0.05})
        assert table.headers[-1] == "first at 0.05"
        assert row(table, "0.5", "mixture")[-1] == "100"
        assert row(table, "0.5", "full")[-1] == "–"

    def test_of_a_share_more_is_better(self, frame):
        table = only(frame, {**SWEEP, "y": "tv_share", "threshold": 0.95})
        assert row(table, "0.5", "full")[-1] == "100"

    def test_a_missing_cell_is_a_dash(self, frame):
        gone = (frame["guide.width"] == 100) & (frame["guide.family"] == "full")
        assert row(only(frame[~gone], SWEEP), "0.5", "full")[3] == "–"
        frame.loc[gone, "gap"] = np.nan
        assert row(only(frame, SWEEP), "0.5", "full")[3] == "–"

    def test_a_line_without_any_figure_has_no_row(self, frame):
        frame.loc[frame["guide.family"] == "full", "gap"] = np.nan
        assert all(each[1] == "mixture" for each in only(frame, SWEEP).rows)

    def test_numbers_are_written_without_decimals_that_say_nothing(self, frame):
        frame["model.contraction"] = frame["model.contraction"].replace(0.5, 2.0)
        assert {each[0] for each in only(frame, SWEEP).rows} == {"0.9", "2"}

    def test_without_line_and_panel_a_row_is_named_by_its_figure(self, frame):
        table = only(frame, {"name": "s", "kind": "sweep", "x": "guide.width", "y": "tv_share"})
        assert [each[0] for each in table.rows] == ["share of data with TV ≤ 0.1"]
        assert len(table.headers) == len(table.rows[0])

    def test_theory_stands_in_a_column_of_its_own(self, folding_frame):
        table = only(folding_frame, {"name": "f", "kind": "folding"})
        assert table.headers[-1] == "theory"
        assert row(table, "folding", "2")[-1] == "1.39 / 0.693"
        assert row(table, "injective", "2")[-1] == "0"


class TestSmallestEncoder:
    def test_the_smallest_that_is_close_is_named_with_its_gap(self, frame):
        found = row(only(frame, BUDGET), "residual-generator, contraction 0.5", "mixture")
        assert found[2:] == ("100", "100", "0.050 ± 0.010 nats")

    def test_none_that_is_close_shows_the_best(self, frame):
        found = row(only(frame, BUDGET), "residual-generator, contraction 0.5", "full")
        assert found[2:] == ("–", "–", "0.313 ± 0.010 nats, best tried")

    def test_signs_are_judged_in_total_variation(self, frame):
        assert row(only(frame, BUDGET), "sign-permutation")[2:4] == ("1,000", "1000")
        assert row(only(frame, BUDGET), "sign-permutation")[4].endswith(" TV")

    def test_it_comes_with_the_default_figure(self, frame):
        (table,) = study_tables(frame, ())
        assert table.title.startswith("Smallest encoder within 0.05 nats")

    def test_an_empty_table_has_nothing_to_show(self, frame):
        assert study_tables(frame.iloc[:0], [SWEEP, BUDGET]) == []


class TestTerminal:
    def test_a_wide_table_goes_on_below_with_the_names_of_its_rows(self, frame):
        table = only(frame, {**SWEEP, "threshold": 0.05})
        cut = list(parts(table, 50))
        assert len(cut) > 1
        assert all(each.headers[:2] == ("contraction", "family") for each in cut)
        assert sum(len(each.headers) - 2 for each in cut) == len(table.headers) - 2

    def test_no_number_is_cut(self, frame, capsys):
        table = only(frame, BUDGET)
        print_table(table, 80)
        shown = capsys.readouterr().out
        assert "…" not in shown
        assert max(map(len, shown.splitlines())) <= 80
        assert all(cell in shown for each in table.rows for cell in each[2:])

    def test_a_file_takes_lines_of_any_length(self, frame, capsys):
        print_table(only(frame, BUDGET))
        assert "residual-generator, contraction 0.5 │ full" in capsys.readouterr().out
