"""Figures of moments, two-sample tests and draws: what they show, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.diagnostics.moments import compare_moments
from pyrolvm.diagnostics.two_sample import two_sample_tests
from pyrolvm.plots.moments import extreme_directions, moment_errors
from pyrolvm.plots.reference_draws import draw_pairs
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import NARROW, WIDE
from pyrolvm.plots.two_sample import two_sample

NAMES = ("mu", "tau $x$", "z[0]", "z[1]", "z[2]")


@pytest.fixture(scope="module")
def draws():
    """A guide that is narrow in the first coordinate and far off in the second."""
    generator = torch.Generator().manual_seed(0)
    guide, posterior = torch.randn(2, 60, 3, 5, generator=generator, dtype=torch.float64)
    guide[..., 0] *= 0.4
    guide[..., 1] += 9.0
    return guide, posterior


@pytest.fixture(scope="module")
def moments(draws):
    return compare_moments(*draws, coordinates=NAMES, data=(2, 5, 8)).dataset()


@pytest.fixture(scope="module")
def tests(draws):
    return two_sample_tests(*draws, data=(2, 5, 8), num_permutations=19).dataset()


@pytest.fixture(scope="module")
def reference(draws):
    dims = "datum", "coordinate"
    variables = {
        "guide": (("guide_draw", *dims), draws[0].numpy()),
        "reference": (("draw", *dims), draws[1][:50].numpy()),
    }
    return xr.Dataset(
        variables, {"datum": [2, 5, 8], "coordinate": list(NAMES)}, {"method": "NUTS"}
    )


def labels(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def marks(axes, marker):
    return [
        float(line.get_xdata()[0])
        for line in axes.lines
        if line.get_marker() == marker and len(line.get_xdata())
    ]


@pytest.mark.parametrize(("theme", "width"), [("light", WIDE), ("dark", NARROW)])
def test_every_figure_fits_its_width(moments, tests, reference, theme, width):
    for draw, dataset in (
        (moment_errors, moments), (extreme_directions, moments), (two_sample, tests),
        (draw_pairs, reference),
    ):  # fmt: skip
        figure = draw(dataset, theme, width=width)
        assert image_bytes(figure, "png")
        assert figure.get_figwidth() <= width


def test_moments_have_a_dot_a_datum_and_those_far_out_at_the_edge(moments):
    left, right = moment_errors(moments).axes
    assert labels(left) == list(NAMES)
    assert marks(left, ">") == [4.0] * 3
    assert len(marks(left, "o")) == 12
    np.testing.assert_allclose(marks(right, "o")[:3], moments["log_sd_ratio"][:, 0])
    assert "posterior sd" in left.get_xlabel()


def test_of_many_coordinates_the_worst_are_shown():
    generator = torch.Generator().manual_seed(0)
    guide, posterior = torch.randn(2, 40, 1, 60, generator=generator, dtype=torch.float64)
    guide[..., 57] *= 0.1
    figure = moment_errors(compare_moments(guide, posterior).dataset())
    assert len(labels(figure.axes[0])) == 24
    assert "z[57]" in labels(figure.axes[0])
    assert "24 of 60 coordinates" in figure.get_supxlabel()


def test_directions_have_a_narrowest_and_a_widest(moments):
    left, right = extreme_directions(moments).axes
    assert labels(left) == ["datum 2", "datum 5", "datum 8"]
    shown = np.sort(marks(right, "o"))
    names = ("narrowest_log_sd_ratio", "widest_log_sd_ratio")
    np.testing.assert_allclose(shown, np.sort(np.ravel([moments[name] for name in names])))


def test_accuracies_stand_beside_their_null_bands(tests):
    left, right = two_sample(tests).axes
    assert labels(left) == ["datum 2", "datum 5", "datum 8"]
    np.testing.assert_allclose(marks(left, "o"), tests["c2st"])
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in left.containers[0]]
    low, high = tests["c2st_null_low"].values[0], tests["c2st_null_high"].values[0]
    np.testing.assert_allclose(bars[0], (low, high))
    assert "posterior sd" in right.get_xlabel()


def test_draws_of_the_chosen_datum_and_coordinates_are_shown(reference):
    figure = draw_pairs(reference, datum=5, coordinates=("z[0]", "mu"))
    panel = figure.axes[2]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("z[0]", "mu")
    posterior, guide = panel.lines
    np.testing.assert_array_equal(guide.get_xdata(), reference["guide"][:, 1, 2])
    np.testing.assert_array_equal(posterior.get_ydata(), reference["reference"][:, 1, 0])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["posterior of datum 5 (NUTS)", "guide"]


def test_what_is_not_there_is_refused(moments, tests, reference):
    with pytest.raises(DataError, match="needs mean_error"):
        moment_errors(tests)
    with pytest.raises(DataError, match="needs c2st"):
        two_sample(moments)
    with pytest.raises(DataError, match="needs guide and reference"):
        draw_pairs(moments)
    with pytest.raises(UnknownNameError, match="Did you mean 'z"):
        draw_pairs(reference, coordinates=("z[7]",))
    with pytest.raises(UnknownNameError, match="datum"):
        draw_pairs(reference, datum=3)


def test_one_coordinate_has_no_directions(draws):
    one = compare_moments(*(each[..., :1] for each in draws)).dataset()
    assert image_bytes(moment_errors(one), "png")
    with pytest.raises(DataError, match="at least two coordinates"):
        extreme_directions(one)
