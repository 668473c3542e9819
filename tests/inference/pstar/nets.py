"""Small nets with random weights, and their sums written out over every state."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from pyrolvm import guides, models


def random_pair(layers: tuple[int, ...], obs_dim: int, reach: float = 2.0) -> tuple[Any, Any]:
    """A belief network and its bottom-up guide with weights and biases uniform in ±reach."""
    model = models.SigmoidBeliefNetwork(layers=layers, obs_dim=obs_dim).double()
    guide = guides.HelmholtzCoupled(model).double()
    with torch.no_grad():
        for parameter in (*model.parameters(), *guide.parameters()):
            parameter.uniform_(-reach, reach)
    return model, guide


def states(width: int) -> Tensor:
    """Every state of a layer, without the package's own enumeration."""
    return torch.tensor(list(product([0.0, 1.0], repeat=width)), dtype=torch.float64)


@dataclass(frozen=True)
class Enumerated:
    """Log p(x, h) and log q(h | x) at every x and every joint h, shape ``(X, H)`` each."""

    model: Any
    guide: Any
    x: Tensor
    latents: dict[str, Tensor]
    log_joint: Tensor
    log_guide: Tensor

    @property
    def log_evidence(self) -> Tensor:
        return self.log_joint.logsumexp(1)

    @property
    def log_bound(self) -> Tensor:
        return 2 * ((self.log_joint + self.log_guide) / 2).logsumexp(1)

    @property
    def log_z2(self) -> Tensor:
        return self.log_bound.logsumexp(0)

    @property
    def pstar(self) -> Tensor:
        return (self.log_bound - self.log_z2).exp()


def enumerated(model: Any, guide: Any) -> Enumerated:
    """Score every x and joint h by the programs' own distributions, one site at a time."""
    order = tuple(reversed(model.latent_sites))
    widths = [model.layer_dims[site] for site in order]
    x, joint = states(model.obs_dim), states(sum(widths))
    latents = dict(zip(order, joint.split(widths, -1), strict=True))
    with torch.no_grad():
        prior = sum(
            model.layer_prior(site, latents).expand((len(joint),)).log_prob(latents[site])
            for site in order
        )
        log_joint = prior + model.layer_likelihood(latents).log_prob(x[:, None])
        log_guide: Any = torch.zeros(())
        below = x[:, None]
        for site in order:
            logits = guide.layer_logits(site, below)
            law = torch.distributions.Bernoulli(logits=logits)
            log_guide = log_guide + law.log_prob(latents[site]).sum(-1)
            below = latents[site]
    return Enumerated(model, guide, x, latents, log_joint, log_guide)
