import math

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import Dataset
from pyrolvm.datasets.dataset import kind_of


def make(**changes):
    fields = {"name": "toy", "train": torch.zeros(4, 6), "kind": "continuous"}
    return Dataset(**(fields | {"source": "a test", "licence": "none"} | changes))


def test_size_counts_all_rows():
    assert make().size == 4
    assert make(test=torch.zeros(3, 6)).size == 7
    assert make().dim == 6


def test_fields_cannot_be_changed():
    with pytest.raises(AttributeError):
        make().name = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": torch.zeros(4)}, r"shape \(N, D\)"),
        ({"train": torch.zeros(0, 6)}, r"shape \(N, D\)"),
        ({"train": torch.zeros(4, 6, dtype=torch.float64)}, "float32"),
        ({"test": torch.zeros(4, 5)}, "test rows of 'toy' have 5 entries"),
        ({"test": torch.full((1, 6), math.nan)}, "test rows.*6 entries that are NaN"),
        ({"kind": "binary", "train": torch.full((4, 6), 2.0)}, "said to be binary"),
        ({"kind": "counts", "train": torch.full((4, 6), 0.5)}, "said to be counts"),
        ({"image_shape": (2, 2)}, "cannot be images"),
        ({"train_labels": torch.zeros(3, dtype=torch.int64)}, r"shape \(4,\)"),
        ({"train_labels": torch.zeros(4)}, "whole number"),
        ({"test_labels": torch.zeros(4, dtype=torch.int64)}, "test labels"),
    ],
)
def test_contradictory_fields_are_refused(changes, message):
    with pytest.raises(DataError, match=message):
        make(**changes)


def test_first_entry_that_is_not_finite_is_located():
    rows = torch.zeros(4, 6)
    rows[2, 5] = math.inf
    with pytest.raises(DataError, match="row 2, column 5"):
        make(train=rows)


@pytest.mark.parametrize(
    ("values", "kind"),
    [([0, 1, 1], "binary"), ([0, 2], "counts"), ([0, 0.5], "continuous"), ([-1, 1], "continuous")],
)
def test_kind_is_the_narrowest_that_fits(values, kind):
    assert kind_of(torch.tensor(values)) == kind
