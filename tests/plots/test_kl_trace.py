"""The figure of a KL trace: curves where the frame has them, and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pyrolvm.core.errors import DataError
from pyrolvm.plots import kl_trace


@pytest.fixture
def frame():
    kl = np.array([3.0, 1.0, 0.5])
    return pd.DataFrame(
        {"step": [0, 10, 20], "log_evidence": [-5.0, -3.0, -2.5], "elbo": [-8.0, -4.0, -3.0]}
        | {"kl": kl, "kl_10": 0.5 * kl, "kl_50": 0.9 * kl, "kl_90": 2 * kl}
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_likelihood_and_kl(frame, theme):
    figure = kl_trace({"diagonal": frame, "full": frame}, theme)
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), -frame["log_evidence"])
    np.testing.assert_array_equal(right.lines[0].get_ydata(), frame["kl"])
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["diagonal", "full"]
    assert "nats" in left.get_ylabel()
    assert "nats" in right.get_ylabel()


def test_other_tables_are_refused(frame):
    with pytest.raises(DataError, match="lacks kl"):
        kl_trace({"a": frame.drop(columns="kl")})
    with pytest.raises(DataError, match="at least one"):
        kl_trace({})
