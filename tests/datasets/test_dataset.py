import math

import pytest
import torch

from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.datasets import Dataset
from pyrolvm.datasets.dataset import kind_of


def make(**changes):
    fields = {"name": "toy", "train": torch.zeros(4, 6), "kind": "continuous"}
    return Dataset(**(fields | {"source": "a test", "licence": "none"} | changes))


def test_size_counts_all_rows():
    assert make().size == 4
    assert make(test=torch.zeros(3, 6)).size == 7
    assert make(test=torch.zeros(3, 6), valid=torch.zeros(2, 6)).size == 9
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
        ({"valid": torch.zeros(4, 5)}, "valid rows of 'toy' have 5 entries"),
        ({"valid": torch.full((4, 6), 0.5), "kind": "binary"}, "valid rows.*said to be binary"),
        ({"valid_labels": torch.zeros(4, dtype=torch.int64)}, "valid labels"),
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


class TestSubset:
    def test_rows_are_drawn_from_each_part_with_their_labels(self):
        rows = torch.arange(20.0)[:, None]
        labels = torch.arange(20)
        data = make(
            train=rows, train_labels=labels, valid=rows + 100, test=rows[:5] + 200,
            test_labels=labels[:5],
        ).subset(8, seed=1)  # fmt: skip
        assert torch.equal(data.train[:, 0].long(), data.train_labels)
        assert torch.equal(data.test[:, 0].long() - 200, data.test_labels)
        assert len(data.train.unique()) == len(data.valid.unique()) == 8
        assert data.valid.min() >= 100
        assert data.valid_labels is None
        assert sorted(data.test_labels.tolist()) == [0, 1, 2, 3, 4]

    def test_rows_are_uniform_over_a_sorted_file(self):
        data = make(train=torch.arange(4.0)[:, None])
        first = torch.stack([data.subset(1, seed=seed).train[0, 0] for seed in range(400)])
        counts = first.long().bincount(minlength=4)
        assert (counts - 100).abs().max() < 5 * math.sqrt(400 * 0.25 * 0.75)

    def test_seed_decides_and_the_global_state_is_left_alone(self):
        data = make(train=torch.arange(50.0)[:, None])
        before = torch.random.get_rng_state()
        assert torch.equal(data.subset(9, seed=3).train, data.subset(9, seed=3).train)
        assert not torch.equal(data.subset(9, seed=3).train, data.subset(9, seed=4).train)
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize("changes", [{"size": 0}, {"size": 2, "seed": -1}])
    def test_impossible_settings_are_refused(self, changes):
        with pytest.raises(SettingError, match=r"at least 1|seed"):
            make().subset(**changes)
