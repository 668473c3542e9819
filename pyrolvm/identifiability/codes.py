"""Two sets of latent codes of the same data, checked before anything is computed from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError

Array = NDArray[np.float64]

CONSTANT = 1e-12
"""Range of a coordinate, as a share of its size, below which it is constant to rounding."""


def paired_codes(z: Any, z_hat: Any) -> tuple[Array, Array]:
    """Read two matrices of codes whose rows belong to the same data.

    Args:
        z: Codes, shape ``(N, D)``.
        z_hat: Other codes of the same data, same shape.

    Returns:
        Both in double precision.

    Raises:
        DataError: If the shapes differ or are no matrices, there are fewer than D + 2
            rows, a value is not finite, or a coordinate is constant.
    """
    first, second = _matrix(z, "z"), _matrix(z_hat, "z_hat")
    if first.shape != second.shape:
        raise DataError(
            f"Codes are compared row by row and need one shape, but z is {first.shape} and z_hat "
            f"{second.shape}. Take the codes of the same data, in the same latent dimension."
        )
    rows, dim = first.shape
    if rows <= dim + 1:
        raise DataError(
            f"Codes need at least 2 more rows than coordinates, but there are {rows} rows of "
            f"{dim}: an affine map leads from any such codes to any others. Encode more data."
        )
    for name, codes in (("z", first), ("z_hat", second)):
        _refuse_useless(codes, name)
    return first, second


def _matrix(codes: Any, name: str) -> Array:
    tensor = codes if isinstance(codes, Tensor) else torch.as_tensor(np.asarray(codes))
    if tensor.dim() != 2 or tensor.numel() == 0:
        raise DataError(
            f"{name} should be a matrix of codes (N, D), one datum a row, but its shape is "
            f"{tuple(tensor.shape)}."
        )
    return np.asarray(tensor.detach().cpu().double().numpy())


def _refuse_useless(codes: Array, name: str) -> None:
    if not np.isfinite(codes).all():
        row = int(np.argmax(~np.isfinite(codes).all(1)))
        raise DataError(
            f"Codes must be finite, but row {row} of {name} holds NaN or infinity. Leave such "
            "rows out of both."
        )
    size = np.maximum(np.abs(codes).max(0), np.finfo(np.float64).tiny)
    flat = np.flatnonzero(np.ptp(codes, axis=0) <= CONSTANT * size)
    if len(flat):
        raise DataError(
            f"Codes must vary, but coordinate {flat[0]} of {name} is constant (a latent that is "
            "not used). Leave it out of both."
        )
