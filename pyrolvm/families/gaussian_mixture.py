r"""Mixture of Gaussians with full covariances and pathwise gradients.

A component index has no pathwise gradient, but the sequential distribution functions of the
mixture,

.. math:: S_d(z; \lambda) = \sum_c w_c(z_{<d}) \, \Phi(\varepsilon_{cd}), \qquad
          \varepsilon_c = L_c^{-1}(z - m_c), \qquad
          w_c(z_{<d}) \propto \pi_c \prod_{j<d} \phi(\varepsilon_{cj}) / L_{c,jj},

map a draw to independent uniforms, whatever λ is. Hence

.. math:: \frac{dz}{d\lambda} = - \Big(\frac{\partial S}{\partial z}\Big)^{-1}
          \frac{\partial S}{\partial \lambda}

where ∂S/∂z is lower triangular with the conditional densities of z_d given z_<d on its diagonal.
Each row is divided by that density and taken from the nearer tail, in log space, so that draws far
out keep their digits.

References:
    Graves (2016), Stochastic Backpropagation through Mixture Density Distributions.
    Figurnov, Mohamed & Mnih (2018), Implicit Reparameterization Gradients.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from torch.special import log_ndtr

from pyrolvm.families.triangular import colour, whiten

MAX_LOG_TAIL, MAX_SLOPE = 25.0, 1e6
"""Bounds on tail mass over density and on its slopes, for draws that rounding moved far off."""


class GaussianMixture(TorchDistribution):
    """Mixture of C Gaussians with full covariances; draws carry first-order pathwise gradients.

    Args:
        logits: Unnormalised log weights, shape ``(..., C)``.
        loc: Means, shape ``(..., C, D)``.
        scale_tril: Lower Cholesky factors of the covariances, shape ``(..., C, D, D)``.
    """

    arg_constraints = {  # noqa: RUF012 - torch reads it from the class
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale_tril": constraints.independent(constraints.lower_cholesky, 1),
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*batch C"],
        loc: Float[Tensor, "*batch C D"],
        scale_tril: Float[Tensor, "*batch C D D"],
        *,
        validate_args: bool | None = None,
    ) -> None:
        batch = torch.broadcast_shapes(logits.shape[:-1], loc.shape[:-2], scale_tril.shape[:-3])
        self.logits = logits.expand(*batch, *logits.shape[-1:])
        self.loc = loc.expand(*batch, *loc.shape[-2:])
        self.scale_tril = scale_tril.expand(*batch, *scale_tril.shape[-3:])
        super().__init__(torch.Size(batch), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> GaussianMixture:
        """Expand the batch; new leading dimensions do not copy the factors."""
        new = self._get_checked_instance(GaussianMixture, _instance)
        batch = torch.Size(batch_shape)
        kept = batch[len(batch) - self.logits.dim() + 1 :]
        new.logits = self.logits.expand(*kept, *self.logits.shape[-1:])
        new.loc = self.loc.expand(*kept, *self.loc.shape[-2:])
        new.scale_tril = self.scale_tril.expand(*kept, *self.scale_tril.shape[-3:])
        super(GaussianMixture, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @property
    def log_mixing(self) -> Float[Tensor, "*batch C"]:
        """Log weights of the components, normalised."""
        return self.logits.log_softmax(-1)

    @property
    def mean(self) -> Float[Tensor, "*batch D"]:
        """Mean of the mixture."""
        weights = self.log_mixing.exp()
        return (
            (weights.unsqueeze(-1) * self.loc).sum(-2).expand(self.batch_shape + self.event_shape)
        )

    @property
    def covariance_matrix(self) -> Float[Tensor, "*batch D D"]:
        """Covariance within the components plus covariance of their means."""
        weights = self.log_mixing.exp()[..., None, None]
        centre = (self.log_mixing.exp().unsqueeze(-1) * self.loc).sum(-2, keepdim=True)
        offset = (self.loc - centre).unsqueeze(-1)
        covariance = (weights * (self.scale_tril @ self.scale_tril.mT + offset @ offset.mT)).sum(
            -3
        )
        return covariance.expand(self.batch_shape + covariance.shape[-2:])

    @property
    def variance(self) -> Float[Tensor, "*batch D"]:
        """Diagonal of the covariance."""
        return self.covariance_matrix.diagonal(dim1=-2, dim2=-1)

    def log_prob(self, value: Float[Tensor, "*sample D"]) -> Float[Tensor, "*sample"]:
        """Return log q(value), exact at any point."""
        if self._validate_args:
            self._validate_sample(value)
        white = self._whiten(value)
        return (self.log_mixing + _log_normal(white, self._log_scale).sum(-1)).logsumexp(-1)

    def rsample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample D"]:
        """Draw with pathwise gradients of first order."""
        value = self._draw(torch.Size(sample_shape))
        inputs = (self.logits, self.loc, self.scale_tril)
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
            return self._attach(value)
        return value

    @property
    def _log_scale(self) -> Tensor:
        return self.scale_tril.diagonal(dim1=-2, dim2=-1).log()

    def _whiten(self, value: Tensor) -> Tensor:
        value = value.expand(
            torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        )
        return whiten(self.scale_tril, value.unsqueeze(-2) - self.loc)

    @torch.no_grad()
    def _draw(self, sample_shape: torch.Size) -> Tensor:
        shape = self._extended_shape(sample_shape)
        white = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        every = self.loc + colour(
            self.scale_tril, white.unsqueeze(-2).expand(*shape[:-1], *self.loc.shape[-2:])
        )
        gumbel = -torch.empty_like(every[..., 0]).exponential_().log()
        chosen = (self.log_mixing + gumbel).argmax(-1)
        return every.gather(-2, chosen[..., None, None].expand(*shape[:-1], 1, shape[-1])).squeeze(
            -2
        )

    def _attach(self, value: Tensor) -> Tensor:
        """Give a draw its implicit gradient: −A⁻¹ ∂S, with rows divided by p(z_d | z_<d)."""
        white = self._whiten(value)
        log_density = _log_normal(white, self._log_scale)
        before = (log_density.cumsum(-1) - log_density) + self.log_mixing.unsqueeze(-1)
        log_weight = before.log_softmax(-2)
        tail, share = _row_weights(log_weight.detach(), log_density.detach(), white.detach())
        slope = share * self.scale_tril.detach().diagonal(dim1=-2, dim2=-1)
        change = (tail * log_weight + slope * white).sum(-2)
        moved = torch.linalg.solve_triangular(
            self._jacobian(white, log_weight, share, tail),
            (change - change.detach()).unsqueeze(-1),
            upper=False,
            unitriangular=True,
        )
        return value - moved.squeeze(-1)

    @torch.no_grad()
    def _jacobian(self, white: Tensor, log_weight: Tensor, share: Tensor, tail: Tensor) -> Tensor:
        """∂S_d/∂z_k divided by p(z_d | z_<d): through ε_cd, and through the weights w_c(z_<d)."""
        eye = torch.eye(white.shape[-1], dtype=white.dtype, device=white.device)
        inverse = torch.linalg.solve_triangular(
            self.scale_tril, eye.expand_as(self.scale_tril), upper=False
        )
        relative = inverse * self.scale_tril.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        direct = (share.unsqueeze(-1) * relative).sum(-3)
        each = -white.unsqueeze(-1) * inverse
        slope = each.cumsum(-2) - each
        mean_slope = (log_weight.exp().unsqueeze(-1) * slope).sum(-3, keepdim=True)
        jacobian = direct + (tail.unsqueeze(-1) * (slope - mean_slope)).sum(-3)
        return jacobian.nan_to_num(0.0).clamp(-MAX_SLOPE, MAX_SLOPE)


def _log_normal(white: Tensor, log_scale: Tensor) -> Tensor:
    return -0.5 * white.square() - log_scale - 0.5 * math.log(2 * math.pi)


def _row_weights(log_weight: Tensor, log_density: Tensor, white: Tensor) -> tuple[Tensor, Tensor]:
    """∂S_d/∂log w_c and each component's share of the density, both over p(z_d | z_<d).

    S_d is taken from the nearer tail, since the components' contributions to ∂S cancel in the
    other one. The derivative of ``log_ndtr`` in torch is wrong far out; the share stands for it.
    """
    log_conditional = (log_weight + log_density).logsumexp(-2, keepdim=True)
    below, above = log_weight + log_ndtr(white), log_weight + log_ndtr(-white)
    is_below = below.logsumexp(-2, keepdim=True) <= above.logsumexp(-2, keepdim=True)
    log_tail = torch.where(is_below, below, above) - log_conditional
    tail = log_tail.clamp_max(MAX_LOG_TAIL).exp()
    return torch.where(is_below, tail, -tail), (log_weight + log_density - log_conditional).exp()
