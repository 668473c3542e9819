"""The diagnosis of pairs that know nothing of this project, as a person asks for it."""

from __future__ import annotations

import warnings

import pytest

import pyrolvm as lvm
from tests.pairs.collection import PAIRS


def diagnosed(name):
    pair = PAIRS[name]().train()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*one after another")
        return lvm.diagnose(
            pair.model, pair.guide, pair.data, effort="quick", num_particles=100, progress=False
        )


@pytest.mark.parametrize("name", ["cevae", "semi-supervised-summed"])
def test_each_datum_has_its_figures(name):
    report = diagnosed(name)
    assert len(report.per_datum) == len(PAIRS[name]().data["x"] if name == "cevae" else range(12))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PAIRS if PAIRS[name]().outside])
def test_a_data_set_that_is_one_datum_names_the_site(name):
    report = diagnosed(name)
    assert f"one datum: {PAIRS[name]().outside}" in str(report)
