"""Studies of the cheapest cells there are."""

from __future__ import annotations

import pytest

from pyrolvm.studies import Study

TINY = {
    "model": {"name": "linear-gaussian", "latent_dim": 1, "obs_dim": 2},
    "guide": {"name": "full", "hidden": [[]]},
    "data": "simulated:20",
    "steps": 2,
    "batch_size": 0,
    "test_size": 4,
    "particles": 20,
    "oracle_steps": 0,
}


@pytest.fixture
def tiny():
    """Make a study of tiny cells, with some keys changed."""

    def make(name="tiny", **changes):
        return Study(name, [{**TINY, **changes}])

    return make
