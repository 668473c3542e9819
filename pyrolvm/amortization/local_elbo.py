r"""The ELBO of each datum as a smooth, deterministic function of its own parameters.

.. math:: \mathrm{ELBO}_n(\lambda_n) \approx \sum_m w_m \,
          [\log p(x_n, z_m) - \log q(z_m; \lambda_n)], \qquad z_m = T(\varepsilon_m; \lambda_n)

with noise ε that is fixed and the same for all data, so that a refined guide gives the same answer
whenever it is asked, in any order of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.amortization.log_joint import LogJoint
from pyrolvm.families import Family


@dataclass(frozen=True)
class LocalElbo:
    """Bounds of N data.

    Args:
        family: The family that λ belongs to.
        noise: Points that stand for the standard normal, shape ``(S, D)``.
        log_joint: Model and data.
    """

    family: Family
    noise: Tensor
    log_joint: LogJoint

    def __call__(self, parameters: Float[Tensor, "data P"]) -> Float[Tensor, " data"]:
        """Return the ELBO of each datum in nats, shape ``(N,)``."""
        points = self.family.transport(parameters, self.noise)
        rates = points.log_density - self.log_joint(points.z)
        return -(points.log_weight.exp() * rates).sum(0)


def balanced_noise(dim: int, size: int | None = None, seed: int = 0) -> Float[Tensor, "S D"]:
    """Draw noise in pairs ±ε with unit covariance: of Gaussian bounds it makes no error.

    Args:
        dim: Dimension D.
        size: Number S of points, raised to an even one of at least twice the dimension; at least
            16 and 4 D where it is None.
        seed: Of the draws; the user's random numbers stay as they are.
    """
    wanted = max(16, 4 * dim) if size is None else max(size, 2 * dim)
    generator = torch.Generator().manual_seed(seed)
    half = torch.randn((wanted + 1) // 2, dim, generator=generator, dtype=torch.float64)
    factor = torch.linalg.cholesky(half.mT @ half / len(half))
    white = torch.linalg.solve_triangular(factor, half.mT, upper=False).mT
    return torch.stack([white, -white], 1).flatten(0, 1).to(torch.get_default_dtype())
