"""The table as text."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from pyrolvm.core.errors import DataError
from pyrolvm.report import columns, format_cells
from pyrolvm.report.answer import answer
from pyrolvm.report.table import chain_note


def cell(tree, guide, header):
    headers, rows = format_cells(tree)
    return next(row for row in rows if row[0] == guide)[headers.index(header)]


def test_one_row_a_guide_in_order(tree):
    _, rows = format_cells(tree)
    assert [row[0] for row in rows] == [str(name) for name in tree["table"]["guide"].values]


def test_numbers_carry_their_errors(tree):
    assert cell(tree, "flow", "gap (nats)") == "0.420 ± 0.041"


def test_exact_guide_has_gap_zero(tree):
    assert cell(tree, "exact-cpa", "gap (nats)") == "0"


def test_constant_weights_show_minus_infinity(tree):
    assert cell(tree, "exact-cpa", "k-hat (median)") == "−∞"


def test_a_missing_split_is_a_dash(tree):
    assert cell(tree, "per-datum", "amortization (nats)") == "–"


@pytest.mark.parametrize("header", ["log p(x) (nats)", "gap (nats)", "approximation (nats)"])
def test_bounds_are_marked(bounded_tree, header):
    assert cell(bounded_tree, "full", header).startswith("≥ ")


@pytest.mark.parametrize("header", ["amortization (nats)", "ELBO (nats)"])
def test_what_the_evidence_does_not_enter_is_not_marked(bounded_tree, header):
    assert "≥" not in cell(bounded_tree, "full", header)


def test_overlap_needs_outside_evidence(tree, bounded_tree):
    assert "BC²" in format_cells(tree)[0]
    headers = format_cells(bounded_tree)[0]
    assert "BC²" not in headers
    assert "ESS of √w" in headers


def test_every_column_has_a_note(tree):
    assert all(len(column.note) > 30 for column in columns(tree))


def test_columns_without_numbers_are_left_out(own_tree):
    table = own_tree["table"].to_dataset()[["elbo", "log_evidence", "gap"]]
    own_tree["table"] = xr.DataTree(table)
    assert format_cells(own_tree)[0] == ["guide", "ELBO (nats)", "log p(x) (nats)", "gap (nats)"]


@pytest.mark.parametrize("column", ["gap", "elbo", "log_evidence"])
def test_a_missing_column_is_named(own_tree, column):
    own_tree["table"] = xr.DataTree(own_tree["table"].to_dataset().drop_vars(column))
    with pytest.raises(DataError, match=f"lacks {column}"):
        format_cells(own_tree)


def test_an_empty_table_is_refused():
    table = xr.Dataset(
        {key: ("guide", np.empty(0)) for key in ("elbo", "log_evidence", "gap")},
        coords={"guide": np.empty(0, dtype=str)},
    )
    with pytest.raises(DataError, match="no rows"):
        format_cells(xr.DataTree.from_dict({"/table": table}))


def test_a_gap_that_is_not_split_does_not_speak_of_its_parts(tree, own_tree):
    def note():
        return next(column.note for column in columns(own_tree) if column.header == "gap")

    assert "next two columns" in note()
    for part in ("approximation_gap", "amortization_gap"):
        own_tree["table"][part][:] = np.nan
    assert "next two columns" not in note()


def test_the_time_of_per_datum_guides_is_explained(tree):
    note = next(column.note for column in columns(tree) if column.header == "time")
    assert "per-datum guide" in note


def test_nothing_trained_no_training_column(own_tree):
    own_tree["table"]["train_seconds"][:] = 0.0
    assert "training (s)" not in format_cells(own_tree)[0]


def test_a_data_set_that_is_one_datum_has_no_columns_over_data(own_tree):
    for name in own_tree["table"]["guide"].values:
        numbers = own_tree[f"{name}/per_datum"].to_dataset()
        own_tree[f"{name}/per_datum"] = xr.DataTree(numbers.isel(datum=0))
    own_tree["table"]["gap_se"][:] = np.inf
    headers, rows = format_cells(own_tree)
    assert "k-hat" in headers
    assert not {"time (ms/datum)", "k-hat (median)", "high k-hat (share > 0.67)"} & set(headers)
    assert rows[0][headers.index("gap (nats)")] == "1.509"
    assert not any("a datum" in column.note or "over data" in column.note
                   for column in columns(own_tree))  # fmt: skip


class TestChains:
    @pytest.fixture
    def chain_tree(self, own_tree):
        marks = np.array([1, 0, 0, 0, 0, 0])
        own_tree["table"] = xr.DataTree(
            own_tree["table"].to_dataset().assign(extended_space=("guide", marks))
        )
        return own_tree

    def test_are_marked_where_they_stand(self, chain_tree):
        assert cell(chain_tree, "amortized:diagonal", "kind") == "Amortized, diagonal, chain"
        assert cell(chain_tree, "full", "kind") == "Amortized, full"

    def test_the_glossary_says_what_their_figures_are(self, chain_tree):
        note = next(column.note for column in columns(chain_tree) if column.header == "kind")
        assert "space of whole chains" in note
        assert chain_note(chain_tree) in note

    def test_the_answer_says_so_too(self, chain_tree):
        assert (
            "figures of amortized:diagonal are those of whole chains" in answer(chain_tree).caveat
        )

    def test_without_any_nothing_is_said(self, tree):
        assert "extended_space" not in tree["table"].to_dataset()
        assert chain_note(tree) == ""
        assert "chain" not in " ".join(column.note for column in columns(tree))
        assert "chain" not in answer(tree).caveat
