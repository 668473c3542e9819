r"""Langevin guide: gradient steps towards the posterior, then a Langevin chain in it.

.. math:: c \leftarrow c + \eta \, \sigma^2 \nabla \log p(x \mid c), \qquad
          z_0 \sim N(c, S_0 S_0^\top), \qquad
          z \leftarrow z + h \nabla \log p(x, z) + \sqrt{2 h} \, \xi

The generator itself does the work: the gradient is one backward pass through it, so that the
encoder that is left to learn can stay small however many steps there are. The density of the
chain's end has no closed form; the guide's log density is that of the whole path less that of
reverse kernels, which gives a bound on the evidence under a plain ``Trace_ELBO``.

References:
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders (the construction; constants are ours).
    Salimans, Kingma & Welling (2015), Markov Chain Monte Carlo and Variational Inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import Delta
from torch import Tensor

from pyrolvm.amortization import (
    AffineReverse,
    ChainPath,
    LangevinChain,
    LogJoint,
    MisfitDescent,
    make_reverse,
    typical_curvature,
)
from pyrolvm.amortization.calibration import require_positive
from pyrolvm.amortization.descent import start_encoder
from pyrolvm.amortization.langevin_chain import enclosing_shape
from pyrolvm.amortization.standardising_guide import StandardisingGuide
from pyrolvm.core import ExplicitJoint
from pyrolvm.core.errors import require_at_least
from pyrolvm.core.randomness import own_randomness
from pyrolvm.families import GaussianMixture

STEP_FRACTION = 0.5
"""Default Langevin step, in units of the inverse of the largest curvature."""
CHUNK_ELEMENTS = 2**23


class Langevin(StandardisingGuide):
    """Gradient descent on the misfit, then Langevin steps; scored on the space of whole chains.

    Step sizes and the width of the start are chosen by the curvature of the model as it is, and
    learned kernels fitted to chains on its own draws: the guide is usable before any
    training. The model's weights, which the guide reads live, are not counted as its own.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        hidden: Widths of the hidden layers of the encoder of the start; none makes it affine,
            None starts at the prior's mean.
        num_descent: Number of deterministic steps.
        num_langevin: Number of stochastic steps T.
        step_size: Langevin step h before training; half the inverse of the largest curvature of
            −log p(x, z) at simulated pairs where it is None.
        descent_rate: Step η of the descent before training, in units of the misfit |G(z) − x|²/2;
            the inverse of its largest curvature where it is None.
        start_scale: Standard deviation of z_0 in every direction before training; the typical
            width of the posterior where it is None.
        reverse: ``"linearised"`` (affine kernels that follow from the curvature at each datum),
            ``"learned"`` (affine, one set for all data), ``"annealed"`` (bridging densities) or
            ``"stationary"`` (the forward kernel; its bound never forgets the start).
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        learn_steps: Whether both step sizes are trained.

    Raises:
        IncompatiblePairError: If the model has no explicit prior and likelihood.
        UnknownNameError: If there are no such kernels or activation.
        SettingError: If a step size or scale is not positive, or a count is negative.
    """

    requires = (ExplicitJoint,)
    extended_space = True

    def __init__(
        self,
        model: Any,
        hidden: Sequence[int] | None = (),
        num_descent: int = 10,
        num_langevin: int = 10,
        step_size: float | None = None,
        descent_rate: float | None = None,
        start_scale: float | None = None,
        reverse: str = "linearised",
        activation: str = "relu",
        *,
        learn_steps: bool = True,
    ) -> None:
        super().__init__(model)
        self.site = self.only_site()
        require_at_least(0, num_descent=num_descent, num_langevin=num_langevin)
        require_positive(step_size=step_size, descent_rate=descent_rate, start_scale=start_scale)
        found, dim = typical_curvature(model), model.latent_dim
        self.encoder = None if hidden is None else start_encoder(model, hidden, activation)
        rate = 1 / found.largest_misfit if descent_rate is None else descent_rate
        self.descent = MisfitDescent(num_descent, rate, learn_rate=learn_steps)
        self.reverse = make_reverse(reverse, num_langevin, dim)
        start = found.scale_tril if start_scale is None else start_scale * torch.eye(dim)
        step = STEP_FRACTION / found.largest if step_size is None else step_size
        self.chain = LangevinChain(start, step, self.reverse.temperatures, learn_step=learn_steps)
        self.to(found.x.device, found.scale_tril.dtype)
        with own_randomness(0):
            self.fit_reverse(found.x)

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        centre = self.centre(self.observations(x, self.obs_dim))
        assert x is not None
        with pyro.plate("data", centre.shape[-2], dim=-1):
            path = self.chain.run(LogJoint(self.model, x), centre, enclosing_shape())
            log_density = path.log_density - self.reverse.log_prob(path, self.chain)
            return pyro.sample(self.site, Delta(path.end, log_density=log_density, event_dim=1))

    def centre(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data D"]:
        """Return the mean of z_0, where the descent ends, shape ``(N, latent_dim)``."""
        return self.descent_path(x)[-1]

    def descent_path(self, x: Float[Tensor, "data obs_dim"]) -> list[Tensor]:
        """Return the start and the points after each deterministic step, ``(N, latent_dim)``."""
        inputs = self.standardised(x)
        if self.encoder is None:
            start = self.model.prior().mean.to(inputs).expand(len(x), -1)
        else:
            start = self.encoder(inputs)
        return self.descent.path(LogJoint(self.model, x), start)

    def run(self, x: Float[Tensor, "data obs_dim"], num_chains: int) -> ChainPath:
        """Run chains for each datum, S of them: positions of shape ``(S, N, latent_dim)``."""
        x = self.observations(x, self.obs_dim)
        return self.chain.run(LogJoint(self.model, x), self.centre(x), (num_chains, len(x)))

    def fit_reverse(self, x: Float[Tensor, "data obs_dim"], num_chains: int = 200) -> None:
        """Fit learned reverse kernels to chains on these data, in closed form; others stay.

        Args:
            x: Data, shape ``(N, obs_dim)``.
            num_chains: Chains for each datum.
        """
        if isinstance(self.reverse, AffineReverse) and self.reverse.num_steps:
            with torch.no_grad():
                self.reverse.fit(self.run(x, num_chains), self.chain)

    @torch.no_grad()
    def marginal(self, x: Float[Tensor, "data obs_dim"], num_chains: int = 500) -> GaussianMixture:
        r"""Return an estimate of q(z_T | x) as a mixture of its last kernels.

        .. math:: q(z_T \mid x) \approx \frac1S \sum_s N(z_T; z^s_{T-1} + h \nabla \log
                  p(x, z^s_{T-1}), 2 h I)

        It is meant for few dimensions; without Langevin steps it is exact.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            num_chains: Number of chains S for each datum.

        Returns:
            Batch shape ``(N,)``, event shape ``(latent_dim,)``, without a graph.
        """
        return self.chain.end_mixture(self.run(x, num_chains if self.chain.num_steps else 1))

    def marginal_log_prob(
        self,
        x: Float[Tensor, "data obs_dim"],
        z: Float[Tensor, "*sample data D"],
        num_chains: int = 500,
    ) -> Float[Tensor, "*sample data"]:
        """Return the estimate of log q(z_T = z | x) in nats, a part of the points at a time.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            z: Points, shape ``(..., N, latent_dim)``.
            num_chains: Number of chains for each datum.
        """
        mixture = self.marginal(x, num_chains)
        points = z.reshape(-1, *z.shape[-2:])
        size = max(1, CHUNK_ELEMENTS // (num_chains * points[0].numel()))
        found = [mixture.log_prob(part) for part in points.split(size)]
        return torch.cat(found).reshape(z.shape[:-1])

    @property
    def num_encoder_parameters(self) -> int:
        """Number of weights that sampling needs: all but those of the reverse kernels."""
        return self.num_parameters - sum(p.numel() for p in self.reverse.parameters())
