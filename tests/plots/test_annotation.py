"""Labels that keep their distance."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pyrolvm.plots.annotation import spread

positions = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(positions, st.floats(0.01, 0.3))
def test_neighbours_keep_the_distance(wanted, distance):
    assert np.all(np.diff(np.sort(spread(wanted, distance))) >= distance - 1e-9)


@given(positions)
def test_order_is_kept(wanted):
    moved = spread(wanted, 0.1)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(moved[order]) > 0)


def test_far_positions_stay():
    assert spread([0.9, 0.1, 0.5], 0.2).tolist() == [0.9, 0.1, 0.5]
