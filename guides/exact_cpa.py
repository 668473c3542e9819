r"""The exact posterior of a piecewise-affine generator, as a guide.

.. math:: q(z \mid x) = p(z \mid x) = \sum_\omega 1[z \in \omega] \;
          \kappa_\omega(x) \, N(z; \mu_\omega(x), \Sigma_\omega) \,/\, p(x)

summed over the regions ω on which the generator is affine. Draws are exact and independent, and
log p(x, z) − log q(z | x) equals log p(x) for every one of them. The weights are read anew at each
call and carry no gradient, so that SVI on this guide follows the exact gradient of the evidence in
expectation (Fisher's identity): :math:`\nabla \log p(x) = E_{p(z \mid x)}[\nabla \log p(x, z)]`.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks.
"""

from __future__ import annotations

from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyrolvm import exact
from pyrolvm.core import Guide, PiecewiseAffine
from pyrolvm.exact import (
    AffineStack,
    LatentRegions,
    PartitionMismatchError,
    PiecewisePosterior,
)


class CPAPosterior(TorchDistribution):
    """Posteriors of N data under a piecewise-affine generator: batch ``(N,)``, event ``(S,)``.

    Args:
        solved: The exact posterior, from :func:`pyrolvm.exact.solve`.
        dtype: Type of draws; densities and moments are computed in double precision.
    """

    arg_constraints = {}  # noqa: RUF012 - torch reads it from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, solved: PiecewisePosterior, dtype: torch.dtype = torch.float64) -> None:
        self.solved, self.dtype = solved, dtype
        super().__init__(torch.Size([solved.size]), torch.Size([solved.latent_dim]))

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchDistribution:
        """Add batch dimensions on the left, as a plate of particles does."""
        batch = torch.Size(batch_shape)
        if batch[-1:] != torch.Size([self.solved.size]):
            return super().expand(batch)
        new = self._get_checked_instance(CPAPosterior, _instance)
        new.solved, new.dtype = self.solved, self.dtype
        super(CPAPosterior, new).__init__(batch, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample data S"]:
        """Draw exactly and independently."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.solved.sample(shape[:-2].numel()).reshape(shape).to(self.dtype)

    def log_prob(self, value: Float[Tensor, "*sample data S"]) -> Float[Tensor, "*sample data"]:
        """Return log p(value | x) in nats, without a graph."""
        if self._validate_args:
            self._validate_sample(value)
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        return self.solved.log_prob(value.expand(shape)).to(value.dtype)

    @property
    def regions(self) -> LatentRegions:
        """The regions on which the generator is affine, in z, and its map on each."""
        return self.solved.regions

    @property
    def mean(self) -> Float[Tensor, "*batch S"]:
        """Posterior mean."""
        return self._batched(self.solved.mean)

    @property
    def covariance_matrix(self) -> Float[Tensor, "*batch S S"]:
        """Posterior covariance."""
        return self._batched(self.solved.covariance)

    @property
    def variance(self) -> Float[Tensor, "*batch S"]:
        """Diagonal of the posterior covariance."""
        return self.covariance_matrix.diagonal(dim1=-2, dim2=-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        """Return the entropy in nats."""
        return self._batched(self.solved.entropy)

    @property
    def lost_mass(self) -> Float[Tensor, "*batch"]:
        """Bound on the posterior mass outside the box that the regions were searched in."""
        return self._batched(self.solved.lost_mass)

    def _batched(self, values: Tensor) -> Tensor:
        return values.to(self.dtype).expand(self.batch_shape + values.shape[1:])


class ExactCPA(Guide):
    """Samples the exact posterior of a piecewise-affine generator; it has no parameters.

    Args:
        model: A model with an ``affine_stack`` and one or two latent dimensions.

    Raises:
        IncompatiblePairError: If the generator is not piecewise affine, its noise or prior is not
            Gaussian, or it has more than two latent dimensions: its regions become too many.
    """

    requires = (PiecewiseAffine,)
    max_latent_dim = 2
    is_exact = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.site, self.obs_dim = self.only_site(), model.obs_dim
        self._latest: tuple[list[Tensor], PiecewisePosterior] | None = None

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        posterior = self.posterior(self.observations(x, self.obs_dim))
        with pyro.plate("data", posterior.batch_shape[-1], dim=-1):
            return pyro.sample(self.site, posterior)

    def posterior(self, x: Float[Tensor, "data obs_dim"]) -> CPAPosterior:
        """Return p(z | x), remembered until the data or the weights change."""
        x = self.observations(x, self.obs_dim)
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return CPAPosterior(self._solve(x), dtype)

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, with exact first derivatives."""
        x = self.observations(x, self.obs_dim)
        if not torch.is_grad_enabled():
            return self._solve(x).log_evidence
        return exact.log_evidence(self._stack(), x, partition=self._solve(x).partition)

    def _stack(self) -> AffineStack:
        return AffineStack.of(self.model.affine_stack)

    def _solve(self, x: Tensor) -> PiecewisePosterior:
        """Solve, unless data and weights are those of the latest call; keep regions that hold."""
        stack = self._stack()
        tensors = (x, *stack.weights, *stack.biases)
        contents = [t.detach().double() for t in (*tensors, *_gaussians(stack))]
        if self._latest is None:
            solved = exact.solve(stack, x)
        elif all(map(_same, contents, self._latest[0])):
            return self._latest[1]
        else:
            try:
                solved = exact.solve(stack, x, partition=self._latest[1].partition)
            except PartitionMismatchError:
                solved = exact.solve(stack, x)
        self._latest = [tensor.clone() for tensor in contents], solved
        return solved


def _gaussians(stack: AffineStack) -> tuple[Tensor, ...]:
    logits = () if stack.prior_logits is None else (stack.prior_logits,)
    return stack.noise_scale, stack.prior_loc, stack.prior_scale_tril, *logits


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.device == right.device and torch.equal(left, right)
