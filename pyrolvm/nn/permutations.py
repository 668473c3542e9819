r"""Bijections of the cube :math:`\{-1, 1\}^d` as tables, and how cheap each is to compute.

A corner is numbered by its bits: bit i (of weight :math:`2^i`) is 1 where coordinate i is +1.

References:
    Pareek & Risteski (2021) take a one-way permutation for f. None of these is one-way (a discrete
    logarithm modulo a Fermat prime is easy); they grow harder to invert for a small network.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from pyrolvm.core.errors import SettingError, UnknownNameError

MAX_DIM = 16
"""Most coordinates that a table serves."""

EXPONENTIATION_DIMS = (2, 4, 8, 16)
"""Dimensions d in which 2^d + 1 is a Fermat prime of which 3 is a primitive root."""


def corners(numbers: Int[Tensor, "*batch"], dim: int) -> Float[Tensor, "*batch d"]:
    """Return the corners of the cube with these numbers.

    >>> corners(torch.tensor([0, 1, 2]), 2).tolist()
    [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    """
    return 2.0 * _bits(numbers, dim) - 1.0


def corner_numbers(z: Float[Tensor, "*batch d"]) -> Int[Tensor, "*batch"]:
    """Return the number of the orthant that each vector lies in; 0 counts as positive."""
    return _numbers((z >= 0).long())


def permutation_table(name: str, dim: int, seed: int = 0) -> Int[Tensor, " corner"]:
    """Return the number of f(s) for each corner s.

    Args:
        name: A key of :data:`PERMUTATIONS`.
        dim: Number of coordinates d.
        seed: Of the random ones.

    Raises:
        UnknownNameError: If there is no such permutation.
        SettingError: If it does not exist for this many coordinates.

    >>> permutation_table("gray-code", 2).tolist()
    [0, 1, 3, 2]
    """
    if name not in PERMUTATIONS:
        raise UnknownNameError("permutation", name, PERMUTATIONS)
    if not 1 <= dim <= MAX_DIM:
        raise SettingError(
            f"A permutation of 2^d corners is a table for d from 1 to {MAX_DIM}, but d is {dim}."
        )
    return PERMUTATIONS[name](dim, Generator().manual_seed(seed))


def signed_bits(dim: int, generator: Generator) -> Int[Tensor, " corner"]:
    """Shuffle the coordinates and flip some: linear, each output depends on one input."""
    order = torch.randperm(dim, generator=generator)
    flips = torch.randint(2, (dim,), generator=generator)
    return _numbers(_bits(torch.arange(2**dim), dim)[:, order] ^ flips)


def gray_code(dim: int, generator: Generator) -> Int[Tensor, " corner"]:
    """Take the exclusive or of neighbours; the inverse takes parities of up to d inputs."""
    number = torch.arange(2**dim)
    return number ^ (number >> 1)


def modular_exponentiation(dim: int, generator: Generator) -> Int[Tensor, " corner"]:
    """Map s to 3^s − 1 modulo 2^d + 1; the inverse is a discrete logarithm.

    Raises:
        SettingError: If 3 is not a primitive root of a prime 2^d + 1.
    """
    if dim not in EXPONENTIATION_DIMS:
        wanted = ", ".join(map(str, EXPONENTIATION_DIMS))
        raise SettingError(
            "Modular exponentiation permutes the corners only where 2^d + 1 is a Fermat prime "
            f"with primitive root 3, for d in {wanted}; but d is {dim}. Choose one of these."
        )
    return torch.tensor([pow(3, number, 2**dim + 1) - 1 for number in range(2**dim)])


def random_permutation(dim: int, generator: Generator) -> Int[Tensor, " corner"]:
    """Draw any permutation; the generator has to look up a table of 2^d rows too."""
    return torch.randperm(2**dim, generator=generator)


PERMUTATIONS: dict[str, Callable[[int, Generator], Tensor]] = {
    "signed-bits": signed_bits,
    "gray-code": gray_code,
    "modular-exponentiation": modular_exponentiation,
    "random": random_permutation,
}


def _bits(numbers: Tensor, dim: int) -> Tensor:
    return (numbers.unsqueeze(-1) >> torch.arange(dim, device=numbers.device)) & 1


def _numbers(bits: Tensor) -> Tensor:
    return (bits << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)
