"""Every figure: labels with units, guides' colours, themes, widths, missing groups, same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from matplotlib import rcParams
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from pyrolvm import plots
from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.plots.comparison import read_comparison
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE, guide_styles

FIGURES = [
    plots.gap_bars,
    plots.gap_per_datum,
    plots.khat_per_datum,
    plots.posterior_contours,
    plots.prior_samples,
    plots.reconstructions,
    plots.training_curves,
]
OPTIONAL = [figure for figure in FIGURES if figure is not plots.gap_bars]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def bars_of(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def only_table(tree: xr.DataTree) -> xr.DataTree:
    bare = xr.DataTree.from_dict({"/table": tree["table"].to_dataset()})
    bare.attrs = dict(tree.attrs)
    return bare


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
class TestEveryFigure:
    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_is_as_wide_as_asked_or_narrower(self, draw, tree, width):
        assert draw(tree, width=width).get_figwidth() <= width + 1e-9

    def test_has_the_paper_of_its_theme(self, draw, tree):
        papers = [to_hex(draw(tree, name).get_facecolor()) for name in ("light", "dark")]
        assert papers == [LIGHT.paper, DARK.paper]

    def test_gives_the_same_bytes_twice(self, draw, tree):
        first, second = (image_bytes(draw(tree, width=NARROW), "svg") for _ in range(2))
        assert first == second

    def test_leaves_the_global_style_alone(self, draw, tree):
        before = dict(rcParams)
        draw(tree, "dark")
        assert dict(rcParams) == before

    def test_refuses_an_unknown_theme_by_name(self, draw, tree):
        with pytest.raises(UnknownNameError, match="Did you mean 'dark'"):
            draw(tree, "darkk")

    def test_refuses_a_tree_without_a_table(self, draw):
        with pytest.raises(DataError, match="/table"):
            draw(xr.DataTree())

    def test_shows_names_with_dollars_and_tags_as_they_are(self, draw, own_tree):
        name = "$x_{$ <b>"
        table = own_tree["table"].to_dataset()
        names = [name, *table["guide"].values[1:]]
        own_tree["table"] = xr.DataTree(table.assign_coords(guide=names))
        own_tree[name] = own_tree.children["amortized:diagonal"]
        figure = draw(own_tree)
        image_bytes(figure, "svg")
        assert draw is plots.prior_samples or name in texts(figure).replace("\n", "")


@pytest.mark.parametrize("draw", OPTIONAL, ids=lambda draw: draw.__name__)
def test_a_figure_says_what_it_lacks(draw, tree):
    with pytest.raises(DataError, match=f"{draw.__name__} needs"):
        draw(only_table(tree))


@pytest.mark.parametrize("draw", [plots.gap_per_datum, plots.khat_per_datum])
def test_figures_over_data_need_two_of_them(draw, own_tree):
    for name in read_comparison(own_tree).names:
        for group in ("per_datum", "sample_stats"):
            numbers = own_tree[f"{name}/{group}"].to_dataset()
            own_tree[f"{name}/{group}"] = xr.DataTree(numbers.isel(datum=0))
    with pytest.raises(DataError, match="two data or more"):
        draw(own_tree)


class TestGapBars:
    def test_axis_is_in_nats(self, tree):
        assert plots.gap_bars(tree).axes[0].get_xlabel() == "gap to log p(x), nats a datum"

    def test_axis_of_a_data_set_that_is_one_datum(self, own_tree):
        for name in read_comparison(own_tree).names:
            numbers = own_tree[f"{name}/per_datum"].to_dataset()
            own_tree[f"{name}/per_datum"] = xr.DataTree(numbers.isel(datum=0))
        own_tree["table"]["gap_se"][:] = np.inf
        figure = plots.gap_bars(own_tree)
        image_bytes(figure, "svg")
        assert "nats for the data set as a whole" in figure.axes[0].get_xlabel()
        assert "∞" not in texts(figure)

    def test_numbers_stand_at_the_bars(self, tree):
        assert "1.51 ± 0.11" in texts(plots.gap_bars(tree))

    def test_exact_guide_shows_zero(self, tree):
        assert "0" in texts(plots.gap_bars(tree)).split("\n")

    def test_bound_is_marked(self, tree, bounded_tree):
        assert "≥ 1.51 ± 0.11" in texts(plots.gap_bars(bounded_tree))
        assert "≥" not in texts(plots.gap_bars(tree))

    def test_bars_are_as_long_as_the_parts(self, tree):
        bars = bars_of(plots.gap_bars(tree))
        table = tree["table"].to_dataset()
        first = [bars[0].get_width(), bars[1].get_width()]
        wanted = [float(table[f"{part}_gap"][0]) for part in ("approximation", "amortization")]
        assert first == pytest.approx(wanted)

    def test_a_guide_without_split_has_one_bar(self, tree):
        assert len(bars_of(plots.gap_bars(tree))) == 2 * 5 + 1

    def test_a_negative_part_is_drawn_backwards(self, own_tree):
        own_tree["table"]["amortization_gap"][0] = -0.2
        assert bars_of(plots.gap_bars(own_tree))[1].get_width() == pytest.approx(-0.2)


class TestKhatPerDatum:
    def test_share_above_is_printed(self, tree):
        share = float((tree["full/sample_stats/khat"] > 0.67).mean())
        assert f"{100 * share:.0f} % above 0.67" in texts(plots.khat_per_datum(tree))

    def test_minus_infinity_lies_at_the_left_edge(self, tree):
        axes = plots.khat_per_datum(tree).axes[0]
        strips = [one.get_offsets() for one in axes.collections if isinstance(one, PathCollection)]
        exact, others = np.concatenate(strips[-2:]), np.concatenate(strips[:-2])[:, 0]
        assert len(exact) == 60
        assert exact[:, 0].max() < others.min()
        assert "−∞" in [label.get_text() for label in axes.get_xticklabels()]

    def test_undefined_values_are_counted(self, own_tree):
        own_tree["full/sample_stats"]["khat"][:3] = np.nan
        assert "3 undefined" in texts(plots.khat_per_datum(own_tree))

    def test_only_constant_weights(self, own_tree):
        for name in read_comparison(own_tree).names:
            own_tree[f"{name}/sample_stats"]["khat"][:] = -np.inf
        image_bytes(plots.khat_per_datum(own_tree), "png")


class TestGapPerDatum:
    def test_lines_are_sorted_gaps(self, tree):
        line = plots.gap_per_datum(tree).axes[0].lines[0]
        gaps = np.sort(tree["amortized:diagonal/per_datum/gap"].values)
        np.testing.assert_array_equal(line.get_ydata(), gaps)

    def test_axes_say_what_they_measure(self, tree):
        axes = plots.gap_per_datum(tree).axes[0]
        assert axes.get_ylabel() == "gap of a datum, nats"
        assert axes.get_xlabel() == "share of the data, sorted by gap"

    def test_one_far_datum_bends_the_axis(self, own_tree):
        own_tree["full/per_datum"]["gap"][0] = 400.0
        figure = plots.gap_per_datum(own_tree)
        image_bytes(figure, "svg")
        assert "logarithmic above 1" in figure.axes[0].get_ylabel()

    def test_a_guide_without_finite_gaps_is_left_out(self, own_tree):
        own_tree["full/per_datum"]["gap"][:] = np.nan
        assert "full" not in texts(plots.gap_per_datum(own_tree))


class TestPosteriorContours:
    def test_rows_are_data_where_there_is_room(self, tree):
        # 6 guides x 4 data, and 4 images of the data
        assert len(plots.posterior_contours(tree).axes) == 6 * 4 + 4

    def test_a_narrow_figure_is_turned(self, tree):
        assert len(plots.posterior_contours(tree, width=NARROW).axes) == 6 * 3 + 3

    def test_one_latent_dimension_gives_curves(self, own_tree):
        figure = plots.posterior_contours(flat(own_tree))
        assert figure.axes[1].get_ylabel() == "density"
        z, density = map(np.asarray, figure.axes[1].lines[0].get_data())
        assert np.trapezoid(density, z) == pytest.approx(1, abs=1e-3)

    def test_an_unknown_posterior_leaves_the_guides(self, own_tree):
        picture = own_tree["picture"].to_dataset().drop_vars("log_density")
        own_tree["picture"] = xr.DataTree(picture)
        assert len(plots.posterior_contours(own_tree).axes) == 6 * 4 + 4

    def test_mass_outside_the_grid_is_named(self, own_tree):
        own_tree["full/picture"]["log_density"][:] -= np.log(2)
        assert "50 % outside the grid" in texts(plots.posterior_contours(own_tree))

    def test_a_density_that_is_nowhere_finite_is_named(self, own_tree):
        own_tree["full/picture"]["log_density"][:] = -np.inf
        assert "no density" in texts(plots.posterior_contours(own_tree))


class TestData:
    @pytest.mark.parametrize("dims", [1, 2, 5])
    @pytest.mark.parametrize("draw", [plots.reconstructions, plots.prior_samples])
    def test_data_that_are_no_images(self, own_tree, draw, dims):
        for width in (WIDE, NARROW):
            image_bytes(draw(cut(own_tree, dims), width=width), "png")

    def test_reconstructions_fall_back_on_predictive_draws(self, own_tree):
        own_tree["picture"] = xr.DataTree(own_tree["picture"].to_dataset().drop_vars("x"))
        assert len(plots.reconstructions(own_tree).axes) == 7 * 8

    def test_every_guide_has_its_error(self, tree):
        assert texts(plots.reconstructions(tree)).count("RMSE") == 6


class TestTrainingCurves:
    def test_axes_say_what_they_measure(self, tree):
        axes = plots.training_curves(tree).axes[0]
        assert (axes.get_xlabel(), axes.get_ylabel()) == (
            "training step",
            "loss (−ELBO), nats a datum",
        )

    def test_a_single_step_is_no_trouble(self, own_tree):
        loss = xr.Dataset({"loss": ("step", np.array([3.0]))})
        for name in ("amortized:diagonal", "full", "mixture", "flow"):
            own_tree[f"{name}/training"] = xr.DataTree(loss)
        image_bytes(plots.training_curves(own_tree), "png")

    def test_an_oracle_is_drawn_as_dots(self, own_tree):
        training = own_tree["full/training"].to_dataset()
        training["oracle_loss"] = ("oracle_step", np.linspace(16, 15, 30))
        own_tree["full/training"] = xr.DataTree(training)
        markers = [line.get_marker() for line in plots.training_curves(own_tree).axes[0].lines]
        assert markers.count(".") == 1


class TestStyles:
    def test_guides_have_different_colours(self, tree):
        styles = guide_styles(read_comparison(tree), LIGHT)
        assert len({style.color for style in styles.values()}) == len(styles)

    def test_exact_guide_is_drawn_in_ink(self, tree):
        assert guide_styles(read_comparison(tree), DARK)["exact-cpa"].color == DARK.ink

    def test_many_guides_still_differ(self, tree):
        table = xr.concat([tree["table"].to_dataset()] * 3, "guide")
        table = table.assign_coords(guide=[f"guide {index}" for index in range(18)])
        many = xr.DataTree.from_dict({"/table": table})
        styles = guide_styles(read_comparison(many), LIGHT)
        assert len({style.color for style in styles.values()}) == 16  # 15, and ink

    @pytest.mark.parametrize("look", [LIGHT, DARK], ids=lambda look: look.name)
    def test_colours_stand_off_the_paper(self, look):
        for color in (*look.palette, look.ink, look.muted):
            assert contrast(color, look.paper) >= 3.0


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""

    def luminance(color):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted(luminance(color) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def flat(tree: xr.DataTree) -> xr.DataTree:
    """The same tree with one latent dimension: a standard normal everywhere."""
    z = np.tile(np.linspace(-5, 5, 101), (4, 1))
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    dims = ("picture", "grid_1")
    picture = tree["picture"].to_dataset()[["datum", "x"]]
    picture["z_1"], picture["log_density"] = (dims, z), (dims, log_density)
    tree["picture"] = xr.DataTree(picture)
    for name in read_comparison(tree).names:
        tree[f"{name}/picture"] = xr.DataTree(xr.Dataset({"log_density": (dims, log_density)}))
    return tree


def cut(tree: xr.DataTree, dims: int) -> xr.DataTree:
    """The same tree with a few dimensions of x, which are no image."""
    tree.attrs["image_shape"] = "null"
    for node in list(tree.subtree):
        if "x_dim" in node.dims:
            node.dataset = node.to_dataset().isel(x_dim=slice(0, dims))
    return tree
