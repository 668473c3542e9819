"""A tiny plane from end to end, what a killed or finished run leaves, and the claims at size."""

from __future__ import annotations

import dataclasses
import importlib
import shutil

import numpy as np
import pandas as pd
import pytest

from pyrolvm import datasets
from pyrolvm.core.errors import DataError, RunFolderError
from pyrolvm.inference.rate_plane import (
    TASKS,
    PlaneSettings,
    mean_over_seeds,
    run_rate_plane,
    task_named,
)

plane_module = importlib.import_module("pyrolvm.inference.rate_plane.plane")
SMALL = PlaneSettings(
    steps=120, hidden=(16,), latent_dims=(6, 3), batch_size=64, learning_rate=1e-2
)
WEIGHTS = [0.3, 3.0]


def run(folder, grid=None, seeds=(0,), settings=SMALL, data=None):
    return run_rate_plane(
        small_digits() if data is None else data,
        grid=grid or WEIGHTS,
        seeds=seeds,
        out=folder,
        settings=settings,
        progress=False,
    )


def small_digits():
    whole = datasets.digits()
    return dataclasses.replace(
        whole,
        train=whole.train[:200],
        train_labels=whole.train_labels[:200],
        test=whole.test[:100],
        test_labels=whole.test_labels[:100],
    )


def fano_slack(frame):
    """Three standard errors of an accuracy, at the bound or at the accuracy, whichever is more."""
    shares = np.maximum(frame["fano_bound"], frame["accuracy_drawn"]).clip(upper=0.5)
    return 3 * np.sqrt(shares * (1 - shares) / 100)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plane") / "p"
    return run(folder)


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "p")
    return tmp_path / "p"


@pytest.fixture
def trainings(monkeypatch):
    """Members that are trained, as they are asked for."""
    asked = []
    original = plane_module.trained

    def counting(members, *args):
        asked.extend(members)
        return original(members, *args)

    monkeypatch.setattr(plane_module, "trained", counting)
    return asked


def test_has_one_row_a_model_without_gaps(finished):
    places = finished.frame[["weight_1", "weight_2"]].to_numpy().tolist()
    assert places == [[0.3, 0.3], [0.3, 3.0], [3.0, 0.3], [3.0, 3.0]]
    assert finished.frame.notna().all().all()
    assert {task.column for task in TASKS} <= set(finished.frame.columns)


def test_training_changed_something_and_weights_cost_rate(finished):
    means = mean_over_seeds(finished.frame).set_index(["weight_1", "weight_2"])
    assert means.loc[(0.3, 0.3), "rate_1"] > means.loc[(3.0, 0.3), "rate_1"]
    assert (means["psnr"] > 10).all()


def test_draws_obey_fano_at_every_point(finished):
    frame = finished.frame
    assert (frame["accuracy_drawn"] <= frame["fano_bound"] + fano_slack(frame)).all()


def test_every_task_has_an_optimum_on_the_grid(finished):
    optima = finished.optima
    assert [one.task for one in optima] == list(TASKS)
    for one in optima:
        assert {one.weight_1, one.weight_2} <= set(WEIGHTS)
        column = finished.frame[one.task.column]
        assert one.value == (column.max() if one.task.largest else column.min())


def test_table_lies_in_the_folder(finished):
    stored = pd.read_csv(finished.folder / "frame.csv")
    pd.testing.assert_frame_equal(stored, finished.frame)
    assert finished.facts["num_classes"] == 10
    assert "digits" in repr(finished)


def test_a_finished_plane_is_read_again(finished, copy, trainings):
    again = run(copy)
    assert trainings == []
    pd.testing.assert_frame_equal(again.frame, finished.frame)
    assert again.facts == finished.facts


def test_a_killed_run_goes_on_with_what_is_missing(finished, copy, trainings):
    (copy / "members" / "0.3_3_seed0.safetensors").unlink()
    (copy / "measured" / "0.3_3_seed0.json").unlink()
    (copy / "measured" / "3_3_seed0.json").unlink()
    again = run(copy)
    assert [member.key for member in trainings] == ["0.3_3_seed0"]
    close = ["rate_1", "rate_2", "distortion", "psnr", "score"]
    np.testing.assert_allclose(again.frame[close], finished.frame[close], rtol=1e-3, atol=1e-3)
    last = ["rate_1", "accuracy_drawn", "score"]  # measured again from the same weights
    assert (again.frame[last].iloc[3] == finished.frame[last].iloc[3]).all()


def test_more_seeds_take_over_the_models_that_are_there(finished, copy, trainings):
    wider = run(copy, seeds=(0, 1))
    assert {member.seed for member in trainings} == {1}
    own = wider.frame[wider.frame["seed"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(own, finished.frame)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": dataclasses.replace(SMALL, steps=121)}, "settings differ"),
        ({"data": dataclasses.replace(small_digits(), name="other")}, "data differ"),
    ],
)
def test_a_folder_of_another_plane_is_refused(copy, changes, message):
    with pytest.raises(RunFolderError, match=message):
        run(copy, **changes)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunFolderError, match="holds no rate plane"):
        run(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.txt"]


def test_data_without_classes_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match="classes"):
        run(tmp_path / "p", data=datasets.load("circle"))
    assert not (tmp_path / "p").exists()


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    return run_rate_plane("digits", out=tmp_path_factory.mktemp("digits"), progress=False)


@pytest.mark.slow
class TestDigits:
    """What the experiment of the method says, with slack: 25 pairs of weights, two seeds."""

    def test_no_model_diverged(self, plane):
        assert len(plane.frame) == 50
        assert not plane.frame["diverged"].any()

    def test_reconstruction_wants_a_small_weight_of_the_layer_that_feeds_x(self, plane):
        for _, seed in plane.frame.groupby("seed"):
            assert seed.loc[seed["psnr"].idxmax(), "weight_1"] <= 0.3162

    def test_classes_from_draws_want_a_large_weight_of_the_lower_layer(self, plane):
        for _, seed in plane.frame.groupby("seed"):
            assert seed.loc[seed["accuracy_drawn"].idxmax(), "weight_1"] >= 3.162

    def test_samples_want_a_moderate_rate_of_the_top_layer(self, plane):
        for _, seed in plane.frame.groupby("seed"):
            moderate = seed.loc[seed["rate_2"].between(2.5, 7.5), "score"].mean()
            assert moderate - seed.loc[seed["rate_2"] < 0.1, "score"].mean() > 0.3
            assert moderate > seed.loc[seed["rate_2"] > 15, "score"].mean()

    def test_likelihood_wants_weights_near_one(self, plane):
        likelihood = task_named("likelihood").column
        for _, seed in plane.frame.groupby("seed"):
            best = seed.loc[seed[likelihood].idxmin()]
            assert 0.3162 <= best["weight_1"] <= 3.162
            assert 0.3162 <= best["weight_2"] <= 3.162

    def test_fano_bounds_draws_everywhere_and_means_not(self, plane):
        frame, rows = plane.frame, plane.facts["num_test"]
        shares = np.maximum(frame["fano_bound"], frame["accuracy_drawn"]).clip(upper=0.5)
        slack = 3 * np.sqrt(shares * (1 - shares) / rows)
        assert (frame["fano_bound"] < 0.9).sum() > 10
        assert (frame["accuracy_drawn"] <= frame["fano_bound"] + slack).all()
        assert (frame["accuracy_mean"] > frame["fano_bound"] + slack).any()
