"""Library calls leave the user's random numbers alone."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from pyrolvm.core.randomness import own_randomness


def draws():
    return torch.rand(()).item(), float(np.random.rand()), random.random()  # noqa: NPY002


def test_every_state_is_given_back():
    with own_randomness(1):
        before = draws()
        with own_randomness(5):
            draws()
        after = draws()
    with own_randomness(1):
        assert (before, after) == (draws(), draws())


def test_they_are_given_back_after_an_error():
    with own_randomness(1):
        with pytest.raises(ZeroDivisionError), own_randomness(5):
            raise ZeroDivisionError
        after = draws()
    with own_randomness(1):
        assert after == draws()


@pytest.mark.parametrize("seed", [0, 7, 2**40])
def test_a_seed_gives_the_same_numbers_again(seed):
    with own_randomness(seed):
        first = draws()
    with own_randomness(seed):
        assert first == draws()


def test_without_a_seed_numbers_go_on_from_where_they_are():
    with own_randomness(1):
        with own_randomness():
            inside = draws()
        assert inside == draws()


def test_a_seed_is_that_of_torch():
    with own_randomness(3):
        found = torch.rand(4)
    assert torch.equal(found, torch.rand(4, generator=torch.Generator().manual_seed(3)))
