"""Runs as dots, and gaps of data against the modes of their posteriors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.plots.gaps_by_modes import class_means, class_names, gaps_by_modes, of_guides
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.strips import edge_of, strips
from pyrolvm.plots.study_figures import check_figures, shown_blocks, study_figures
from pyrolvm.plots.study_rows import rows_of
from pyrolvm.plots.theme import NARROW, WIDE

STRIPS = {"name": "s", "kind": "strips"}
MODES = {"name": "m", "kind": "gaps-by-modes"}
LEARNERS = [("svi", "both", 5e-3), ("em", "guide", 3e-3), ("lbfgs", "guide", 3e-3)]


@pytest.fixture
def runs():
    """Three learners on two data sets, four runs each; one run is far out, one not finite."""
    rows = [
        {"cell": f"{data}-{learner}-{seed}", "model": "cpa-generator", "guide": "exact-cpa",
         "model.hidden": "8x8", "latent_dim": 1, "obs_dim": 2, "data": data, "train": train,
         "model_learner": learner, "model_steps": 0 if train == "both" else 9,
         "learning_rate": rate, "model_seed": seed, "seed": 0,
         "train_nll": 1.0 + place + 0.1 * seed, "nll": 1.5 + place + 0.1 * seed}
        for data in ("circle", "wave") for place, (learner, train, rate) in enumerate(LEARNERS)
        for seed in range(4)
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[frame["cell"] == "circle-em-0", "train_nll"] = 1e6
    frame.loc[frame["cell"] == "circle-em-1", "train_nll"] = np.nan
    return frame


@pytest.fixture
def per_datum():
    """Four data of each of two guides: one with one mode, three with more."""
    entropies = [0.0, 0.05, 0.2, 0.7]
    rows = [
        {"cell": cell, "datum": datum, "mode_entropy": entropy, "gap": scale * entropy}
        for cell, scale in (("a", 1.0), ("b", 0.0)) for datum, entropy in enumerate(entropies)
    ]  # fmt: skip
    rows.append({"cell": "a", "datum": 4, "mode_entropy": np.nan, "gap": 9.0})
    return pd.DataFrame(rows)


CELLS = pd.DataFrame({"cell": ["a", "b"], "family": ["diagonal", "exact"]})


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def dots(axes, marker="o"):
    return [line for line in axes.lines if line.get_marker() == marker]


class TestStrips:
    def test_learners_and_problems_are_named_in_words(self, runs):
        rows = rows_of(runs, STRIPS)
        assert list(dict.fromkeys(rows["learner"])) == [
            "VAE, step size 0.005", "safeguarded EM", "L-BFGS, exact gradient",
        ]  # fmt: skip
        assert set(rows["problem"]) == {"circle, 1-8-8-2", "wave, 1-8-8-2"}

    def test_a_generator_that_did_not_learn_is_no_run(self, runs):
        runs.loc[runs["model_learner"] == "em", "model_steps"] = 0
        assert "as drawn" not in set(rows_of(runs, STRIPS)["learner"])

    def test_every_run_is_a_dot_and_the_bar_its_median(self, runs):
        (figure,) = study_figures(runs, [STRIPS]).values()
        wave = panels(figure)[1]
        np.testing.assert_allclose(dots(wave)[0].get_xdata(), [1.0, 1.1, 1.2, 1.3])
        bars = [line for line in wave.lines if len(set(line.get_xdata())) == 1
                and len(line.get_xdata()) == 2]  # fmt: skip
        np.testing.assert_allclose([line.get_xdata()[0] for line in bars], [1.15, 2.15, 3.15])

    def test_runs_far_out_or_not_finite_stand_at_the_edge(self, runs):
        (figure,) = study_figures(runs, [STRIPS]).values()
        circle = panels(figure)[0]
        (edge,) = dots(circle, ">")
        assert list(edge.get_xdata()) == [circle.get_xlim()[1]] * 2
        assert circle.get_xlim()[1] < 5

    def test_equal_runs_are_not_far_out(self):
        assert edge_of(np.array([1.0, 1.0, 1.0, 2.0])) == np.inf
        assert edge_of(np.array([np.nan])) == np.inf

    def test_overfitting_is_held_out_less_training(self, runs):
        rows = rows_of(runs[runs["data"] == "wave"], STRIPS)
        np.testing.assert_allclose(rows["overfitting"], 0.5)

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    @pytest.mark.filterwarnings("error")
    def test_it_fits_its_width(self, runs, width):
        (figure,) = study_figures(runs, [STRIPS], "dark", width=width).values()
        image_bytes(figure, "png")
        assert figure.get_figwidth() <= width + 1e-9

    def test_an_unknown_column_is_refused(self, runs):
        with pytest.raises(UnknownNameError, match="Did you mean 'train_nll'"):
            strips(rows_of(runs, STRIPS), "train_nl", "learner", "problem")
        with pytest.raises(UnknownNameError, match="Did you mean 'nll'"):
            check_figures([{**STRIPS, "also": ["nlll"]}], ["train_nll", "nll"])


class TestGapsByModes:
    def test_classes_are_the_means_of_their_data(self, per_datum):
        rows = of_guides(CELLS, per_datum)
        means = class_means(rows[rows["family"] == "diagonal"])
        assert list(means.index) == list(class_names())
        np.testing.assert_allclose(means["mean"], [0.0, 0.05, 0.2, 0.7])
        assert list(means["count"]) == [1, 1, 1, 1]

    def test_data_whose_modes_are_not_known_are_left_out(self, per_datum):
        assert of_guides(CELLS, per_datum)["gap"].max() < 9

    def test_a_panel_a_guide_in_the_order_of_the_study(self, per_datum):
        figure = gaps_by_modes(of_guides(CELLS.iloc[::-1], per_datum))
        titles = [axes.get_title(loc="left") for axes in panels(figure)]
        assert titles == ["exact", "diagonal"]
        image_bytes(figure, "png")

    def test_without_figures_of_data_it_is_left_out(self, frame, per_datum):
        assert not shown_blocks(frame, [MODES])
        first = per_datum.assign(cell=frame["cell"][0])
        assert len(shown_blocks(frame, [MODES], first)) == 1
