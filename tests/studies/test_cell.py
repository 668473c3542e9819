"""The hash of a cell: the same everywhere, for the same configuration."""

from __future__ import annotations

import subprocess
import sys

from pyrolvm.studies import Cell
from pyrolvm.studies.cell import as_text

CONFIGURATION = {
    "guide": {"family": "full", "hidden": [64, 64], "name": "amortized", "standardise": True},
    "learning_rate": 0.003,
    "model": {"name": "linear-gaussian", "noise_scale": 1.0, "prior_loc": None},
    "seed": 0,
}


def test_the_hash_is_pinned():
    assert Cell(CONFIGURATION).key == "32b869e30cb7"


def test_the_hash_does_not_depend_on_the_order_of_keys():
    turned = dict(reversed(CONFIGURATION.items()))
    assert Cell(turned).key == Cell(CONFIGURATION).key


def test_another_process_finds_the_same_hash():
    code = f"from pyrolvm.core.checkpoint import fingerprint; print(fingerprint({CONFIGURATION}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Cell(CONFIGURATION).key


def test_equal_values_are_written_byte_for_byte_alike():
    assert as_text({"b": 0.1, "a": [1]}) == as_text({"a": [1], "b": 0.1})
