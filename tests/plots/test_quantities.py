"""Numbers as text."""

from __future__ import annotations

import math

import pytest

from pyrolvm.plots.quantities import number, percent, with_error


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1.23456, 0.0123, "1.235 ± 0.012"),
        (-123456.7, 12.3, "−123,457 ± 12"),
        (3e-14, 1e-15, "0"),
        (-0.0001, 0.02, "0.000 ± 0.020"),
        (1.5, math.nan, "1.500"),
        (1.5, math.inf, "1.500"),
        (math.nan, 0.1, "–"),
        (1.0, 7e-14, "1.000"),
        (2e-6, 3e-7, "2.000e−06 ± 3e−07"),
    ],
)
def test_estimate(value, error, text):
    assert with_error(value, error) == text


def test_sign_stands_before_the_number():
    assert with_error(0.5, 0.01, "≥") == "≥ 0.500 ± 0.010"


def test_missing_number_has_no_sign():
    assert with_error(math.nan, math.nan, "≥") == "–"


@pytest.mark.parametrize(("value", "text"), [(0.0210, "0.0210"), (math.inf, "∞"), (0, "0")])
def test_plain_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.0028, "0.3 %"), (0.999, "99.9 %"), (1.0, "100 %")])
def test_a_few_data_are_not_rounded_away(share, text):
    assert percent(share) == text
