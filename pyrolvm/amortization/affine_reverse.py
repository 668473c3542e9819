r"""Gaussian reverse kernels of a Langevin chain, affine in the later position.

.. math:: r(z_t \mid z_{t+1}) = N(m_t + b_t + K_t (z_{t+1} - m_{t+1}), L_t L_t^\top)

around the noise-free path m_0, …, m_T from the chain's centre. The backward kernels of a chain in
a Gaussian posterior are of this form.

References:
    Rauch, Tung & Striebel (1965), Maximum Likelihood Estimates of Linear Dynamic Systems.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pyro.distributions import MultivariateNormal
from torch import Tensor, nn

from pyrolvm.amortization.langevin_chain import ChainPath, LangevinChain
from pyrolvm.amortization.log_joint import curvature
from pyrolvm.amortization.reverse_kernels import ReverseKernels
from pyrolvm.families.triangular import num_scale_parameters, raw_of_scale_tril, scale_tril


class AffineReverse(ReverseKernels):
    r"""Learned Gaussian kernels around the noise-free path m_t, exact for linear Gaussian models.

    .. math:: r(z_t \mid z_{t+1}) = N(m_t + b_t + K_t (z_{t+1} - m_{t+1}), L_t L_t^\top)

    Args:
        num_steps: Number of steps T of the chain.
        dim: Dimension D of its positions.
    """

    def __init__(self, num_steps: int, dim: int) -> None:
        super().__init__(num_steps, dim)
        self.gain = nn.Parameter(torch.eye(dim).repeat(num_steps, 1, 1))
        self.offset = nn.Parameter(torch.zeros(num_steps, dim))
        self.raw_scale = nn.Parameter(torch.zeros(num_steps, num_scale_parameters(dim)))

    def log_prob(self, path: ChainPath, chain: LangevinChain) -> Float[Tensor, "*batch data"]:
        """Return log r(z_0, …, z_{T−1} | z_T, x) in nats, shape ``(..., N)``."""
        away = _away(path, chain.noise_free(path.log_joint, path.centre))
        total = torch.zeros_like(path.log_density)
        for step in range(self.num_steps):
            mean = self.offset[step] + away[step + 1] @ self.gain[step].mT
            factor = scale_tril(self.raw_scale[step], self.dim)
            total = total + MultivariateNormal(mean, scale_tril=factor).log_prob(away[step])
        return total

    @torch.no_grad()
    def assign(
        self,
        gain: Float[Tensor, "T D D"],
        scale_tril: Float[Tensor, "T D D"],
        offset: Float[Tensor, "T D"] | None = None,
    ) -> None:
        """Set the kernels to given ones: K_t, L_t, and b_t (0 where it is None)."""
        self.gain.copy_(gain)
        self.raw_scale.copy_(raw_of_scale_tril(scale_tril))
        self.offset.copy_(torch.zeros_like(self.offset) if offset is None else offset)

    @torch.no_grad()
    def fit(self, path: ChainPath, chain: LangevinChain) -> None:
        """Set the kernels to those that maximise E[log r] over these runs: least squares."""
        away = torch.stack(
            [
                each.flatten(0, -2)
                for each in _away(path, chain.noise_free(path.log_joint, path.centre))
            ]
        )
        before, after = away[:-1], away[1:]
        mean_before, mean_after = before.mean(1, keepdim=True), after.mean(1, keepdim=True)
        size, centred = before.shape[1], after - mean_after
        spread = centred.mT @ centred / size
        joint = (before - mean_before).mT @ centred / size
        gain = torch.linalg.solve(spread, joint.mT).mT
        rest = before - mean_before - centred @ gain.mT
        factor = torch.linalg.cholesky(rest.mT @ rest / size)
        offset = mean_before - mean_after @ gain.mT
        self.assign(gain, factor, offset.squeeze(1))


class LinearisedReverse(ReverseKernels):
    r"""Backward kernels of the chain linearised along the noise-free path, for each datum anew.

    With :math:`A_t = I - h H(m_t)` and :math:`V_{t+1} = A_t V_t A_t^\top + 2 h I` they are

    .. math:: N\big(m_t + C_t A_t^\top (z_{t+1} - m_{t+1}) / 2h, \; C_t\big), \qquad
              C_t = (V_t^{-1} + A_t^\top A_t / 2h)^{-1}

    (the smoother of Rauch, Tung & Striebel 1965). They have no parameters, and cost D backward
    passes more for each datum and step.
    """

    def log_prob(self, path: ChainPath, chain: LangevinChain) -> Float[Tensor, "*batch data"]:
        """Return log r(z_0, …, z_{T−1} | z_T, x) in nats, shape ``(..., N)``."""
        centres = chain.noise_free(path.log_joint, path.centre)
        away = _away(path, centres)
        total = torch.zeros_like(path.log_density)
        eye = torch.eye(self.dim).to(path.centre)
        noise = 2 * chain.step_size
        variance = chain.start_scale_tril @ chain.start_scale_tril.mT
        for step in range(self.num_steps):
            move = eye - chain.step_size * curvature(path.log_joint, centres[step])
            precision = _inverse(variance) + move.mT @ move / noise
            factor = torch.linalg.cholesky(0.5 * (precision + precision.mT))
            back = torch.cholesky_solve(move.mT / noise, factor)
            mean = (back @ away[step + 1].unsqueeze(-1)).squeeze(-1)
            total = total + _log_normal(away[step] - mean, factor)
            variance = move @ variance @ move.mT + noise * eye
        return total


def _away(path: ChainPath, centres: list[Tensor]) -> list[Tensor]:
    """Distances of the positions from the noise-free path."""
    return [z - m for z, m in zip(path.positions, centres, strict=True)]


def _inverse(matrix: Tensor) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(0.5 * (matrix + matrix.mT)))


def _log_normal(centred: Tensor, precision_factor: Tensor) -> Tensor:
    """Log density of a centred Gaussian with precision L Lᵀ."""
    white = (precision_factor.mT @ centred.unsqueeze(-1)).squeeze(-1)
    log_scale = -precision_factor.diagonal(dim1=-2, dim2=-1).log()
    return -(0.5 * white.square() + log_scale + 0.5 * math.log(2 * math.pi)).sum(-1)
