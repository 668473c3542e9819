"""Cells, layers and rows of the study: which there are, and what is refused."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch

from pyrolvm.core.errors import DataError, SettingError, UnknownNameError
from pyrolvm.datasets import Dataset, bars
from pyrolvm.inference.helmholtz import (
    LAYERS,
    OBJECTIVES,
    SIZES,
    all_cells,
    binary_rows,
    layers_of_depth,
    objectives_named,
)
from pyrolvm.inference.helmholtz import rows as rows_module
from pyrolvm.inference.helmholtz.settings import steps_for
from pyrolvm.objectives import ParticleObjective


class TestCells:
    def test_every_data_set_objective_and_seed_is_a_cell(self):
        cells = all_cells(("nltcs", "adult"), ("coupled", "ws"), (), SIZES["full"])
        assert len(cells) == len({cell.key for cell in cells}) == 2 * 2 * 3
        assert {cell.layers for cell in cells} == {LAYERS["nltcs"], LAYERS["adult"]}

    def test_a_depth_adds_cells_for_coupled_and_reweighted_training_only(self):
        cells = all_cells(("digits",), ("coupled", "rws", "ws"), (1, 3), SIZES["default"])
        found = {
            (cell.objective, len(cell.layers), cell.in_table, cell.in_sweep) for cell in cells
        }
        assert found == {
            ("coupled", 3, True, True), ("rws", 3, True, True), ("ws", 3, True, False),
            ("coupled", 1, False, True), ("rws", 1, False, True),
        }  # fmt: skip

    def test_a_sweep_without_its_objectives_is_refused(self):
        with pytest.raises(SettingError, match="coupled and rws, but --objectives names ws"):
            all_cells(("digits",), ("ws",), (1, 2), SIZES["default"])

    def test_a_depth_of_zero_is_refused(self):
        with pytest.raises(SettingError, match="depth should be at least 1"):
            all_cells(("digits",), ("rws",), (0,), SIZES["default"])

    def test_keys_are_names_of_folders(self):
        (cell, *_) = all_cells(("./my data/x.npz",), ("rws",), (), SIZES["default"])
        assert "/" not in cell.key
        assert " " not in cell.key

    @pytest.mark.parametrize("depth", [1, 2, 3, 6])
    def test_widths_fall_in_equal_ratios(self, depth):
        widths = layers_of_depth((100, 70, 50, 25), depth)
        assert len(widths) == depth
        assert widths[0] == 100
        if depth > 1:
            assert widths[-1] == 25
            ratios = [b / a for a, b in pairwise(widths)]
            assert max(ratios) - min(ratios) < 0.04

    def test_sizes_differ_in_steps_by_data_set(self):
        assert steps_for("adult", SIZES["full"]) == 40_000
        assert steps_for("adult", SIZES["default"]) == 10_000
        assert steps_for("bars", SIZES["smoke"]) < 100


class TestObjectives:
    @pytest.mark.parametrize("key", OBJECTIVES)
    def test_takes_the_number_of_draws(self, key):
        objective = OBJECTIVES[key].make(7)
        assert isinstance(objective, ParticleObjective)
        assert objective.num_particles == 7

    def test_come_in_the_order_of_tables(self):
        assert [each.key for each in objectives_named(("ws", "coupled"))] == ["coupled", "ws"]

    def test_an_unknown_one_is_refused(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'coupled'"):
            objectives_named(("couple",))


class TestRows:
    def test_digits_are_binarised_at_half_of_the_grey_range(self):
        rows = binary_rows("digits")
        assert set(rows.train.unique().tolist()) == {0.0, 1.0}
        assert (len(rows.train), len(rows.valid), len(rows.test)) == (1350, 150, 297)
        assert "binarised" in rows.source

    def test_held_out_rows_leave_the_training_rows(self):
        whole = bars()
        rows = binary_rows("bars")
        again = torch.cat([rows.train, rows.valid])
        assert len(rows.valid) == 50
        for column in range(whole.dim):
            assert again[:, column].sum() == whole.train[:, column].sum()
        assert torch.equal(rows.test, whole.test)

    def test_a_part_of_the_test_rows_is_the_same_each_time(self):
        first, second = binary_rows("bars", 50), binary_rows("bars", 50)
        assert first.digest == second.digest != binary_rows("bars").digest
        assert len(first.test) == 50

    def test_a_validation_part_is_used_as_it_is(self, monkeypatch):
        given = dataclasses.replace(bars(10, test_size=5), valid=bars(7).train)
        monkeypatch.setattr(rows_module, "load", lambda name: given)
        rows = binary_rows("bars")
        assert torch.equal(rows.train, given.train)
        assert sorted(rows.valid.tolist()) == sorted(given.valid.tolist())

    def test_other_data_are_refused(self, monkeypatch):
        with pytest.raises(DataError, match="zeros and ones, or grey values"):
            binary_rows("circle")
        alone = Dataset("bars", torch.ones(4, 2), "binary", "here", "none")
        monkeypatch.setattr(rows_module, "load", lambda name: alone)
        with pytest.raises(DataError, match="no test rows"):
            binary_rows("bars")

    def test_an_unknown_name_is_refused_with_the_near_one(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'bars'"):
            binary_rows("bar")
