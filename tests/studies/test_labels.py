"""Short names of generators and guides."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pyrolvm.studies.labels import labels


def table(**columns):
    size = len(next(iter(columns.values())))
    return pd.DataFrame({"model": ["folding"] * size, "guide": ["amortized"] * size, **columns})


def test_only_arguments_that_vary_are_named():
    frame = table(**{"model.num_folds": [1, 2], "model.noise_scale": [0.1, 0.1]})
    assert list(labels(frame, "model")) == ["folding, 1 fold", "folding, 2 folds"]


def test_an_encoder_into_a_family_is_named_by_the_family():
    frame = table(**{"guide.family": ["full", "mixture"], "guide.num_components": [np.nan, 4.0]})
    assert list(labels(frame, "guide")) == ["full", "mixture"]


def test_components_are_counted_where_they_vary():
    frame = table(**{"guide.family": ["mixture"] * 2, "guide.num_components": [1.0, 4.0]})
    assert list(labels(frame, "guide")) == ["mixture, 1 component", "mixture, 4 components"]


def test_sizes_of_an_encoder_are_no_part_of_its_name():
    frame = table(**{"guide.family": ["full"] * 2, "guide.hidden": ["4", "64"],
                     "guide.width": [4, 64]})  # fmt: skip
    assert list(labels(frame, "guide")) == ["full", "full"]


def test_what_varies_is_judged_among_programs_of_one_name():
    frame = table(**{"model.permutation": [None, "gray-code"], "model.slope": [0.5, np.nan]})
    frame["model"] = ["leaky-generator", "sign-permutation"]
    assert list(labels(frame, "model")) == ["leaky-generator", "sign-permutation"]


def test_rows_keep_their_index():
    frame = table(**{"model.slope": [0.5, 1.0]}).set_index(pd.Index([7, 3]))
    found = labels(frame, "model")
    assert dict(found) == {7: "folding, slope 0.5", 3: "folding, slope 1"}
