r"""The model p* of a bidirectional Helmholtz machine, and what it can be asked.

.. math:: p^*(x) = \frac{1}{Z^2} \Big( \sum_z \sqrt{p(x, z) \, q(z \mid x)} \Big)^2
                 = \frac{\tilde p^*(x)}{Z^2}
                 = \frac{p(x) \, BC^2(x)}{Z^2}

It tilts p towards the data whose posterior the guide matches; with an exact guide it is p itself.

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import (
    Data,
    Estimate,
    Model,
    evaluating,
    log_densities,
)
from pyrolvm.core.checkpoint import tensor_digest
from pyrolvm.core.errors import require_at_least
from pyrolvm.core.program_state import program_state
from pyrolvm.core.programs import require_pair
from pyrolvm.core.reachable import reachable
from pyrolvm.inference.pstar.ancestral import Ancestral
from pyrolvm.inference.pstar.chains import inpainting_chains, sampling_chains
from pyrolvm.inference.pstar.checks import (
    observed_places,
    refuse_chain_densities,
    refuse_other_layers,
    refuse_per_datum,
    require_binary,
)
from pyrolvm.inference.pstar.normaliser import estimate_log_z2
from pyrolvm.inference.pstar.program import coupled_program
from pyrolvm.inference.pstar.resampling import posterior_draws, resampled

PARTICLES_TIMES_DATA = 2**20
"""Log weights that are held at once."""


class PStar:
    r"""A generative model and a guide, coupled at the geometric mean of their joint laws.

    Everything is measured with the parameters as they are when asked. Estimates are in double
    precision and in nats; chains run in the model's own type.

    Args:
        model: A Pyro program; for what needs Z or draws, one that runs without observations.
        guide: A Pyro program with the same arguments.
        progress: Whether work that takes more than a second shows a bar.

    Raises:
        IncompatiblePairError: If the guide's density is over a chain that ends at z, or it is made
            for other layers than the model's.

    >>> from pyrolvm import guides, models
    >>> model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=5)
    >>> pstar = PStar(model, guides.HelmholtzCoupled(model))
    >>> pstar.log_prob(model(size=4)).shape, pstar.log_z2().method
    (torch.Size([4]), 'exact')
    """

    def __init__(
        self, model: Callable[..., Any], guide: Callable[..., Any], *, progress: bool = True
    ) -> None:
        require_pair(model, guide)
        refuse_chain_densities(guide)
        refuse_other_layers(model, guide)
        self.model, self.guide, self.progress = model, guide, progress
        self._known_z2: tuple[str, Estimate] | None = None

    def log_bound(
        self, x: Float[Tensor, "data obs_dim"], num_particles: int = 1000
    ) -> Float[Tensor, " data"]:
        r"""Estimate :math:`\log \tilde p^*(x)` by the coupled bound of K draws.

        .. math:: L_K = 2 \log \frac1K \sum_k \sqrt{p(x, z_k) / q(z_k \mid x)}, \qquad z_k \sim q

        Its mean grows with K, from the ELBO to the limit, which is at most log p(x).

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            num_particles: Draws K for each datum.

        Returns:
            Nats, shape ``(N,)``, double precision.

        Raises:
            DataError: If x has the wrong shape or values.
            FactorisationError: If a latent site lies outside the plate ``"data"``.
            SiteError: If the sites of model and guide do not match.
        """
        require_at_least(1, num_particles=num_particles)
        rows = self._rows(x)
        size = max(1, PARTICLES_TIMES_DATA // rows.num_rows)
        total = torch.full((rows.num_rows,), -torch.inf, dtype=torch.float64, device=rows.device)
        with self._bar("log p~*", num_particles) as bar:
            for start in range(0, num_particles, size):
                number = min(size, num_particles - start)
                found = log_densities(self.model, self.guide, rows, num_particles=number)
                found.require_per_datum("log p*")
                total = torch.logaddexp(total, (found.log_weights / 2).logsumexp(0))
                bar.update(number)
        return 2 * (total - math.log(num_particles))

    def log_prob(
        self,
        x: Float[Tensor, "data obs_dim"],
        num_particles: int = 1000,
        log_z2: Estimate | None = None,
    ) -> Float[Tensor, " data"]:
        """Estimate log p*(x), as the coupled bound less log Z².

        The bound is too low on average and log Z² of samples is too, so that this is no bound; the
        standard error of log Z² is common to all data.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            num_particles: Draws K for each datum.
            log_z2: Log Z²; None takes what :meth:`log_z2` found last for these parameters, or asks
                it.

        Returns:
            Nats, shape ``(N,)``, double precision.

        Raises:
            DataError: If x has the wrong shape or values.
            SiteError: If the sites do not match, or the model does not run without observations.
        """
        bound = self.log_bound(x, num_particles)
        return bound - (log_z2 or self._latest_z2()).value

    def log_z2(
        self, num_samples: int = 100_000, num_inner: int = 10, method: str = "auto"
    ) -> Estimate:
        r"""Log Z², the constant that separates the bound from log p*; −log Z² is at least 0.

        .. math:: Z^2 = E_{(x, z) \sim p, \; z' \sim q(\cdot \mid x)} \sqrt{
                  \frac{q(z \mid x)}{p(x, z)} \, \frac{p(x, z')}{q(z' \mid x)}}

        Args:
            num_samples: Draws (x, z) of the model.
            num_inner: Draws z' of the guide for each, over which the second factor is averaged.
            method: ``"exact"`` sums over small nets of binary units, ``"sampled"`` draws,
                ``"auto"`` sums where that is in reach.

        Returns:
            The estimate in nats, its standard error by the delta method, and ``"exact"`` or
            ``"sampled"``. Where −log Z² is beyond about 2 nats, few draws carry the mean: value
            and error are then both too small unless there are very many.

        Raises:
            SettingError: If the method is none of these, or a number is too small.
            EvidenceError: If exact sums are asked for and the net is too wide.
            SiteError: If the model does not run without observations.
        """
        require_at_least(2, num_samples=num_samples)
        require_at_least(1, num_inner=num_inner)
        refuse_per_datum(self.guide, "log Z²")
        found = estimate_log_z2(
            self.model,
            self.guide,
            num_samples=num_samples,
            num_inner=num_inner,
            method=method,
            progress=self.progress,
        )
        self._known_z2 = self._digest(), found
        return found

    def sample(
        self,
        size: int,
        *,
        sweeps: int = 250,
        num_candidates: int = 8,
        chains: int | None = None,
        thinning: int = 10,
    ) -> Float[Tensor, "draw obs_dim"]:
        """Draw from p* by Markov chains that leave it exactly invariant.

        Args:
            size: Number of draws.
            sweeps: Sweeps of each chain from its start, a draw from p, to its first draw.
            num_candidates: Candidates of each layer's update, at least 2.
            chains: Number of chains; None gives every draw a chain of its own.
            thinning: Sweeps between the draws of one chain, where there are fewer chains.

        Returns:
            Zeros and ones in the model's type, shape ``(size, obs_dim)``.

        Raises:
            IncompatiblePairError: If model or guide are not stacks of binary layers.
            SettingError: If a number is too small.

        References:
            The chain: :mod:`pyrolvm.inference.pstar.replicas`.
        """
        chains = size if chains is None else min(chains, size)
        require_at_least(1, size=size, sweeps=sweeps, chains=chains, thinning=thinning)
        require_at_least(2, num_candidates=num_candidates)
        dtype = require_binary(self.model, self.guide, "PStar.sample")
        with evaluating(self.model, self.guide, dtype=dtype):
            return sampling_chains(
                self.model, self.guide, size, sweeps, num_candidates, chains, thinning, self._bar
            )

    def sample_by_importance(
        self, size: int, oversample: int = 100, num_inner: int = 10
    ) -> Float[Tensor, "draw obs_dim"]:
        """Draw from p* by resampling draws of the model, for any pair.

        Exact in the limit of many candidates; a draw can come several times.

        Args:
            size: Number of draws.
            oversample: Candidates for each draw.
            num_inner: Draws of the guide that the weight of each candidate rests on.

        Returns:
            Double precision, shape ``(size, obs_dim)``.

        Raises:
            SettingError: If a number is too small.
            SiteError: If the model does not run without observations.
        """
        require_at_least(1, size=size, oversample=oversample, num_inner=num_inner)
        refuse_per_datum(self.guide, "a draw from p*")
        draws = Ancestral(self.model, self.guide)
        candidates = size * oversample
        with self._bar("candidates", candidates) as bar:

            def parts() -> Any:
                for part in draws.weighted(candidates, num_inner):
                    yield part.x, part.log_weight
                    bar.update(len(part.x))

            return resampled(parts(), size)

    def inpaint(
        self,
        x: Float[Tensor, "data obs_dim"],
        mask: Bool[Tensor, "*data obs_dim"],
        *,
        num_chains: int = 10,
        sweeps: int = 250,
        num_candidates: int = 8,
    ) -> Float[Tensor, "chain data obs_dim"]:
        """Draw the hidden places of x from p* given the observed ones.

        Args:
            x: Observations, shape ``(N, obs_dim)``; hidden places may hold anything, NaN too.
            mask: True where x is observed and kept, shape ``(N, obs_dim)`` or ``(obs_dim,)``.
            num_chains: Chains, and draws, for each datum.
            sweeps: Sweeps of each chain.
            num_candidates: Candidates of each layer's update, at least 2.

        Returns:
            Zeros and ones in the model's type, shape ``(num_chains, N, obs_dim)``.

        Raises:
            DataError: If the mask has another shape or type, or an observed value is neither 0
                nor 1.
            IncompatiblePairError: If model or guide are not stacks of binary layers.
            SettingError: If a number is too small.
        """
        require_at_least(1, num_chains=num_chains, sweeps=sweeps)
        require_at_least(2, num_candidates=num_candidates)
        dtype = require_binary(self.model, self.guide, "PStar.inpaint")
        model: Any = self.model
        x, mask = observed_places(x, mask, model.obs_dim)
        device = model.layer_logits(model.latent_sites[0], None).device
        x, mask = x.to(device, dtype), mask.to(device)
        with evaluating(model, self.guide, dtype=dtype):
            return inpainting_chains(
                model, self.guide, x, mask, num_chains, sweeps, num_candidates, self._bar
            )

    def posterior_sample(
        self, x: Float[Tensor, "data obs_dim"], num_draws: int, num_particles: int = 1000
    ) -> dict[str, Tensor]:
        """Draw latents from p*(z | x), proportional to √(p q), by resampling draws of the guide.

        Exact in the limit of many particles.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            num_draws: Draws M for each datum, with replacement.
            num_particles: Draws of the guide that they are chosen from.

        Returns:
            By latent site, shape ``(M, N, width)``.

        Raises:
            DataError: If x has the wrong shape or values.
            FactorisationError: If a latent site lies outside the plate ``"data"``.
        """
        require_at_least(1, num_draws=num_draws, num_particles=num_particles)
        return posterior_draws(self.model, self.guide, self._rows(x), num_draws, num_particles)

    def program(self) -> Callable[..., Any]:
        r"""The unnormalised law :math:`\sqrt{p(x, z) \, q(z \mid x)}` as a Pyro program.

        It has the model's sites and arguments, so that Pyro's enumeration and, for continuous
        latents, its samplers serve p*(z | x).
        """
        return coupled_program(self.model, self.guide)

    def _rows(self, x: Any) -> Data:
        rows = Data.of(x)
        if isinstance(self.model, Model):
            self.model.check_data(rows)
            rows = rows.to(self.model.device)
        return rows

    def _latest_z2(self) -> Estimate:
        known = self._known_z2
        return known[1] if known is not None and known[0] == self._digest() else self.log_z2()

    def _digest(self) -> str:
        """Stands for the parameters of both, as they are now, and for tensors in their code."""
        loose = reachable(self.model, self.guide)[1]
        held = ((f"held.{number}", tensor) for number, tensor in enumerate(loose))
        return tensor_digest((*program_state(self.model, self.guide).items(), *held))

    def _bar(self, text: str, total: int) -> tqdm:
        return tqdm(total=total, desc=text, disable=not self.progress, delay=1, dynamic_ncols=True)
