import pytest
import torch
from sklearn.datasets import load_digits

from pyrolvm.datasets import digits


def test_all_rows_are_there_once_with_their_labels():
    data = digits()
    pixels, classes = load_digits(return_X_y=True)
    assert data.test is not None
    assert data.train_labels is not None
    assert data.test_labels is not None
    labels = torch.cat([data.train_labels, data.test_labels])
    ours = torch.column_stack([labels, torch.cat([data.train, data.test]) * 16])
    theirs = torch.column_stack([torch.from_numpy(classes), torch.from_numpy(pixels)]).float()
    assert torch.equal(ours.unique(dim=0), theirs.unique(dim=0))
    assert data.size == 1797


def test_pixels_lie_between_0_and_1():
    data = digits()
    assert data.train.min() == 0.0
    assert data.train.max() == 1.0
    assert data.image_shape == (8, 8)


def test_seed_decides_the_split():
    assert torch.equal(digits(seed=3).train, digits(seed=3).train)
    assert not torch.equal(digits(seed=3).train, digits(seed=4).train)


def test_split_leaves_the_global_random_state_alone():
    before = torch.random.get_rng_state()
    digits()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_nothing_is_held_out_on_request():
    data = digits(test_size=0)
    assert data.train.shape == (1797, 64)
    assert data.test is None


@pytest.mark.parametrize("test_size", [-1, 1797])
def test_split_without_training_rows_is_refused(test_size):
    with pytest.raises(ValueError, match="test_size"):
        digits(test_size=test_size)
