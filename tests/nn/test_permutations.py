"""Permutations of the corners of a cube."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core.errors import SettingError
from pyrolvm.nn.permutations import (
    EXPONENTIATION_DIMS,
    PERMUTATIONS,
    corner_numbers,
    corners,
    permutation_table,
)

ANY_DIMS = (1, 2, 3, 4, 8, 12, 16)
DIMS = {**dict.fromkeys(PERMUTATIONS, ANY_DIMS), "modular-exponentiation": EXPONENTIATION_DIMS}


@pytest.mark.parametrize(("name", "dim"), [(n, d) for n, dims in DIMS.items() for d in dims])
def test_every_corner_has_one_preimage(name, dim):
    table = permutation_table(name, dim)
    assert torch.equal(table.sort().values, torch.arange(2**dim))


def test_numbers_and_corners_are_inverse():
    numbers = torch.arange(2**5).reshape(2, 16)
    assert torch.equal(corner_numbers(corners(numbers, 5)), numbers)


def test_zero_counts_as_positive():
    assert corner_numbers(torch.tensor([0.0, -1.0])).item() == 1


def test_each_bit_of_the_gray_code_is_a_product_of_neighbours():
    signs = corners(torch.arange(2**6), 6)
    words = corners(permutation_table("gray-code", 6), 6)
    assert torch.equal(words[:, :-1], -signs[:, :-1] * signs[:, 1:])
    assert torch.equal(words[:, -1], signs[:, -1])


def test_the_gray_code_is_inverted_by_parities():
    words = (corners(permutation_table("gray-code", 6), 6) > 0).long()
    parities = words.flip(-1).cumsum(-1).flip(-1) % 2
    assert torch.equal(2.0 * parities - 1, corners(torch.arange(2**6), 6))


def test_signed_bits_are_a_signed_permutation_matrix():
    signs = corners(torch.arange(2**4), 4)
    matrix = signs.T @ corners(permutation_table("signed-bits", 4, seed=3), 4) / 16
    assert torch.equal(matrix.abs().sum(0), torch.ones(4))
    assert torch.equal(matrix.abs().sum(1), torch.ones(4))


def test_exponentiation_is_modulo_a_fermat_prime():
    table = permutation_table("modular-exponentiation", 4)
    assert table[:5].tolist() == [1 - 1, 3 - 1, 9 - 1, 10 - 1, 13 - 1]


@pytest.mark.parametrize("dim", [1, 3, 6, 12])
def test_exponentiation_without_a_prime_is_refused_with_those_that_do(dim):
    with pytest.raises(SettingError, match=f"d in 2, 4, 8, 16; but d is {dim}"):
        permutation_table("modular-exponentiation", dim)
