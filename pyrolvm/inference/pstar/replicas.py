r"""Markov chain whose x follows p*: two replicas of the latents that share one x.

.. math:: \pi(x, h, g) \propto \sqrt{p(x, h) \, q(h \mid x)} \; \sqrt{p(x, g) \, q(g \mid x)}

Summed over h and g this is :math:`\tilde p^*(x)`, its normaliser is Z², and (x, h) follow
p*(x, h). A layer given its neighbours has the weight

.. math:: \sqrt{p(h_l \mid h_{l+1}) \, q(h_l \mid h_{l-1})} \;
          \sqrt{p(h_{l-1} \mid h_l) \, q(h_{l+1} \mid h_l)}

The first root is, normalised, a Bernoulli law at the mean of both log odds: it proposes
candidates, the second weighs them. x stands between both replicas: the mean of their log odds
proposes it, :math:`\sqrt{q(h_1 \mid x) \, q(g_1 \mid x)}` weighs it. The current state is one of
the candidates, which leaves the law exactly invariant for any number of them; without it, or
without the factor for x, the chain follows another law. Even layers depend on odd ones alone, and
the reverse.

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines (the model).
    Andrieu, Lee & Vihola (2018), Uniform Ergodicity of the Iterated Conditional SMC and Geometric
    Ergodicity of Particle Gibbs Samplers (the current state as a candidate).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

CANDIDATE_ELEMENTS = 2**21
"""Numbers that one layer's candidates of a block of chains may fill; more leaves the cache."""


@dataclass
class ReplicaState:
    """Where C chains are.

    Args:
        x: Shape ``(C, obs_dim)``.
        layers: z_1 to z_L of both replicas, shape ``(2, C, width)`` each.
    """

    x: Tensor
    layers: list[Tensor]


class TwoReplicaSampler:
    """Sweeps of the chain, for many chains at once.

    Args:
        model: Offers :class:`pyrolvm.core.BinaryLayers`.
        guide: Offers :class:`pyrolvm.core.BinaryRecognition`.
        num_candidates: Candidates of each update, the current state among them.
    """

    def __init__(self, model: Any, guide: Any, num_candidates: int = 8) -> None:
        self.num_candidates = num_candidates
        self.sites: tuple[str, ...] = tuple(reversed(model.latent_sites))
        self._model, self._guide = model, guide

    def ancestral(self, size: int) -> ReplicaState:
        """Start from the model: x and one replica from it, the other one from the guide."""
        value: Tensor | None = None
        down = []
        for site in (*reversed(self.sites), "x"):
            logits = self._model.layer_logits(site, value)
            value = _draw(logits if value is not None else logits.expand(size, -1))
            down.append(value)
        x = down.pop()
        up = self.inferred(x).layers
        layers = [torch.stack([h, g[0]]) for h, g in zip(reversed(down), up, strict=True)]
        return ReplicaState(x, layers)

    def inferred(self, x: Float[Tensor, "chain obs_dim"]) -> ReplicaState:
        """Start both replicas from the guide, at a given x."""
        value, layers = x.expand(2, *x.shape), []
        for site in self.sites:
            value = _draw(self._guide.layer_logits(site, value))
            layers.append(value)
        return ReplicaState(x, layers)

    def sweep(self, state: ReplicaState, free: Tensor | None = None) -> None:
        """Update every layer of every chain once, odd layers first, in place.

        Args:
            state: Where the chains are.
            free: Places of x that move, shape ``(C, obs_dim)`` or ``(obs_dim,)``; None for all.
        """
        depth = len(self.sites)
        for layer in (*range(1, depth + 1, 2), *range(2, depth + 1, 2)):
            self._update_layer(state, layer)
        self._update_x(state, free)

    def _update_layer(self, state: ReplicaState, layer: int) -> None:
        """Update z_l of both replicas; ``layer`` counts from 1."""
        place, layers = layer - 1, state.layers
        site = self.sites[place]
        above = layers[layer] if layer < len(layers) else None
        below = layers[place - 1] if place else state.x.expand(2, *state.x.shape)
        proposal = self._model.layer_logits(site, above) + self._guide.layer_logits(site, below)
        candidates = self._candidates(layers[place], proposal / 2)
        name_below = self.sites[place - 1] if place else "x"
        weight = _log_probability(self._model.layer_logits(name_below, candidates), below)
        if above is not None:
            up = self._guide.layer_logits(self.sites[layer], candidates)
            weight = weight + _log_probability(up, above)
        layers[place] = _choose(candidates, weight / 2)

    def _update_x(self, state: ReplicaState, free: Tensor | None) -> None:
        lowest = state.layers[0]
        logits = self._model.layer_logits("x", lowest).mean(0)
        candidates = self._candidates(state.x, logits)
        if free is not None:
            candidates = torch.where(free, candidates, state.x)
        up = self._guide.layer_logits(self.sites[0], candidates)
        weight = _log_probability(up[:, None], lowest).sum(1)
        state.x = _choose(candidates, weight / 2)

    def _candidates(self, current: Tensor, logits: Tensor) -> Tensor:
        """The current state and fresh draws beside it, shape ``(M, ...)``."""
        fresh = _draw(logits.expand(self.num_candidates - 1, *current.shape))
        return torch.cat([current[None], fresh])

    def block_size(self) -> int:
        """Chains that run together: as many as keep the candidates in a processor's cache."""
        widths = [*self._model.layer_dims.values(), self._model.obs_dim]
        return max(64, CANDIDATE_ELEMENTS // (2 * self.num_candidates * max(widths)))


def run_in_blocks(
    sampler: TwoReplicaSampler,
    num_chains: int,
    start: Callable[[slice], ReplicaState],
    go: Callable[[ReplicaState, slice], Tensor],
) -> list[Tensor]:
    """Run chains block by block, each from its start to its end.

    Args:
        sampler: Knows how many chains run together.
        num_chains: Number of chains in all.
        start: Makes the state of a block.
        go: Runs a block and returns what is kept of it.
    """
    size = sampler.block_size()
    blocks = [slice(i, min(i + size, num_chains)) for i in range(0, num_chains, size)]
    return [go(start(block), block) for block in blocks]


def _draw(logits: Tensor) -> Tensor:
    return (torch.rand_like(logits) < logits.sigmoid()).to(logits.dtype)


def _log_probability(logits: Tensor, value: Tensor) -> Tensor:
    """Log probability of zeros and ones, summed over the units."""
    return logsigmoid((2 * value - 1) * logits).sum(-1)


def _choose(
    candidates: Float[Tensor, "candidate *batch width"],
    log_weight: Float[Tensor, " candidate *batch"],
) -> Float[Tensor, "*batch width"]:
    """Pick one candidate of each chain with probability proportional to its weight."""
    cumulative = torch.softmax(log_weight, 0).cumsum(0)
    threshold = torch.rand_like(log_weight[0]) * cumulative[-1]
    chosen = (cumulative[:-1] <= threshold).sum(0)
    index = chosen[None, ..., None].expand(1, *candidates.shape[1:])
    return candidates.gather(0, index)[0]
