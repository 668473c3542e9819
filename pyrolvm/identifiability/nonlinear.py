r"""The last rung: is there any smooth map from one set of codes to the other?

.. math:: \hat z \mapsto A \hat z + b + r(\hat z)

An affine map by least squares, and its residual r by nearest neighbours; both are judged on rows
that they have not seen. Codes that agree up to an affine map lose nothing to the neighbours.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError, require_at_least, require_seed
from pyrolvm.identifiability.codes import Array, paired_codes
from pyrolvm.identifiability.ladder import raw_r2

NEIGHBOURS = 10
FOLDS = 5


def nonlinear_r2(
    z: Float[Tensor, "data D"],
    z_hat: Float[Tensor, "data D"],
    *,
    num_neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> float:
    """Raw R² of z and its prediction from z_hat by nearest neighbours, five-fold held out.

    Args:
        z: Reference codes, shape ``(N, D)``.
        z_hat: Codes of the same data, same shape.
        num_neighbours: Rows that a residual is averaged over, nearer ones with more weight.
        seed: Of the folds.

    Returns:
        Mean over coordinates; at most 1, about 0 or a little less where there is no such map. With
        many coordinates and few rows neighbours are far away, and it is too low.

    Raises:
        DataError: As :func:`pyrolvm.identifiability.raw_r2`, or if there are too few rows.
    """
    found = held_out_prediction(z, z_hat, num_neighbours=num_neighbours, seed=seed)
    return raw_r2(*map(torch.from_numpy, found))


def held_out_prediction(
    z: Float[Tensor, "data D"],
    z_hat: Float[Tensor, "data D"],
    *,
    num_neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> tuple[Array, Array]:
    """Predict each row of z from its row of z_hat by a map that was fitted to other rows.

    Arguments and errors as :func:`nonlinear_r2`.

    Returns:
        z and its prediction, both ``(N, D)``.
    """
    require_at_least(1, num_neighbours=num_neighbours)
    require_seed(seed)
    reference, codes = paired_codes(z, z_hat)
    least = max(2 * num_neighbours, 2 * reference.shape[1] + 2)
    if len(reference) < least:
        raise DataError(
            f"The nonlinear R² needs at least {least} rows here, to fit to most of them and to "
            f"judge on the others, but got {len(reference)}. Encode more data."
        )
    fold = np.random.default_rng(seed).permutation(len(reference)) % FOLDS
    predicted = np.empty_like(reference)
    for held_out in range(FOLDS):
        out = fold == held_out
        predicted[out] = _predict(reference[~out], codes[~out], codes[out], num_neighbours)
    return reference, predicted


def _predict(reference: Array, codes: Array, new: Array, num_neighbours: int) -> Array:
    """Fit to pairs of rows, and map the codes of other rows."""
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsRegressor

    affine = LinearRegression().fit(codes, reference)
    scale = codes.std(0)
    neighbours = KNeighborsRegressor(min(num_neighbours, len(codes)), weights="distance")
    neighbours.fit(codes / scale, reference - affine.predict(codes))
    return np.asarray(affine.predict(new) + neighbours.predict(new / scale))
