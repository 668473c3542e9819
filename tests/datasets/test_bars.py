import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.datasets import bars, bars_entropy


def enumerated(side):
    """Probability of every image, from the definition."""
    probabilities = Counter()
    for bits in itertools.product((0, 1), repeat=side):
        horizontal = np.repeat(np.array(bits)[:, None], side, axis=1)
        for image in (horizontal, horizontal.T):
            probabilities[tuple(image.flatten().tolist())] += 0.5 * 0.5**side
    return probabilities


@pytest.mark.parametrize("side", [1, 2, 3, 4, 6])
def test_entropy_is_that_of_the_enumerated_images(side):
    chances = np.array(list(enumerated(side).values()))
    assert chances.sum() == pytest.approx(1.0)
    assert bars_entropy(side) == pytest.approx(-(chances * np.log(chances)).sum(), rel=1e-12)


def test_images_come_with_their_enumerated_frequencies():
    size = 20_000
    drawn = Counter(tuple(row) for row in bars(size, side=3, seed=1).train.int().tolist())
    chances = enumerated(3)
    assert drawn.keys() == chances.keys()
    for image, chance in chances.items():
        assert abs(drawn[image] / size - chance) < 5 * math.sqrt(chance * (1 - chance) / size)


def test_mean_negative_log_likelihood_of_the_truth_is_the_entropy():
    chances = enumerated(4)
    rows = bars(20_000, side=4, seed=2).train.int().tolist()
    nats = np.array([-math.log(chances[tuple(row)]) for row in rows])
    assert abs(nats.mean() - bars_entropy()) < 5 * nats.std() / math.sqrt(len(nats))


def test_label_is_the_direction():
    data = bars(500, side=4)
    images = data.train.reshape(-1, 4, 4)
    horizontal, vertical = (images[data.train_labels == label] for label in (0, 1))
    assert len(horizontal) > 150
    assert len(vertical) > 150
    assert torch.equal(horizontal, horizontal[:, :, :1].expand(-1, 4, 4))
    assert torch.equal(vertical, vertical[:, :1, :].expand(-1, 4, 4))


def test_data_set_is_as_asked():
    data = bars(30, side=5, test_size=7)
    assert data.train.shape == (30, 25)
    assert data.test.shape == (7, 25)
    assert data.image_shape == (5, 5)
    assert data.kind == "binary"
    assert bars(3, test_size=0).test is None


def test_seed_decides_the_rows_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    assert torch.equal(bars(50, seed=5).train, bars(50, seed=5).train)
    assert not torch.equal(bars(50, seed=5).train, bars(50, seed=6).train)
    assert not torch.equal(bars(50).train, bars(50).test)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("changes", [{"size": 0}, {"side": 0}, {"test_size": -1}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(DataError, match=r"needs size.*got size="):
        bars(**changes)


def test_entropy_of_no_bars_is_refused():
    with pytest.raises(SettingError, match="side"):
        bars_entropy(0)
