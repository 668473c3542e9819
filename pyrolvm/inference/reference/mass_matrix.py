r"""A mass matrix for a product of posteriors: one block for each of them.

.. math:: M^{-1} = \mathrm{diag}(\Sigma_1, \dots, \Sigma_N), \qquad
          r = L_n^{-\top} \epsilon, \quad \Sigma_n = L_n L_n^\top

The joint chain over N data has N S coordinates of which only those of one datum are correlated.
Blocks are learned from as many draws as one datum needs, all of them in batched products.

References:
    Betancourt (2018), A Conceptual Introduction to Hamiltonian Monte Carlo, section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

POINTS = "points"
"""Name of the one variable of the chains."""
_KEY = (POINTS,)
DENSE_DIM = 30
"""Most coordinates of a datum whose correlations are learned; beyond, only their scales."""
PRIOR_DRAWS = 5
"""So many draws is the belief worth that coordinates are uncorrelated."""


class RowBlocks:
    """What Pyro's warm-up adapts, for one variable of shape ``(N, S)``.

    Args:
        shape: N and S.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.mass_matrix_size = {_KEY: shape[0] * shape[1]}
        self._seen: list[Tensor] = []

    @property
    def inverse_mass_matrix(self) -> dict[tuple[str, ...], Tensor]:
        """The blocks Σ, shape ``(N, S, S)``."""
        return {_KEY: self._factor @ self._factor.mT}

    def configure(
        self,
        mass_matrix_shape: Mapping[Any, Any],
        adapt_mass_matrix: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Start from unit blocks."""
        eye = torch.eye(self.shape[1], **(options or {}))
        self._use(eye.expand(*self.shape, -1))

    def update(self, z: Mapping[str, Tensor], z_grad: Mapping[str, Tensor]) -> None:
        """Take note of a draw."""
        self._seen.append(z[POINTS].detach())

    def end_adaptation(self) -> None:
        """Turn the draws since the last call into blocks."""
        draws = torch.stack(self._seen)
        self._seen = []
        if len(draws) < PRIOR_DRAWS:
            return
        rest = draws - draws.mean(0)
        covariance = torch.einsum("kns,knt->nst", rest, rest) / (len(draws) - 1)
        variance = torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1))
        dim = self.shape[1]
        trust = len(draws) / (len(draws) + PRIOR_DRAWS + dim) if dim <= DENSE_DIM else 0.0
        factor, failed = torch.linalg.cholesky_ex(trust * covariance + (1 - trust) * variance)
        still = (failed != 0) | ~factor.isfinite().all(-1).all(-1)
        self._use(torch.where(still[:, None, None], self._factor, factor))

    def kinetic_grad(self, r: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Velocity Σ r."""
        return {POINTS: self._times(self._factor, self._times(self._factor.mT, r[POINTS]))}

    def scale(self, r_unscaled: Mapping[Any, Tensor], r_prototype: Any) -> dict[str, Tensor]:
        """Momentum of standard normal numbers."""
        return {POINTS: self._times(self._inverse.mT, r_unscaled[_KEY].reshape(self.shape))}

    def unscale(self, r: Mapping[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
        """Standard normal numbers of a momentum, flat."""
        return {_KEY: self._times(self._factor.mT, r[POINTS]).reshape(-1)}

    def _use(self, factor: Tensor) -> None:
        eye = torch.eye(self.shape[1], dtype=factor.dtype, device=factor.device)
        self._factor = factor
        self._inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)

    @staticmethod
    def _times(matrix: Tensor, vector: Tensor) -> Tensor:
        return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
