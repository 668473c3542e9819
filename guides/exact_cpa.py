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

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor

from pyrolvm import exact
from pyrolvm.core import Guide, PiecewiseAffine
from pyrolvm.core.errors import SettingError
from pyrolvm.exact import (
    AffineStack,
    DataMoments,
    Imputation,
    LatentRegions,
    MixturePosterior,
    ObservationError,
    ObservedPosterior,
    PartitionMismatchError,
    PiecewisePosterior,
    RegionProbabilities,
)

Missing = Literal["nan"] | None
Solved = PiecewisePosterior | MixturePosterior | ObservedPosterior
Answer = TypeVar("Answer")


class CPAPosterior(TorchDistribution):
    """Posteriors of N data under a piecewise-affine generator: batch ``(N,)``, event ``(S,)``.

    Args:
        solved: The exact posterior, from :func:`pyrolvm.exact.solve` or ``solve_observed``.
        dtype: Type of draws; densities and moments are computed in double precision.
    """

    arg_constraints = {}  # noqa: RUF012 - torch reads it from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, solved: Solved, dtype: torch.dtype = torch.float64) -> None:
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

    def cdf(self, value: Float[Tensor, "*sample data 1"]) -> Float[Tensor, "*sample data"]:
        """Return P(z <= value | x), for one latent."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        return self.solved.cdf(value.expand(shape)[..., 0]).to(value.dtype)

    def icdf(self, value: Float[Tensor, "*sample data"]) -> Float[Tensor, "*sample data 1"]:
        """Return the quantiles at given probabilities, for one latent."""
        value = value.expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        return self.solved.icdf(value).to(value.dtype)[..., None]

    @property
    def regions(self) -> LatentRegions:
        """The regions on which the generator is affine, in z, and its map on each."""
        return self.solved.regions

    @property
    def region_probabilities(self) -> RegionProbabilities:
        """Posterior probabilities of the regions, row-sparse."""
        if isinstance(self.solved, ObservedPosterior):
            raise NotImplementedError(
                "Regions are numbered anew where a pattern of missing entries needs more of them. "
                "Ask each of posterior.solved.parts for its region_probabilities."
            )
        return self.solved.region_probabilities

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
        if not isinstance(self.solved, PiecewisePosterior):
            raise NotImplementedError(
                "The entropy is known for complete rows under a single Gaussian prior. Elsewhere "
                "average -log_prob over draws."
            )
        return self._batched(self.solved.entropy)

    @property
    def lost_mass(self) -> Float[Tensor, "*batch"]:
        """Bound on the posterior mass outside the box that the regions were searched in."""
        return self._batched(self.solved.lost_mass)

    @property
    def standard_error(self) -> Float[Tensor, "*batch"]:
        """Error of the log evidence from integration, in nats; 0 for up to three latents."""
        return self._batched(self.solved.standard_error)

    def _batched(self, values: Tensor) -> Tensor:
        return values.to(self.dtype).expand(self.batch_shape + values.shape[1:])


class ExactCPA(Guide):
    """Samples the exact posterior of a piecewise-affine generator; it has no parameters.

    It also answers from the exact p(x): missing entries, imputation, anomalies, moments of data.

    Args:
        model: A model with an ``affine_stack`` and up to five latent dimensions. Integrals are
            exact up to three. From four on the log evidence comes with a stated error of about
            1e-4 nats, and a datum takes tenths of a second with some hundred regions.

    Raises:
        IncompatiblePairError: If the generator is not piecewise affine, its noise or prior is not
            Gaussian, or it has more latent dimensions: its regions become too many, and
            ``guides.LineGibbs`` draws from the posterior without them.
    """

    requires = (PiecewiseAffine,)
    max_latent_dim = 5
    is_exact = True

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.site, self.obs_dim = self.only_site(), model.obs_dim
        self._latest: tuple[list[Tensor], Solved] | None = None

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        posterior = self.posterior(self.observations(x, self.obs_dim))
        with pyro.plate("data", posterior.batch_shape[-1], dim=-1):
            return pyro.sample(self.site, posterior)

    def posterior(self, x: Float[Tensor, "data obs_dim"], missing: Missing = None) -> CPAPosterior:
        """Return p(z | x), remembered until the data or the weights change.

        Args:
            x: Observations.
            missing: ``"nan"`` if entries that are NaN are missing, and integrated out.

        Raises:
            ObservationError: If an entry is not finite, or all entries of a row are missing.
        """
        x = self._checked(x, missing)
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return CPAPosterior(self._solve(x), dtype)

    def log_evidence(
        self, x: Float[Tensor, "data obs_dim"], missing: Missing = None
    ) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, float64, shape ``(N,)``, with exact first derivatives.

        With ``missing="nan"`` it is the density of each row's observed entries; arguments and
        errors as :meth:`posterior`.
        """
        x = self._checked(x, missing)
        if missing is None and not torch.is_grad_enabled():
            return self._solve(x).log_evidence
        if missing is None:
            return exact.log_evidence(self._stack(), x, partition=self._solve(x).partition)
        return self._with_regions(
            lambda regions: exact.log_evidence_observed(self._stack(), x, partition=regions)
        )

    def impute(self, x: Float[Tensor, "data obs_dim"], missing: Missing = "nan") -> Imputation:
        """Return means, standard deviations and draws of the entries that are NaN."""
        return self._with_regions(
            lambda regions: exact.impute(
                self._stack(), self._checked(x, missing), partition=regions
            )
        )

    @torch.no_grad()
    def anomaly_score(
        self, x: Float[Tensor, "data obs_dim"], missing: Missing = None
    ) -> Float[Tensor, " data"]:
        """Return -log p(x) in nats, shape ``(N,)``: the higher, the stranger.

        Scores of rows with different missing entries are densities of different quantities, and
        do not compare.
        """
        return -self.log_evidence(x, missing)

    def anomaly_pvalue(
        self,
        x: Float[Tensor, "data obs_dim"],
        reference: Float[Tensor, "reference obs_dim"],
    ) -> Float[Tensor, " data"]:
        r"""Return how rare a score as high as this is among ordinary data, shape ``(N,)``.

        .. math:: (1 + \#\{m : \log p(x_m) \le \log p(x)\}) \,/\, (1 + M)

        For an ordinary x, it is below t with probability at most t.

        Args:
            x: Observations to judge.
            reference: M ordinary observations that the model was not trained on.
        """
        ordinary = self.anomaly_score(reference).sort().values
        higher = len(ordinary) - torch.searchsorted(ordinary, self.anomaly_score(x))
        return (1 + higher).double() / (1 + len(ordinary))

    def data_moments(self) -> DataMoments:
        """Return mean ``(D,)`` and covariance ``(D, D)`` of the model's data, exactly."""
        return self._with_regions(
            lambda regions: exact.data_moments(self._stack(), partition=regions)
        )

    def _checked(self, x: Tensor, missing: Missing) -> Tensor:
        x = self.observations(x, self.obs_dim)
        if missing not in (None, "nan"):
            raise SettingError(f'missing should be None or "nan", but is {missing!r}.')
        if missing is None and x.isnan().any():
            bad = x.isnan().any(-1)
            raise ObservationError(
                f"ExactCPA needs complete rows, but {int(bad.sum())} of {len(bad)} hold NaN "
                f"(first: row {int(bad.int().argmax())}). Where NaN means that an entry is "
                'missing, pass missing="nan"; it is then integrated out.'
            )
        return x

    def _stack(self) -> AffineStack:
        return AffineStack.of(self.model.affine_stack)

    def _solve(self, x: Tensor) -> Solved:
        """Solve, unless data and weights are those of the latest call; keep regions that hold.

        Entries that are NaN are integrated out; callers have checked that they may be.
        """
        stack = self._stack()
        tensors = (x.nan_to_num(), *stack.weights, *stack.biases, *_gaussians(stack))
        contents = [x.isnan(), *(t.detach().double() for t in tensors)]
        if self._latest is not None and all(map(_same, contents, self._latest[0])):
            return self._latest[1]
        ask: Callable[..., Solved] = exact.solve_observed if x.isnan().any() else exact.solve
        solved = self._with_regions(lambda regions: ask(stack, x, partition=regions))
        self._latest = [tensor.clone() for tensor in contents], solved
        return solved

    def _with_regions(self, ask: Callable[[Any], Answer]) -> Answer:
        """Ask with the regions of the latest call, or without if the hidden layers changed."""
        if self._latest is not None:
            try:
                return ask(self._latest[1].partition)
            except PartitionMismatchError:
                pass
        return ask(None)


def _gaussians(stack: AffineStack) -> tuple[Tensor, ...]:
    logits = () if stack.prior_logits is None else (stack.prior_logits,)
    return stack.noise_scale, stack.prior_loc, stack.prior_scale_tril, *logits


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.device == right.device and torch.equal(left, right)
