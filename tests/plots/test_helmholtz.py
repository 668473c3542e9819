"""Figures of the study of belief networks: points, lines, images, both looks and widths."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from pyrolvm.plots.helmholtz import (
    ess_against_likelihood,
    likelihood_by_depth,
    overlap_by_objective,
    validation_curves,
)
from pyrolvm.plots.helmholtz_pictures import completed_images, draws_side_by_side
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE

made = runpy.run_path(str(Path(__file__).parents[1] / "report" / "helmholtz_study.py"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return made["synthetic_study"](tmp_path_factory.mktemp("study"))


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def points(axes):
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    found = [line.get_xydata() for line in lines if len(line.get_xdata())]
    return np.concatenate([each for each in found if len(each)])


def test_every_training_with_default_layers_is_a_point(study):
    frame = study.frame[study.frame["in_table"]]
    for axes in panels(ess_against_likelihood(study.frame)):
        own = frame[frame["data"] == axes.get_title(loc="left")]
        expected = own[["nll", "root_ess"]].to_numpy()
        assert {tuple(row) for row in expected.round(9)} == {
            tuple(row) for row in points(axes).round(9)
        }


def test_overlap_has_a_row_an_objective_best_known_first(study):
    first, second = panels(overlap_by_objective(study.frame))
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == ["VIMCO", "wake-sleep", "reweighted wake-sleep", "coupled"]
    assert not any(label.get_text() for label in second.get_yticklabels())
    values = {round(x, 6): round(y) for x, y in points(first)}
    assert values[0.82] == 3  # coupled, at the top
    assert values[0.31] == 1


def test_overlap_writes_the_means_over_seeds(study):
    (first, _) = panels(overlap_by_objective(study.frame))
    assert {text.get_text() for text in first.texts} == {"0.820", "0.550", "0.310", "0.600"}


def test_depth_has_a_line_for_coupled_and_reweighted_training(study):
    for axes in panels(likelihood_by_depth(study.frame)):
        lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
        assert len(lines) == 2
        for line in lines:
            assert list(line.get_xdata()) == [1, 3, 5]
            assert np.argmin(line.get_ydata()) == 1
        assert list(axes.get_xticks()) == [1, 3, 5]


def test_curves_leave_the_start_above_the_axis(study):
    (first, _) = panels(validation_curves(study.frame, study.curves))
    assert len(first.lines) == 8  # four objectives, two seeds
    assert first.get_ylim()[1] < 44 == first.lines[0].get_ydata()[0]
    assert first.get_ylim()[0] < study.curves["nll"].min()


def test_draws_of_both_models_are_shown_in_full(study):
    images = study.pictures["digits"]
    figure = draws_side_by_side(images, (8, 8))
    for axes, name in zip(figure.axes, ("p", "pstar"), strict=True):
        block = axes.images[0].get_array()
        assert block.shape == (4 * 9 - 1, 6 * 9 - 1)
        for at in range(24):
            top, left = 9 * (at // 6), 9 * (at % 6)
            image = images[name][at].reshape(8, 8)
            np.testing.assert_array_equal(block[top : top + 8, left : left + 8], image)


def test_the_hidden_half_is_covered_in_one_row(study):
    (axes,) = completed_images(study.pictures["digits"], (8, 8)).axes
    block, cover = (image.get_array() for image in axes.images)
    assert block.shape == cover.shape[:2] == (5 * 9 - 1, 6 * 9 - 1)
    covered = np.flatnonzero(cover[..., 3].any(1))
    assert covered.tolist() == [13, 14, 15, 16]  # the lower half of the second row
    assert cover[13:17, :8, 3].all()
    np.testing.assert_array_equal(block[:8], block[9:17])


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=lambda look: look.name)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_all_figures_come_in_both_looks_and_widths(study, look, width):
    images = study.pictures["digits"]
    figures = [
        ess_against_likelihood(study.frame, look.name, width=width),
        overlap_by_objective(study.frame, look.name, width=width),
        likelihood_by_depth(study.frame, look.name, width=width),
        validation_curves(study.frame, study.curves, look.name, width=width),
        draws_side_by_side(images, (8, 8), look.name, width=width),
        completed_images(images, (8, 8), look.name, width=width),
    ]
    for figure in figures:
        assert figure.get_figwidth() <= width + 1e-9
        assert image_bytes(figure, "svg").startswith(b"<?xml")
