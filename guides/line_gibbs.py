r"""Draws from the exact posterior of a piecewise-affine generator, in any number of latents.

.. math:: t \sim p(z + t d \mid x), \qquad z \leftarrow z + t d

Along a line a piecewise-affine generator has one linear piece after another, on each of which the
posterior is a normal variable cut to the piece: the conditional of t is drawn exactly, whatever
the number of regions in the whole space, and may jump between modes. Nothing is rejected, nothing
tuned but the directions, which are learned in a warm-up. The pieces of a line are about as many as
the generator has hidden units.

References:
    Smith (1984), Efficient Monte Carlo Procedures for Generating Points Uniformly Distributed
    over Bounded Regions (hit-and-run).
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (the posterior).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution, constraints
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import Guide, PiecewiseAffine
from pyrolvm.core.errors import NoDensityError, require_at_least, require_seed
from pyrolvm.diagnostics.chains import ChainDraws
from pyrolvm.exact import AffineStack
from pyrolvm.exact.lines.chains import LineChains


@dataclass(frozen=True, repr=False)
class LineGibbsDraws(ChainDraws):
    """Draws of Markov chains in the exact posterior, float64, on the device of x.

    Args:
        z: Draws, shape ``(chain, draw, N, S)``.
        site: Name of the latent site.
        chains: The chains where they stopped; :meth:`more` goes on from there.
        thin: Sweeps between draws.
    """

    chains: LineChains
    thin: int = 1

    def more(self, num_draws: int, *, progress: bool = True) -> LineGibbsDraws:
        """Let the chains go on, without another warm-up.

        Args:
            num_draws: Further draws of each chain.
            progress: Whether to show a progress bar.

        Returns:
            These draws and the further ones, the same as if all had been asked for at once.
        """
        require_at_least(1, num_draws=num_draws)
        chains = self.chains.copy()
        further = _run(chains, 0, num_draws, self.thin, progress, self.z)
        return replace(self, z=torch.cat([self.z, further], 1), chains=chains)


class _Supply:
    """States of chains, handed out one after another: all chains in turn, then their next states.

    Args:
        chains: Chains after their warm-up.
        thin: Sweeps between states.
    """

    def __init__(self, chains: LineChains, thin: int) -> None:
        self.chains, self.thin = chains, thin
        self.left = torch.empty(0, chains.states.shape[0], chains.states.shape[2]).double()

    def take(self, wanted: int) -> Float[Tensor, "wanted data S"]:
        """Return states that nobody has had; the chains go on where there are too few."""
        missing = wanted - len(self.left)
        if missing > 0:
            num_draws = -(-missing // self.chains.num_chains)
            drawn = torch.from_numpy(self.chains.draw(num_draws, self.thin))
            self.left = torch.cat([self.left, drawn.swapaxes(0, 1).flatten(0, 1)])
        taken, self.left = self.left[:wanted], self.left[wanted:]
        return taken


class LinePosterior(TorchDistribution):
    """What chains give of N posteriors: draws, but no density; batch ``(N,)``, event ``(S,)``.

    Args:
        supply: States of chains; each draw takes fresh ones.
        like: Gives type and device of the draws.
    """

    arg_constraints = {}  # noqa: RUF012 - torch reads it from the class
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, supply: _Supply, like: Tensor) -> None:
        self.supply, self.like = supply, like
        shape = supply.left.shape
        super().__init__(shape[1:2], shape[2:], validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TorchDistribution:
        """Add batch dimensions on the left, as a plate of particles does."""
        batch = torch.Size(batch_shape)
        if batch[-1:] != self.batch_shape[-1:]:
            return super().expand(batch)
        new = self._get_checked_instance(LinePosterior, _instance)
        new.supply, new.like = self.supply, self.like
        super(LinePosterior, new).__init__(batch, self.event_shape, validate_args=False)
        return new

    def sample(self, sample_shape: Any = ()) -> Float[Tensor, "*sample data S"]:
        """Return fresh states of the chains."""
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.supply.take(shape[:-2].numel()).reshape(shape).to(self.like)

    def log_prob(self, value: Any) -> Tensor:
        """Refuse.

        Raises:
            NoDensityError: Always: log q(z | x) = log p(x, z) − log p(x), and chains do not know
                log p(x).
        """
        raise NoDensityError("LineGibbs")


class LineGibbs(Guide):
    """Draws from the exact posterior of a piecewise-affine generator by chains of line updates.

    It has no parameters and no density: :meth:`sample` returns draws with R-hat and effective
    sample sizes, ``Predictive`` takes it as a guide, and what needs log q(z | x) refuses it.

    Args:
        model: A model with an ``affine_stack``, of any latent dimension.
        num_chains: Chains for each datum.
        warmup: Sweeps that are dropped; a sweep is one update a latent dimension, and one more.
        num_draws: Draws of each chain that :meth:`sample` keeps.
        thin: Sweeps between draws.
        seed: Of the chains; None takes it from torch's random numbers.

    Raises:
        IncompatiblePairError: If the generator is not piecewise affine, or its noise or prior not
            Gaussian.
        SettingError: If a number is too small.

    >>> from pyrolvm.models import CPAGenerator
    >>> model = CPAGenerator(latent_dim=4, obs_dim=6, hidden=(8,))
    >>> guide = LineGibbs(model, num_chains=2, warmup=20, seed=0)
    >>> guide.sample(torch.zeros(3, 6), num_draws=10, progress=False).z.shape
    torch.Size([2, 10, 3, 4])
    """

    requires = (PiecewiseAffine,)
    has_density = False

    def __init__(
        self,
        model: Any,
        num_chains: int = 4,
        warmup: int = 200,
        num_draws: int = 500,
        thin: int = 1,
        seed: int | None = None,
    ) -> None:
        super().__init__(model)
        _check(num_chains, warmup, num_draws, thin, seed)
        self.site, self.obs_dim = self.only_site(), model.obs_dim
        self.num_chains, self.warmup, self.num_draws = num_chains, warmup, num_draws
        self.thin, self.seed = thin, seed
        self._latest: tuple[list[Tensor], _Supply] | None = None

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample the latent site given observations of shape ``(N, obs_dim)``."""
        posterior = self.posterior(self.observations(x, self.obs_dim))
        with pyro.plate("data", posterior.batch_shape[-1], dim=-1):
            return pyro.sample(self.site, posterior)

    def posterior(self, x: Float[Tensor, "data obs_dim"]) -> LinePosterior:
        """Return draws of p(z | x); the chains are kept until the data or the weights change."""
        x = self.observations(x, self.obs_dim)
        stack = AffineStack.of(self.model.affine_stack)
        contents = [tensor.detach().double() for tensor in (x, *_tensors(stack))]
        if self._latest is None or not _all_equal(contents, self._latest[0]):
            chains = LineChains.start(stack, x, self.num_chains, _seed(self.seed))
            chains.warm_up(self.warmup)
            self._latest = [t.clone() for t in contents], _Supply(chains, self.thin)
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        return LinePosterior(self._latest[1], x.new_empty(0, dtype=dtype))

    def sample(
        self,
        x: Float[Tensor, "data obs_dim"],
        *,
        num_draws: int | None = None,
        num_chains: int | None = None,
        warmup: int | None = None,
        thin: int | None = None,
        seed: int | None = None,
        progress: bool = True,
    ) -> LineGibbsDraws:
        """Run new chains for each datum.

        Args:
            x: Observations, ``(N, obs_dim)``.
            num_draws: Draws of each chain; this and the next four are the guide's own where None.
            num_chains: Chains for each datum.
            warmup: Sweeps that are dropped.
            thin: Sweeps between draws.
            seed: The same seed gives the same draws, on any number of threads.
            progress: Whether to show a progress bar.

        Returns:
            The draws, with what says whether to believe them.

        Raises:
            DataError: If x has the wrong shape.
            ObservationError: If a value is not finite.
            SettingError: If a number is too small.
        """
        x = self.observations(x, self.obs_dim)
        num_draws = self.num_draws if num_draws is None else num_draws
        num_chains = self.num_chains if num_chains is None else num_chains
        warmup = self.warmup if warmup is None else warmup
        thin = self.thin if thin is None else thin
        seed = self.seed if seed is None else seed
        _check(num_chains, warmup, num_draws, thin, seed)
        stack = AffineStack.of(self.model.affine_stack)
        chains = LineChains.start(stack, x, num_chains, _seed(seed))
        like = torch.empty(0, dtype=torch.float64, device=x.device)
        z = _run(chains, warmup, num_draws, thin, progress, like)
        return LineGibbsDraws(z, self.site, chains, thin)


def _check(num_chains: int, warmup: int, num_draws: int, thin: int, seed: int | None) -> None:
    require_at_least(1, num_chains=num_chains, num_draws=num_draws, thin=thin)
    require_at_least(0, warmup=warmup)
    if seed is not None:
        require_seed(seed)


def _seed(seed: int | None) -> int:
    return int(torch.randint(2**62, ())) if seed is None else seed


def _run(
    chains: LineChains, warmup: int, num_draws: int, thin: int, progress: bool, like: Tensor
) -> Tensor:
    with tqdm(
        total=warmup + num_draws * thin, desc="line Gibbs", unit="sweep", disable=not progress,
        dynamic_ncols=True,
    ) as bar:  # fmt: skip
        if warmup:
            chains.warm_up(warmup, bar.update)
        return torch.from_numpy(chains.draw(num_draws, thin, bar.update)).to(like)


def _tensors(stack: AffineStack) -> tuple[Tensor, ...]:
    prior = (stack.prior_loc, stack.prior_scale_tril)
    mixed = () if stack.prior_logits is None else (stack.prior_logits,)
    return (*stack.weights, *stack.biases, stack.noise_scale, *prior, *mixed)


def _all_equal(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return len(ours) == len(theirs) and all(
        a.shape == b.shape and a.device == b.device and torch.equal(a, b)
        for a, b in zip(ours, theirs, strict=True)
    )
