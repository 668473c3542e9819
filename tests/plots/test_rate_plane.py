"""Figures of a rate plane: points, optima, bounds, and both looks and widths."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle

from pyrolvm import models
from pyrolvm.diagnostics.rates import fano_accuracy
from pyrolvm.inference.rate_plane import linear_rate_plane as exact_plane
from pyrolvm.plots.linear_rate_plane import linear_rate_plane
from pyrolvm.plots.rate_plane import rate_plane, task_maps, weight_colors
from pyrolvm.plots.rate_plane_tasks import QUALITIES, fano_curve, quality_against_rates
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE

made = runpy.run_path(str(Path(__file__).parents[1] / "report" / "rate_plane_frame.py"))
ENTROPY = made["ENTROPY"]


@pytest.fixture(scope="module")
def frame():
    return made["rate_plane_frame"]()


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    plane = exact_plane(models.HierarchicalLinearGaussian((3, 2), 5), 5)
    return type(plane)(plane.frame, plane.entropy, plane.frame.iloc[::6])


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def drawn(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def framed(axes):
    """Cells with a thick frame, as (column, row)."""
    return [
        (round(patch.get_x() + 0.46), round(patch.get_y() + 0.46))
        for patch in axes.patches
        if isinstance(patch, Rectangle) and patch.get_linewidth() > 1.5
    ]


class TestPlane:
    def test_every_model_is_a_point(self, frame):
        (axes,) = panels(rate_plane(frame))
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        small = [line for line in points if line.get_markersize() < 10]
        assert sum(len(line.get_xdata()) for line in small) == len(frame)

    def test_every_task_is_named_once(self, frame):
        (axes,) = panels(rate_plane(frame))
        names = [name for text in axes.texts for name in text.get_text().split("\n")]
        expected = ["classes (draw)", "classes (mean)", "generation", "likelihood"]
        assert sorted(names) == [*expected, "reconstruction"]

    def test_weights_below_and_above_one_have_other_colours(self):
        colors = weight_colors([0.1, 1.0, 10.0], LIGHT)
        assert colors[0.1] == LIGHT.palette[0]
        assert colors[10.0] == LIGHT.palette[1]
        assert len(set(colors.values())) == 3


class TestMaps:
    def test_the_best_cell_is_framed(self, frame):
        figure = task_maps(frame)
        cells = {
            axes.get_title(loc="left").split("\n")[0]: framed(axes) for axes in panels(figure)
        }
        assert cells["Likelihood"] == [(1, 1)]
        assert cells["Reconstruction"][0][1] == 0  # the smallest weight of z_1

    def test_every_cell_says_its_value(self, frame):
        first = panels(task_maps(frame))[0]
        assert len(first.texts) == 9


class TestFano:
    def test_curve_is_the_bound(self, frame):
        (axes,) = panels(fano_curve(frame, 10, ENTROPY))
        curve = next(line for line in axes.lines if line.get_marker() == "None")
        rates, bound = (np.asarray(values) for values in curve.get_data())
        assert rates[0] == 0
        assert bound[0] == pytest.approx(0.1)
        middle = len(rates) // 2
        assert bound[middle] == pytest.approx(fano_accuracy(rates[middle], 10, ENTROPY))
        assert bound[-1] == 1

    def test_draws_and_means_are_told_apart(self, frame):
        figure = fano_curve(frame, 10, ENTROPY)
        (axes,) = panels(figure)
        assert len(drawn(axes, "o")[0].get_xdata()) == len(frame)
        assert drawn(axes, "s")[0].get_markerfacecolor() == "none"
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any("not bounded" in label for label in labels)


def test_qualities_have_a_panel_each(frame):
    assert len(panels(quality_against_rates(frame))) == len(QUALITIES)


class TestLinear:
    def test_the_bound_is_a_line_that_no_point_crosses(self, linear):
        axes = panels(linear_rate_plane(linear))[4]
        line = next(each for each in axes.lines if each.get_marker() == "None")
        (start, end), heights = line.get_data()
        assert heights[0] - heights[1] == pytest.approx(end - start)
        assert heights[0] == pytest.approx(linear.entropy)
        (dots,) = drawn(axes, ".")
        assert (np.asarray(dots.get_ydata()) >= linear.entropy - dots.get_xdata() - 1e-6).all()

    def test_trained_points_lie_on_top(self, linear):
        places = panels(linear_rate_plane(linear))
        for axes in places[:5]:
            assert len(drawn(axes, "o")[0].get_xdata()) == len(linear.trained)


@pytest.mark.parametrize("look", [LIGHT, DARK], ids=lambda look: look.name)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_all_figures_come_in_both_looks_and_widths(frame, linear, look, width):
    figures = [
        rate_plane(frame, look.name, width=width),
        task_maps(frame, look.name, width=width),
        fano_curve(frame, 10, ENTROPY, look.name, width=width),
        quality_against_rates(frame, look.name, width=width),
        linear_rate_plane(linear, look.name, width=width),
    ]
    for figure in figures:
        assert figure.get_figwidth() == pytest.approx(width)
        assert image_bytes(figure, "svg").startswith(b"<?xml")
