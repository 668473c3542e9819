r"""Matrices with orthonormal columns, also while they are trained.

.. math:: A = Q R, \qquad R_{ii} > 0

A is the free parameter, Q is used: the positive diagonal makes it unique and smooth in A.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError


class OrthonormalColumns(nn.Module):
    """A trained matrix whose columns are orthonormal; drawn uniformly at the start.

    Args:
        rows: Number of rows.
        columns: Number of columns, at most as many.

    Raises:
        SettingError: If there are more columns than rows, or none.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        if not 1 <= columns <= rows:
            raise SettingError(
                f"{columns} orthonormal columns need at least one column and as many rows, but "
                f"there are {rows} rows."
            )
        self.free = nn.Parameter(random_orthonormal(rows, columns))

    def forward(self) -> Float[Tensor, "rows columns"]:
        """Return Q."""
        return orthonormalised(self.free)


def orthonormalised(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Orthonormalise the columns from left to right (Gram-Schmidt)."""
    q, r = torch.linalg.qr(matrix)
    return q * r.diagonal().sign()


def random_orthonormal(rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Draw a matrix with orthonormal columns, or rows where there are fewer of them.

    It is contiguous: Pyro's store copies other parameters, and would train the copy.
    """
    if rows < columns:
        return random_orthonormal(columns, rows).mT.contiguous()
    return orthonormalised(torch.randn(rows, columns)).contiguous()
