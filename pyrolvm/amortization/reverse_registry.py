"""Reverse kernels by name."""

from __future__ import annotations

from pyrolvm.amortization.affine_reverse import AffineReverse, LinearisedReverse
from pyrolvm.amortization.reverse_kernels import AnnealedReverse, GradientReverse, ReverseKernels
from pyrolvm.core import UnknownNameError

REVERSE_KERNELS: dict[str, type[ReverseKernels]] = {
    "linearised": LinearisedReverse,
    "learned": AffineReverse,
    "annealed": AnnealedReverse,
    "stationary": GradientReverse,
}


def make_reverse(name: str, num_steps: int, dim: int) -> ReverseKernels:
    """Build reverse kernels from their name.

    Args:
        name: A key of :data:`REVERSE_KERNELS`.
        num_steps: Number of steps T of the chain.
        dim: Dimension D of its positions.

    Raises:
        UnknownNameError: If there are none of this name.
    """
    if name not in REVERSE_KERNELS:
        raise UnknownNameError("kind of reverse kernels", name, REVERSE_KERNELS)
    return REVERSE_KERNELS[name](num_steps, dim)
