r"""The loss of one member of an ensemble as a plain tensor, with the weights of rates as data.

.. math:: \mathcal L_\beta = E_q[-\log p(x \mid z)] +
          \sum_l \beta_l \, E_q[\log q(z_l \mid \cdot) - \log p(z_l \mid \cdot)]

Pyro's objectives read numbers out of tensors on the way, which nothing that runs many programs at
once can do. This one only adds tensors up; it needs reparameterised draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor

from pyrolvm.core import Data, Model
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.sites import delta_within
from pyrolvm.core.tracing import PairTrace, run_pair, run_vectorised
from pyrolvm.objectives.site_rates import analytic_rate


@dataclass(frozen=True)
class EnsembleLoss:
    """Distortion plus weighted rates of a pair, summed over data.

    Args:
        weighted_sites: Latent sites whose rates have weights, in the order of these.
        analytic: Whether the KL of a site is taken in closed form where one is known.
        num_particles: Draws of the guide for each datum.
        particle_dim: Dimension of the plate around them.
    """

    weighted_sites: tuple[str, ...] = ()
    analytic: bool = False
    num_particles: int = 1
    particle_dim: int = -2

    def __call__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        data: Data,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss in nats, a tensor without dimensions.

        Args:
            model: A Pyro program.
            guide: A Pyro program.
            data: What both take.
            weights: Of the rates of ``weighted_sites``, shape ``(len(weighted_sites),)``.
        """
        pair = self._run(model, guide, data)
        terms = [-_log_prob(site) for site in pair.observed().values()]
        drawn = pair.guide_sites()
        for name, site in pair.latents().items():
            rate = self._rate(site, drawn.pop(name))
            if weights is not None and name in self.weighted_sites:
                rate = rate * weights[self.weighted_sites.index(name)]
            terms.append(rate)
        terms += [_log_prob(site) for site in drawn.values()]  # auxiliary sites, factors
        return torch.stack(terms).sum() / self.num_particles

    def _run(self, model: Callable[..., Any], guide: Callable[..., Any], data: Data) -> PairTrace:
        if self.num_particles == 1:
            return run_pair(model, guide, data)
        return run_vectorised(model, guide, data, self.num_particles, self.particle_dim)

    def _rate(self, site: dict[str, Any], drawn: dict[str, Any]) -> Tensor:
        divergence = analytic_rate(site, drawn) if self.analytic else None
        if divergence is not None:
            return scale_and_mask(divergence, drawn["scale"], drawn["mask"]).sum()
        return _log_prob(drawn) - _log_prob(site)


def _log_prob(site: dict[str, Any]) -> Tensor:
    log_prob = site["fn"].log_prob(site["value"], *site["args"], **site["kwargs"])
    return scale_and_mask(log_prob, site["scale"], site["mask"]).sum()


def require_reparameterised(pair: PairTrace) -> None:
    """Refuse a guide with a draw that no gradient passes through.

    Raises:
        IncompatiblePairError: Naming the first such site.
    """
    for name, site in pair.guide_sites().items():
        if site["is_observed"] or site["fn"].has_rsample or delta_within(site["fn"]) is not None:
            continue
        raise IncompatiblePairError(
            f"fit_ensemble needs reparameterised draws, but the guide draws {name!r} from a "
            f"{type(site['fn']).__name__}, which has none. Train the pairs with lvm.fit, one "
            "after another."
        )


def observing(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a model that gets x by a handler, so that it does not look at the values of x.

    Models of PyroLVM check what they are given; a check of values has no answer for many batches
    at once, and has been made on all data before. Other programs are left as they are.
    """
    if not isinstance(model, Model):
        return model

    def observing_model(x: Tensor, **covariates: Tensor) -> Any:
        with poutine.condition(data={"x": x}):
            return model(size=x.shape[-2], **covariates)

    return observing_model
