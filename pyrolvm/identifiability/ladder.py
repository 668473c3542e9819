r"""The ladder of indeterminacies: how well two sets of codes agree, under ever larger alignments.

.. math:: R^2(z, \hat z) = \frac1D \sum_i
          \Big(1 - \frac{\sum_n (z_{ni} - \hat z_{ni})^2}{\sum_n (z_{ni} - \bar z_i)^2}\Big)

The first rung on which codes agree tells what is left open: nothing (raw R²), signs, order and
scale (MCC), a rotation, an affine map, or a nonlinear one. Codes that agree as they stand agree on
all rungs. Others need not agree on all higher ones: scales are taken out by MCC, and not by a
rotation. MCC alone sees no difference between the first three.

Figures are means over coordinates, or over the variance of all: with many coordinates, one that
differs may be lost in them.

All figures here are functions of the means, covariances and ranks of the codes.

References:
    Hyvärinen & Morioka (2016), Unsupervised Feature Extraction by Time-Contrastive Learning (MCC).
    Schönemann (1966), A Generalized Solution of the Orthogonal Procrustes Problem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.identifiability.codes import Array, paired_codes
from pyrolvm.identifiability.moments import Moments

Correlation = Literal["pearson", "spearman"]
CORRELATIONS = ("pearson", "spearman")
SINGULAR = 1e-12
"""Share of the largest eigenvalue of a correlation matrix below which a direction is empty."""


def raw_r2(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    """Share of the variance of z that z_hat explains as it stands, without any alignment.

    Args:
        z: Reference codes, shape ``(N, D)``.
        z_hat: Codes of the same data, same shape.

    Returns:
        Mean over coordinates; 1 where the codes are equal, and without a lower limit.

    Raises:
        DataError: If the codes cannot be compared: shapes differ, fewer than D + 2 rows, a
            value that is not finite, or a constant coordinate.

    >>> import torch
    >>> z = torch.randn(100, 2)
    >>> round(raw_r2(z, z), 6), round(raw_r2(z - z.mean(0), z.mean(0) - z), 6)
    (1.0, -3.0)
    """
    return _of_data(raw_of, z, z_hat)


def sign_r2(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    """Raw R² after each coordinate of z_hat was mirrored where that helps, at the best point.

    The point is free, as reflections that survive may be at any mean, and the mean of few data is
    not quite it. Coordinates that are not mirrored are not shifted either, and all keep their
    order and scale. Arguments, result and errors as :func:`raw_r2`.
    """
    return _of_data(sign_of, z, z_hat)


def signed_correlation(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    """Mean correlation of equally numbered coordinates: blind to scale, but not to sign and order.

    Arguments and errors as :func:`raw_r2`; the result lies between −1 and 1.
    """
    return _of_data(signed_of, z, z_hat)


def mcc(
    z: Float[Tensor, "data D"],
    z_hat: Float[Tensor, "data D"],
    correlation: Correlation = "pearson",
) -> float:
    """Mean correlation coefficient: coordinates matched one to one, signs and scales ignored.

    The matching has the largest sum of absolute correlations.

    Args:
        z: Codes, shape ``(N, D)``.
        z_hat: Codes of the same data, same shape.
        correlation: ``"pearson"``, or ``"spearman"``, which also ignores monotone maps of single
            coordinates.

    Returns:
        Between 0 and 1; of independent codes not 0 but some 1 / √N, more with many coordinates.

    Raises:
        DataError: As :func:`raw_r2`.
        UnknownNameError: If there is no such correlation.
    """
    if correlation not in CORRELATIONS:
        raise UnknownNameError("correlation", correlation, CORRELATIONS)
    return _of_data(matched_of, z, z_hat, ranks=correlation == "spearman")


def spearman_mcc(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    """:func:`mcc` of ranks, which ignores monotone maps of single coordinates too."""
    return mcc(z, z_hat, "spearman")


def orthogonal_r2(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    r"""Share of the whole variance of z that z_hat explains after the best rigid motion.

    A rotation, with or without a mirror, and a shift: both codes are centred, and not scaled. The
    variance is that of all coordinates together, which no rotation of z changes. With C the
    covariance of z and z_hat, the best motion leaves the residual

    .. math:: \operatorname{tr} C_{zz} + \operatorname{tr} C_{\hat z \hat z}
              - 2 \sum_i \sigma_i(C_{z \hat z})

    Arguments and errors as :func:`raw_r2`; 1 where the codes agree up to a rigid motion.
    """
    return _of_data(orthogonal_of, z, z_hat)


def affine_r2(z: Float[Tensor, "data D"], z_hat: Float[Tensor, "data D"]) -> float:
    """Raw R² of z and the best affine map of z_hat, by least squares on the same rows.

    Arguments and errors as :func:`raw_r2`; between 0 and 1, of independent codes about D / N.
    """
    return _of_data(affine_of, z, z_hat)


def raw_of(moments: Moments) -> Array:
    """Raw R² of each of B samples, ``(B,)``."""
    return np.asarray((1 - _residuals(moments) / _diagonal(moments.reference)).mean(-1))


def sign_of(moments: Moments) -> Array:
    """R² after the best signs of each of B samples."""
    spread = _diagonal(moments.reference)
    mirrored = spread + _diagonal(moments.codes) + 2 * _diagonal(moments.cross)
    return np.asarray((1 - np.minimum(_residuals(moments), mirrored) / spread).mean(-1))


def signed_of(moments: Moments) -> Array:
    """Mean correlation of equally numbered coordinates of each of B samples."""
    return np.asarray(_diagonal(moments.correlations).mean(-1))


def matched_of(moments: Moments) -> Array:
    """Mean correlation coefficient of each of B samples."""
    matrices = np.abs(moments.correlations)
    return np.array([m[linear_sum_assignment(m, maximize=True)].mean() for m in matrices])


def orthogonal_of(moments: Moments) -> Array:
    """R² after the best rigid motion of each of B samples."""
    whole = np.trace(moments.reference, axis1=-2, axis2=-1)
    other = np.trace(moments.codes, axis1=-2, axis2=-1)
    shared = np.linalg.svd(moments.cross, compute_uv=False).sum(-1)
    return np.asarray(1 - (whole + other - 2 * shared) / whole)


def affine_of(moments: Moments) -> Array:
    """R² after the best affine map of each of B samples."""
    scale = np.sqrt(_diagonal(moments.codes))
    inner = moments.codes / scale[:, :, None] / scale[:, None, :]
    cross = moments.correlations
    inverse = np.linalg.pinv(inner, rcond=SINGULAR, hermitian=True)
    return np.asarray(np.einsum("bij,bjk,bik->bi", cross, inverse, cross).mean(-1))


def _of_data(
    figure: Callable[[Moments], Array], z: Tensor, z_hat: Tensor, *, ranks: bool = False
) -> float:
    first, second = paired_codes(z, z_hat)
    once = np.ones((1, len(first)))
    return float(figure(Moments.of(first, second, once, ranks=ranks))[0])


def _residuals(moments: Moments) -> Array:
    """Mean squares of z less z_hat as they stand, by coordinate, ``(B, D)``."""
    spread, other = _diagonal(moments.reference), _diagonal(moments.codes)
    return np.asarray(spread + other - 2 * _diagonal(moments.cross) + moments.shift**2)


def _diagonal(matrices: Array) -> Array:
    return np.diagonal(matrices, axis1=-2, axis2=-1)
