"""The study end to end in seconds: its table, going on, the choice of rates, differences."""

from __future__ import annotations

import dataclasses
import json
import math

import pandas as pd
import pytest
import torch

from pyrolvm.core.checkpoint import load_tensors
from pyrolvm.core.errors import RunFolderError, UnknownNameError
from pyrolvm.inference.enumeration import layer_sums
from pyrolvm.inference.helmholtz import (
    SIZES,
    Cell,
    binary_rows,
    differences,
    run_helmholtz,
    study,
    training,
)
from pyrolvm.inference.helmholtz.training import new_pair, trained

TINY = dataclasses.replace(
    SIZES["smoke"], steps_share=0.001, evaluation_particles=20, z_samples=200, test_rows=40,
    most_units=3, sweeps=3,
)  # fmt: skip
SCORES = ("nll", "coupled_nll", "log_z", "pstar_nll", "negative_elbo", "bc2", "root_ess", "ess")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("helmholtz")


@pytest.fixture(scope="module")
def found(folder):
    return run_helmholtz(("bars",), depths=(1, 3), size=TINY, out=folder, progress=False)


def cell_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("cells/*/*")}


class TestTable:
    def test_has_a_row_a_cell(self, found):
        assert found.frame[["objective", "num_layers"]].apply(tuple, axis=1).tolist() == [
            ("coupled", 3), ("rws", 3), ("coupled", 1), ("rws", 1),
        ]  # fmt: skip
        assert found.frame["in_sweep"].all()
        assert found.frame["in_table"].sum() == 2

    def test_has_every_figure_with_its_error(self, found):
        for name in SCORES:
            assert found.frame[name].notna().all()
            assert (found.frame[f"{name}_se"] >= 0).all()
        for name in ("learning_rate", "steps", "seconds", "layers", "seed", "num_test"):
            assert found.frame[name].notna().all()

    def test_figures_hang_together(self, found):
        frame = found.frame
        assert (frame["pstar_nll"] - frame["coupled_nll"] + frame["log_z"]).abs().max() < 1e-9
        assert (frame["nll"] <= frame["coupled_nll"] + 1e-9).all()
        assert (frame["ess"] <= frame["root_ess"] + 1e-9).all()
        assert frame["bc2"].between(0, 1).all()

    def test_small_nets_are_summed(self, found, folder):
        cell = Cell("bars", "coupled", (3, 3, 3), 0)
        model, guide = new_pair(cell, binary_rows("bars"))
        tensors, _ = load_tensors(folder / "cells" / cell.key / "weights.safetensors")
        for program, name in ((model, "model."), (guide, "guide.")):
            part = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
            program.load_state_dict(part)
        truth = layer_sums(model, guide).log_evidence(binary_rows("bars", 40).test).mean()
        row = found.frame.iloc[0]
        assert row["method"] == "exact"
        assert row["nll"] == pytest.approx(-truth.item(), abs=1e-9)

    def test_is_written_as_csv(self, found, folder):
        table = pd.read_csv(folder / "cells.csv")
        assert table["key"].tolist() == found.frame["key"].tolist()

    def test_curves_begin_before_training_and_end_after(self, found):
        for key, curve in found.curves.groupby("key"):
            steps = found.frame.set_index("key").loc[key, "steps"]
            assert curve["step"].iloc[0] == 0
            assert curve["step"].iloc[-1] == steps

    def test_pictures_come_from_the_coupled_training(self, found):
        images = found.pictures["bars"]
        assert images["p"].shape == images["pstar"].shape == (24, 16)
        shown = images["mask"].bool()
        assert (images["completed"][:, shown] == images["x"][shown]).all()


class TestGoingOn:
    def test_a_finished_study_is_only_read(self, found, folder, monkeypatch):
        before = cell_files(folder)
        monkeypatch.setattr(study, "trained", lambda *_, **__: pytest.fail("trained again"))
        monkeypatch.setattr(study, "measured", lambda *_, **__: pytest.fail("measured again"))
        again = run_helmholtz(("bars",), depths=(1, 3), size=TINY, out=folder, progress=False)
        pd.testing.assert_frame_equal(again.frame, found.frame)
        pd.testing.assert_frame_equal(again.differences, found.differences)
        assert cell_files(folder) == before

    def test_a_trained_cell_is_only_measured(self, found, folder, monkeypatch):
        cell = folder / "cells" / "bars-rws-3-3-3-seed0"
        (cell / "scores.json").unlink()
        monkeypatch.setattr(study, "trained", lambda *_, **__: pytest.fail("trained again"))
        again = run_helmholtz(("bars",), depths=(1, 3), size=TINY, out=folder, progress=False)
        pd.testing.assert_frame_equal(again.frame, found.frame)

    def test_a_training_that_was_stopped_ends_with_the_same_weights(self, tmp_path, monkeypatch):
        rows, cell = binary_rows("bars"), Cell("bars", "rws", (3, 2), 0)
        settings = dataclasses.replace(TINY, steps_share=0.00125)
        whole = trained(cell, rows, settings, tmp_path / "whole", progress=False)

        class Killed(training.LearningCurve):
            def __call__(self, step):
                super().__call__(step)
                if step == 5:
                    raise KeyboardInterrupt

        original = training.fit
        monkeypatch.setattr(
            training, "fit", lambda *a, **k: original(*a, **{**k, "checkpoint_every": 2})
        )
        with monkeypatch.context() as patch:
            patch.setattr(training, "LearningCurve", Killed)
            with pytest.raises(KeyboardInterrupt):
                trained(cell, rows, settings, tmp_path / "part", progress=False)
        rest = trained(cell, rows, settings, tmp_path / "part", progress=False)
        for mine, other in zip(rest.model.parameters(), whole.model.parameters(), strict=True):
            assert torch.equal(mine, other)
        curves = [
            json.loads((tmp_path / name / "curve.json").read_text()) for name in ("whole", "part")
        ]
        assert curves[0] == curves[1]

    def test_other_settings_are_refused(self, found, folder):
        other = dataclasses.replace(TINY, num_particles=5)
        before = cell_files(folder)
        with pytest.raises(RunFolderError, match="made with another num_particles"):
            run_helmholtz(("bars",), size=other, out=folder, progress=False)
        assert cell_files(folder) == before

    def test_a_folder_of_something_else_is_refused(self, tmp_path):
        place = tmp_path / "cells" / "bars-coupled-3-3-3-seed0"
        place.mkdir(parents=True)
        (place / "diary.txt").write_text("mine")
        with pytest.raises(RunFolderError, match="something other than a cell"):
            run_helmholtz(("bars",), size=TINY, out=tmp_path, progress=False)


class TestTraining:
    def test_the_rate_with_the_best_validation_bound_is_taken(self, tmp_path):
        settings = dataclasses.replace(TINY, learning_rates=(1e-6, 1e-2), steps_share=0.00125)
        cell = Cell("bars", "coupled", (3,), 0)
        result = trained(cell, binary_rows("bars"), settings, tmp_path, progress=False)
        assert result.facts["learning_rate"] == 1e-2
        assert result.facts["search"]["0.01"] > result.facts["search"]["1e-06"]

    def test_all_objectives_start_from_one_pair(self):
        rows = binary_rows("bars")
        first, second = (new_pair(Cell("bars", key, (3,), 4), rows) for key in ("rws", "coupled"))
        for mine, other in zip(first, second, strict=True):
            for one, two in zip(mine.parameters(), other.parameters(), strict=True):
                assert torch.equal(one, two)


class TestDifferences:
    def rows(self, shift):
        base = torch.tensor([-1.0, -2.0, -4.0, -3.0], dtype=torch.float64)
        noise = torch.tensor([0.1, -0.1, 0.1, -0.1], dtype=torch.float64)
        return {"log_evidence": base + shift + noise * shift, "overlap": base / 10 + 1 + shift}

    def test_are_paired_over_rows(self):
        per_row = {
            Cell("d", "rws", (3,), 0): self.rows(0.0),
            Cell("d", "coupled", (3,), 0): self.rows(0.5),
        }
        row = differences(per_row).iloc[0]
        assert row["nll"] == pytest.approx(-0.5)
        assert row["nll_se"] == pytest.approx(0.05 * math.sqrt(4 / 3) / 2)
        assert row["bc2"] == pytest.approx(0.5)
        assert row["bc2_se"] == pytest.approx(0.0, abs=1e-12)

    def test_errors_include_the_spread_over_seeds(self):
        per_row = {
            Cell("d", key, (3,), seed): self.rows(shift)
            for key, seed, shift in (
                ("rws", 0, 0.0), ("rws", 1, 0.0), ("coupled", 0, 0.2), ("coupled", 1, 0.4),
            )
        }  # fmt: skip
        row = differences(per_row).iloc[0]
        assert row["num_seeds"] == 2
        assert row["bc2"] == pytest.approx(0.3)
        assert row["bc2_se"] == pytest.approx(0.1)

    def test_are_empty_without_reweighted_training(self):
        assert differences({Cell("d", "coupled", (3,), 0): self.rows(0.0)}).empty


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"data": ("bas",)}, "Did you mean 'bars'"),
        ({"objectives": ("rw",)}, "Did you mean 'rws'"),
        ({"size": "tiny"}, "smoke"),
    ],
)
def test_unknown_names_are_refused_before_anything_is_trained(tmp_path, arguments, words):
    with pytest.raises(UnknownNameError, match=words):
        run_helmholtz(**{"data": ("bars",), **arguments}, out=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
