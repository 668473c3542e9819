"""The command that trains a rate plane and writes its page, in its smallest size."""

from __future__ import annotations

import pytest

from pyrolvm.core.errors import SettingError
from pyrolvm.report.rate_plane_command import run


def test_it_leaves_a_page_figures_and_the_trained_models(tmp_path):
    plane, page = run("smoke", None, None, "mlp", tmp_path)
    assert sorted(zip(plane.frame["weight_1"], plane.frame["weight_2"], strict=True)) == [
        (0.1, 0.1), (0.1, 10.0), (10.0, 0.1), (10.0, 10.0),
    ]  # fmt: skip
    assert page.parent == tmp_path
    assert {path.name for path in tmp_path.glob("figures/*.svg")} == {
        "fano_curve.svg", "linear_rate_plane.svg", "quality_against_rates.svg", "rate_plane.svg",
        "task_maps.svg",
    }  # fmt: skip
    assert len(list(tmp_path.glob("members/*"))) == 4


def test_several_data_sets_are_refused():
    with pytest.raises(SettingError, match="one data set at a time"):
        run("smoke", "digits,circle", None, "mlp", None)
