"""The ladder's figure: a mark for each model and rung, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyrolvm.core.errors import DataError
from pyrolvm.identifiability import LADDER
from pyrolvm.plots import identifiability_ladder
from pyrolvm.plots.identifiability_ladder import WORDS
from pyrolvm.plots.theme import NARROW, WIDE


def frame_of(raw, *, used=True):
    rows = [
        {"run_a": a, "run_b": b, "metric": metric, "value": value, "low": value - 0.1,
         "high": value + 0.01, "used": used or a == "truth"}
        for a, b in (("run 1", "run 2"), ("run 1", "run 3"), ("truth", "run 1"))
        for metric, value in ((m, raw if m == "raw_r2" else 0.9) for m in LADDER)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_a_rung_for_each_figure_and_a_mark_for_each_model(theme):
    figure = identifiability_ladder({"fixed": frame_of(0.98), "VAE": frame_of(-2.0)}, theme)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [WORDS[m] for m in LADDER]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["fixed", "VAE"]
    medians = [line for line in axes.lines if line.get_markersize() == 7]
    assert len(medians) == 2 * len(LADDER)
    lowest = sorted(line.get_xdata()[0] for line in medians)
    assert lowest[0] == -1.0
    assert lowest[-1] == pytest.approx(0.98)
    assert "<" in {line.get_marker() for line in axes.lines}


def test_the_label_of_the_axis_takes_two_lines_on_a_phone():
    labels = [
        identifiability_ladder({"a": frame_of(0.5)}, width=width).axes[0].get_xlabel()
        for width in (WIDE, NARROW)
    ]
    assert [label.count("\n") for label in labels] == [0, 1]


def test_every_figure_of_the_ladder_has_words():
    assert set(LADDER) <= set(WORDS)


def test_intervals_are_drawn_where_they_are():
    (axes,) = identifiability_ladder({"fixed": frame_of(0.5)}).axes
    segments = np.concatenate([c.get_segments() for c in axes.collections])
    np.testing.assert_allclose(sorted({s[0, 0] for s in segments.round(6)}), [0.4, 0.8])


def test_other_tables_are_refused():
    with pytest.raises(DataError, match="lacks low"):
        identifiability_ladder({"a": frame_of(0.5).drop(columns="low")})
    with pytest.raises(DataError, match="at least one"):
        identifiability_ladder({})
    with pytest.raises(DataError, match="no pair of runs"):
        identifiability_ladder({"a": frame_of(0.5, used=False)})
