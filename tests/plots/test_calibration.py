"""The figures of a calibration show what its data set says, in both looks and widths."""

from __future__ import annotations

import numpy as np
import pytest

from pyrolvm.core import DataError
from pyrolvm.inference.calibration import LOG_JOINT, Calibration
from pyrolvm.plots import calibration as plots
from pyrolvm.plots.theme import THEMES

FIGURES = (
    plots.ecdf_difference, plots.rank_histograms, plots.coverage_curve, plots.tarp_curve,
)  # fmt: skip


def found(coordinates=2, levels=True, bend=1.0):
    rng, size = np.random.default_rng(0), 300
    ranks = np.floor(100 * rng.random((size, coordinates + 1)) ** bend).astype(int)
    names = (*(f"$z_{i}$" for i in range(coordinates)), LOG_JOINT)
    return Calibration(
        names, ranks, ranks[:, 0] if levels else None, ranks[:, -1], 99, 1, "", "no density"
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [9.6, 3.75])
@pytest.mark.parametrize("draw", FIGURES)
def test_every_axis_is_labelled_in_every_look(draw, theme, width):
    figure = draw(found().dataset(), theme, width=width)
    figure.canvas.draw()
    assert figure.get_figwidth() <= width
    assert figure.axes[0].get_ylabel()
    assert figure.axes[-1].get_xlabel()


def test_names_of_the_user_s_sites_are_shown_as_they_are():
    titles = [axes.get_title("left") for axes in plots.ecdf_difference(found().dataset()).axes]
    assert [title.split(":")[0] for title in titles] == ["$z_0$", "$z_1$", LOG_JOINT]


def test_lines_carry_the_differences_and_the_colour_of_the_verdict():
    for bend, color in ((1.0, 0), (1.5, 1)):
        data = found(bend=bend).dataset()
        line = plots.ecdf_difference(data).axes[0].lines[-1]
        expected = data["ecdf"][0] - data["alpha"]
        np.testing.assert_allclose(line.get_ydata()[1:-1], expected)
        assert line.get_color() == THEMES["light"].palette[color]


def test_of_many_coordinates_those_that_are_furthest_off_are_shown():
    data = found(coordinates=30).dataset()
    shown = [a.get_title("left").split(":")[0] for a in plots.rank_histograms(data).axes]
    assert len(shown) == plots.MOST_PANELS
    order = np.argsort(-data["distance"].values)[: plots.MOST_PANELS]
    assert set(shown) == set(data["coordinate"].values[order])


def test_coverage_without_a_density_is_refused_with_the_reason():
    with pytest.raises(DataError, match="no density"):
        plots.coverage_curve(found(levels=False).dataset())
