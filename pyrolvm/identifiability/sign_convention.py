"""Fix the signs of a code where nothing else is left open."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError


def fix_sign_by(
    x: Float[Tensor, "data obs_dim"], z: Float[Tensor, "data D"], output: int = 0
) -> Float[Tensor, "data D"]:
    r"""Turn each coordinate of a code so that :math:`\operatorname{cov}(x_1, z_i) > 0`.

    Where only signs survive, as for a piecewise-affine curve with a standard normal prior, the
    codes of all runs agree afterwards. It does not undo rotations or permutations.

    Args:
        x: Observations, shape ``(N, obs_dim)``.
        z: Their codes, shape ``(N, D)``.
        output: Which coordinate of x decides.

    Returns:
        The codes, some coordinates with the other sign.

    Raises:
        DataError: If there are not as many observations as codes, no such coordinate, or a
            covariance is 0.

    >>> x = torch.tensor([[0.0], [1.0], [2.0]])
    >>> fix_sign_by(x, torch.tensor([[1.0], [0.0], [-1.0]])).flatten() + 0.0
    tensor([-1.,  0.,  1.])
    """
    if not (_is_matrix(x) and _is_matrix(z)) or len(x) != len(z):
        raise DataError(
            "fix_sign_by needs tensors, observations (N, obs_dim) and their codes (N, D), but got "
            f"{_in_words(x)} and {_in_words(z)}."
        )
    if not 0 <= output < x.shape[1]:
        raise DataError(
            f"fix_sign_by was asked for coordinate {output} of x, which has {x.shape[1]}."
        )
    judge, codes = x[:, output].double(), z.double()
    signs = ((judge - judge.mean())[:, None] * (codes - codes.mean(0))).sum(0).sign()
    if bool((signs == 0).any()) or not bool(signs.isfinite().all()):
        raise DataError(
            f"Coordinate {int((~(signs.abs() > 0)).nonzero()[0, 0])} of the code does not go with "
            f"coordinate {output} of x, so that its sign cannot be read off. Take another output."
        )
    return z * torch.where(signs > 0, 1, -1).to(z.dtype)


def _is_matrix(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2


def _in_words(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else f"a {type(value).__name__}"
