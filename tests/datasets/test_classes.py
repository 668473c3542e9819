"""Some classes of a data set."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core import DataError
from pyrolvm.datasets import load


def test_rows_of_the_classes_keep_their_split():
    whole, some = load("digits", seed=3), load("digits:0-2+7", seed=3)
    for rows, labels, part, part_labels in (
        (whole.train, whole.train_labels, some.train, some.train_labels),
        (whole.test, whole.test_labels, some.test, some.test_labels),
    ):
        chosen = torch.isin(labels, torch.tensor([0, 1, 2, 7]))
        assert torch.equal(part, rows[chosen])
        assert torch.equal(part_labels, labels[chosen])


def test_classes_apart_share_no_rows_and_make_up_the_whole():
    sizes = [load(f"digits:{classes}").size for classes in ("0-4", "5-9")]
    assert sum(sizes) == load("digits").size


def test_the_name_says_the_classes():
    assert load("digits:4").name == "digits:4"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits:", "written like 0-4"),
        ("digits:4-2", "written like 0-4"),
        ("digits:1, 2", "written like 0-4"),
        ("digits:8-12", r"but \[10, 11, 12\] were asked"),
        ("circle:1", "has no classes"),
    ],
)
def test_what_is_no_class_is_refused(name, message):
    with pytest.raises(DataError, match=message):
        load(name)
