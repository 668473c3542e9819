"""The prior of a latent vector: one Gaussian or a mixture, fixed or learned."""

from __future__ import annotations

import torch
from pyro.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    TorchDistribution,
    constraints,
)
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, require_at_least

SPREAD = 0.5
"""Standard deviation of each component of a mixture at the start; means are standard normal."""


class GaussianPrior(nn.Module):
    r"""The law of z, :math:`\sum_k \pi_k N(\mu_k, L_k L_k^\top)`.

    Args:
        latent_dim: Dimension of z.
        components: Number of Gaussians K.
        learn: Whether means, factors and weights are trained.
        loc: Mean, ``(latent_dim,)``; of a mixture ``(K, latent_dim)``. Zeros where it is None, and
            standard normal draws for a mixture.
        scale_tril: Lower Cholesky factor, ``(latent_dim, latent_dim)``, of a mixture with K in
            front. The identity where it is None, and half of it for a mixture.

    Raises:
        SettingError: If a shape does not fit, or a factor is no Cholesky factor.
    """

    loc: Tensor
    below: Tensor
    log_diagonal: Tensor
    weights: Tensor | None

    def __init__(
        self,
        latent_dim: int,
        components: int = 1,
        *,
        learn: bool = False,
        loc: Tensor | None = None,
        scale_tril: Tensor | None = None,
    ) -> None:
        super().__init__()
        require_at_least(1, components=components)
        mixed = (components,) if components > 1 else ()
        eye = torch.eye(latent_dim).expand(*mixed, latent_dim, latent_dim)
        if loc is None:
            loc = torch.randn(*mixed, latent_dim) if mixed else torch.zeros(latent_dim)
        if scale_tril is None:
            scale_tril = SPREAD * eye if mixed else eye
        _check(mixed, latent_dim, loc, scale_tril)
        values = {
            "loc": loc,
            "below": scale_tril.tril(-1),
            "log_diagonal": scale_tril.diagonal(dim1=-2, dim2=-1).log(),
            "weights": torch.zeros(components) if mixed else None,
        }
        for name, value in values.items():
            if learn and value is not None:
                self.register_parameter(name, nn.Parameter(value.clone()))
            else:
                self.register_buffer(name, None if value is None else value.clone())

    @property
    def scale_tril(self) -> Tensor:
        """Lower Cholesky factor of the covariance, ``(latent_dim, latent_dim)``, K in front."""
        return self.below.tril(-1) + self.log_diagonal.exp().diag_embed()

    @property
    def logits(self) -> Tensor | None:
        """Unnormalised log weights of the components, ``(K,)``; None if there is one."""
        return self.weights

    def forward(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        normal = MultivariateNormal(self.loc, scale_tril=self.scale_tril)
        if self.weights is None:
            return normal
        return MixtureSameFamily(Categorical(logits=self.weights), normal)

    @torch.no_grad()
    def assign(self, loc: Tensor, scale_tril: Tensor, logits: Tensor | None = None) -> None:
        """Set means, factors and weights, in the shapes of this prior."""
        self.loc.copy_(loc)
        self.below.copy_(scale_tril.tril(-1))
        self.log_diagonal.copy_(scale_tril.diagonal(dim1=-2, dim2=-1).log())
        if self.weights is not None and logits is not None:
            self.weights.copy_(logits)


def _check(mixed: tuple[int, ...], dim: int, loc: Tensor, tril: Tensor) -> None:
    if loc.shape != (*mixed, dim) or tril.shape != (*mixed, dim, dim):
        raise SettingError(
            f"A prior over {dim} latents needs a mean of shape {(*mixed, dim)} and a factor of "
            f"shape {(*mixed, dim, dim)}, but got {tuple(loc.shape)} and {tuple(tril.shape)}."
        )
    if not constraints.lower_cholesky.check(tril).all():
        raise SettingError(
            "prior_scale_tril should be a Cholesky factor, lower triangular with a positive "
            "diagonal, but this matrix is not. Take torch.linalg.cholesky of the covariance."
        )
