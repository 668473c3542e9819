"""Figures of a study: panels, lines, units, error bars, filters, defaults, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer

from pyrolvm.core.errors import DataError, SettingError, UnknownNameError
from pyrolvm.plots import encoder_budget, study_figures, sweep
from pyrolvm.plots.saving import image_bytes
from pyrolvm.plots.small_multiples import decade_ticks, legend_rows, line_handles
from pyrolvm.plots.study_figures import check_figures, default_figures
from pyrolvm.plots.sweep import SweepAxes, mean_and_error, sweep_axes
from pyrolvm.plots.theme import DARK, LIGHT, NARROW, WIDE

AXES = SweepAxes(x="guide.width", y="gap", line="guide.family", panel="model.contraction")
SWEEP = {"name": "s", "kind": "sweep", "x": "guide.width", "y": "gap"}
BUDGET = {"name": "b", "kind": "encoder-budget"}


def bars(axes):
    return [one for one in axes.containers if isinstance(one, ErrorbarContainer)]


def heights(bar):
    return np.asarray(bar.lines[0].get_ydata(), dtype=float)


def errors(bar):
    return [(top - bottom) / 2 for (_, bottom), (_, top) in bar.lines[2][0].get_segments()]


def panels(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def titles(figure):
    return [axes.get_title(loc="left") for axes in panels(figure)]


class TestSweep:
    def test_a_panel_for_each_value_and_a_line_for_each_other(self, frame):
        figure = sweep(frame, AXES)
        assert titles(figure) == ["contraction 0.5", "contraction 0.9"]
        assert [len(bars(axes)) for axes in panels(figure)] == [2, 2]
        assert legend(figure) == ["full", "mixture"]

    def test_axes_say_what_they_measure_in_which_unit(self, frame):
        first, second = panels(sweep(frame, AXES))
        assert first.get_ylabel() == "gap, nats a datum"
        assert {first.get_xlabel(), second.get_xlabel()} == {"width of the hidden layers"}

    def test_points_are_means_and_bars_standard_errors_over_seeds(self, frame):
        full = bars(panels(sweep(frame, AXES))[0])[0]
        np.testing.assert_allclose(heights(full), [0.61, 0.34, 0.313])
        wanted = np.std([0, 0.02], ddof=1) / np.sqrt(2)
        np.testing.assert_allclose(errors(full), wanted)

    def test_a_single_seed_has_the_error_over_its_data(self, frame):
        found = mean_and_error(frame[frame["seed"] == 0].query("model == 'sign-permutation'"),
                               "guide.width", "gap")  # fmt: skip
        assert list(found["error"]) == [9.0] * 3

    def test_a_cell_without_the_figure_is_left_out(self, frame):
        frame.loc[(frame["guide.width"] == 100) & (frame["seed"] == 0), "gap"] = np.nan
        frame.loc[frame["guide.width"] == 1000, "gap"] = np.nan
        full = bars(panels(sweep(frame, AXES))[0])[0]
        np.testing.assert_allclose(heights(full), [0.61, 0.35])

    def test_a_panel_without_any_figure_stays_empty(self, frame):
        frame.loc[frame["model.contraction"] == 0.9, "gap"] = np.nan
        figure = sweep(frame, AXES)
        image_bytes(figure, "png")
        assert not bars(panels(figure)[1])

    def test_few_values_are_the_ticks_of_a_logarithmic_axis(self, frame):
        axes = panels(sweep(frame, AXES))[0]
        assert axes.get_xscale() == "log"
        assert list(axes.get_xticks()) == [10, 100, 1000]
        assert not axes.get_xticks(minor=True).size

    def test_axes_are_logarithmic_as_asked(self, frame):
        axes = panels(sweep(frame, SweepAxes("guide.width", "gap", log_x=False, log_y=True)))[0]
        assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")

    def test_an_encoder_without_hidden_layers_is_shown_at_0(self, frame):
        frame["guide.width"] = frame["guide.width"].replace(10, 0)
        axes = panels(sweep(frame, AXES))[0]
        image_bytes(axes.figure, "png")
        assert list(axes.get_xticks()) == [0, 100, 1000]

    def test_a_share_lies_between_0_and_1(self, frame):
        low, high = panels(sweep(frame, SweepAxes("guide.width", "tv_share")))[0].get_ylim()
        assert -0.1 < low < 0
        assert 1 < high < 1.1

    def test_theory_is_drawn_as_crosses_and_a_threshold_is_named(self, frame):
        axes = SweepAxes("guide.width", "gap", reference="tv", threshold=0.05)
        figure = sweep(frame, axes)
        assert legend(figure) == ["theory", "threshold 0.05"]
        assert "x" in [line.get_marker() for line in figure.axes[0].lines]

    @pytest.mark.parametrize("column", ["x", "y", "line", "panel"])
    def test_an_unknown_column_is_refused_with_the_nearest(self, frame, column):
        axes = sweep_axes({"x": "guide.width", "y": "gap", column: "guide.widht"})
        with pytest.raises(UnknownNameError, match=r"Did you mean 'guide\.width'"):
            sweep(frame, axes)


class TestEncoderBudget:
    def test_a_panel_a_generator_and_a_line_a_guide(self, frame):
        figure = encoder_budget(frame)
        assert titles(figure) == ["residual-generator, contraction 0.5",
                                  "residual-generator, contraction 0.9",
                                  "sign-permutation"]  # fmt: skip
        assert [len(bars(axes)) for axes in panels(figure)] == [2, 2, 1]
        assert set(legend(figure)) == {"full", "mixture", "sign-guide", "approximation",
                                       "amortization", "close"}  # fmt: skip

    def test_the_areas_are_the_two_parts_of_the_gap(self, frame):
        axes = panels(encoder_budget(frame))[0]
        areas = [one for one in axes.collections if isinstance(one, PolyCollection)]
        means = frame[frame["model.contraction"] == 0.5].groupby(["guide.family", "parameters"])
        gap, least = means["gap"].mean()["full"], means["approximation_gap"].mean()["full"]
        lower, upper = areas[0].get_paths()[0].vertices, areas[1].get_paths()[0].vertices
        assert set(lower[:, 1].round(6)) == {0.0, *least.round(6)}
        assert {*gap.round(6), *least.round(6)} == set(upper[:, 1].round(6))

    def test_bars_are_standard_errors_over_seeds(self, frame):
        full = bars(panels(encoder_budget(frame))[0])[0]
        np.testing.assert_allclose(errors(full), np.std([0, 0.02], ddof=1) / np.sqrt(2))

    def test_signs_are_shown_in_total_variation(self, frame):
        smooth, _, signs = panels(encoder_budget(frame))
        assert smooth.get_ylabel() == "gap, nats a datum"
        assert signs.get_ylabel() == "total variation distance"
        np.testing.assert_allclose(heights(bars(signs)[0]), [0.9, 0.5, 0.1], atol=1e-12)

    def test_encoder_parameters_are_on_a_logarithmic_axis(self, frame):
        for axes in panels(encoder_budget(frame)):
            assert axes.get_xscale() == "log"
            assert axes.get_xlabel() == "encoder parameters"

    def test_tiny_gaps_leave_readable_ticks(self, frame):
        small = frame[frame["guide.family"] == "mixture"].assign(
            gap=0.01, approximation_gap=0.0, amortization_gap=0.01)  # fmt: skip
        assert list(panels(encoder_budget(small))[0].get_yticks()) == [0, 0.05, 0.1]

    def test_guides_without_parameters_or_gap_are_left_out(self, frame):
        frame.loc[frame["guide"] == "sign-guide", "parameters"] = 0
        frame.loc[frame["guide.family"] == "mixture", "gap"] = np.nan
        assert "sign-guide" not in legend(encoder_budget(frame))
        assert "mixture" not in legend(encoder_budget(frame))

    def test_a_gap_that_is_not_split_has_no_areas(self, frame):
        frame["approximation_gap"] = frame["amortization_gap"] = np.nan
        axes = panels(encoder_budget(frame))[0]
        assert not [one for one in axes.collections if isinstance(one, PolyCollection)]

    def test_a_table_without_encoders_is_refused(self, frame):
        with pytest.raises(DataError, match="guides with parameters"):
            encoder_budget(frame.assign(parameters=0))

    def test_a_missing_column_is_named(self, frame):
        with pytest.raises(UnknownNameError, match="approximation_gap"):
            encoder_budget(frame.drop(columns="approximation_gap"))


class TestFolding:
    def test_theory_is_log_of_modes_over_components(self, folding_frame):
        figure = study_figures(folding_frame, [{"name": "f", "kind": "folding"}])["f"]
        crosses = [line for line in panels(figure)[0].lines if line.get_marker() == "x"]
        found = [list(np.round(line.get_ydata(), 6)) for line in crosses]
        assert found == [[0, 0], [0.693147, 0], [1.386294, 0.693147]]

    def test_the_injective_control_needs_one_component(self, folding_frame):
        figure = study_figures(folding_frame, [{"name": "f", "kind": "folding"}])["f"]
        crosses = [line for line in panels(figure)[1].lines if line.get_marker() == "x"]
        assert all(not np.any(line.get_ydata()) for line in crosses)
        assert titles(figure) == ["folding", "injective"]


@pytest.mark.parametrize("block", [SWEEP, BUDGET], ids=lambda block: block["kind"])
class TestEveryStudyFigure:
    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_is_as_wide_as_asked_or_narrower(self, frame, block, width):
        (figure,) = study_figures(frame, [block], width=width).values()
        assert figure.get_figwidth() <= width + 1e-9

    def test_has_the_paper_of_its_theme(self, frame, block):
        papers = [
            to_hex(next(iter(study_figures(frame, [block], name).values())).get_facecolor())
            for name in ("light", "dark")
        ]
        assert papers == [LIGHT.paper, DARK.paper]

    def test_a_narrow_one_has_a_panel_below_the_other(self, frame, block):
        block = {**block, "panel": "model"} if block is SWEEP else block
        (figure,) = study_figures(frame, [block], width=NARROW).values()
        image_bytes(figure, "svg")
        assert len({round(axes.get_position().x0, 1) for axes in panels(figure)}) == 1

    def test_leaves_the_global_style_alone(self, frame, block):
        before = dict(rcParams)
        study_figures(frame, [block], "dark")
        assert dict(rcParams) == before

    def test_a_single_seed_is_enough(self, frame, block):
        (figure,) = study_figures(frame[frame["seed"] == 0], [block]).values()
        image_bytes(figure, "png")

    def test_only_the_rows_of_its_where_are_shown(self, frame, block):
        where = {"model": "residual-generator", "guide.width": [10, 100]}
        (figure,) = study_figures(frame, [{**block, "where": where}]).values()
        for axes in panels(figure):
            assert all(len(heights(bar)) == 2 for bar in bars(axes))

    def test_without_rows_it_is_left_out(self, frame, block):
        assert not study_figures(frame, [{**block, "where": {"model": "vae"}}])
        assert not study_figures(frame.iloc[:0], [block])

    def test_an_unknown_column_of_its_where_is_refused(self, frame, block):
        with pytest.raises(UnknownNameError, match=r"Did you mean 'model'"):
            study_figures(frame, [{**block, "where": {"modle": "vae"}}])


class TestDefault:
    def test_a_study_without_figures_gets_an_encoder_budget(self, frame):
        assert list(study_figures(frame, ())) == ["encoder_budget"]

    def test_not_without_encoders(self, frame):
        assert not default_figures(frame.assign(parameters=0))
        assert not default_figures(frame.drop(columns="gap"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("block", "message"),
        [({**SWEEP, "kind": "sweeep"}, "Did you mean 'sweep'"),
         ({**SWEEP, "treshold": 1}, "Did you mean 'threshold'"),
         ({**BUDGET, "x": "parameters"}, "key of a figure of the kind 'encoder-budget'")],
    )  # fmt: skip
    def test_unknown_kinds_and_keys_name_the_nearest(self, block, message):
        with pytest.raises(UnknownNameError, match=message):
            check_figures([block])

    def test_a_column_that_no_table_will_have_is_named_before_anything_runs(self):
        with pytest.raises(UnknownNameError, match=f"Did you mean '{SWEEP['y']}'"):
            check_figures([{**SWEEP, "y": f"{SWEEP['y']}x"}], {SWEEP["x"], SWEEP["y"]})

    @pytest.mark.parametrize("key", ["name", "x", "y"])
    def test_a_missing_key_is_named(self, key):
        with pytest.raises(SettingError, match=f"{key} is missing"):
            check_figures([{k: v for k, v in SWEEP.items() if k != key}])


class TestLegendAndTicks:
    def test_a_legend_is_broken_where_it_gets_too_wide(self):
        handles = line_handles(["a family with a long name"] * 5, LIGHT)
        assert legend_rows(handles, WIDE) == [[0, 1, 2, 3], [4]]
        assert legend_rows(handles, NARROW) == [[0], [1], [2], [3], [4]]

    def test_a_legend_is_read_line_by_line(self, frame):
        figure = encoder_budget(frame, width=NARROW)
        figure.draw_without_rendering()
        places = {
            text.get_text(): text.get_window_extent() for text in figure.legends[0].get_texts()
        }
        assert places["full"].y0 == pytest.approx(places["mixture"].y0, abs=2)

    def test_many_decades_have_a_tick_each(self):
        assert decade_ticks(0.5, 2e5) == [1, 10, 100, 1000, 10_000, 100_000]
