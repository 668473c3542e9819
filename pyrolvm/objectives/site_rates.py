r"""The rate of one latent site, in closed form or at a draw, and its weight in Pyro's estimator.

.. math:: R_l = E_q \operatorname{KL}(q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))
              = E_q[\log q(z_l \mid z_{>l}, x) - \log p(z_l \mid z_{>l})]
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.score_parts import ScoreParts
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from pyrolvm.core.errors import SiteError
from pyrolvm.core.sites import delta_within
from pyrolvm.core.tracing import PairTrace
from pyrolvm.objectives.rate_weights import is_one


def analytic_rate(model_site: dict[str, Any], guide_site: dict[str, Any]) -> Tensor | None:
    """Return KL(q || p) of one site given the draws above it, None where there is no closed form.

    Args:
        model_site: The site in the model's trace.
        guide_site: The same site in the guide's.

    Returns:
        Nats, of the guide's batch shape; neither scaled nor masked.
    """
    guide, model = guide_site["fn"], model_site["fn"]
    if delta_within(guide) is not None:
        return None
    try:
        divergence = kl_divergence(guide, _like(guide, model))
    except NotImplementedError:
        return None
    known = isinstance(divergence, Tensor) and divergence.shape == guide.batch_shape
    return divergence if known else None


def _like(guide: Any, model: Any) -> Any:
    """Write a diagonal Gaussian prior as a multivariate one beside a guide of that kind.

    PyTorch knows no divergence between the two forms.
    """
    diagonal = isinstance(model, Independent) and isinstance(model.base_dist, Normal)
    if not (isinstance(guide, MultivariateNormal) and diagonal and model.event_dim == 1):
        return model
    scale_tril = torch.diag_embed(model.base_dist.scale)
    return MultivariateNormal(model.base_dist.loc, scale_tril=scale_tril)


def weigh(
    model_site: dict[str, Any],
    guide_site: dict[str, Any],
    weight: float | Tensor,
    analytic: bool,
) -> Tensor:
    """Give a latent site its weight, so that ``Trace_ELBO`` sums the weighted loss.

    A closed-form KL takes the place of the model's log density, and the guide's is left out; what
    score-function gradients need stays.

    Args:
        model_site: The site in the model's trace, with its log density; changed in place.
        guide_site: The same site in the guide's trace, with its score parts; changed in place.
        weight: Of its rate.
        analytic: Whether to take a closed form where there is one.

    Returns:
        The rate without its weight, summed over plates, detached.
    """
    divergence = analytic_rate(model_site, guide_site) if analytic else None
    if divergence is not None:
        rate = scale_and_mask(divergence, guide_site["scale"], guide_site["mask"])
        _put(model_site, -rate if is_one(weight) else -rate * weight)
        none: Any = 0.0
        score_function = guide_site["score_parts"].score_function
        guide_site.update(
            log_prob=0.0, log_prob_sum=0.0, score_parts=ScoreParts(none, score_function, none)
        )
        return rate.detach().sum()
    sampled = guide_site["log_prob_sum"].detach() - model_site["log_prob_sum"].detach()
    if not is_one(weight):
        _put(model_site, model_site["log_prob"] * weight)
        _put(guide_site, guide_site["log_prob"] * weight)
        parts = guide_site["score_parts"]
        guide_site["score_parts"] = ScoreParts(
            guide_site["log_prob"], parts.score_function, parts.entropy_term * weight
        )
    return torch.as_tensor(sampled)


def _put(site: dict[str, Any], log_prob: Tensor) -> None:
    site.update(log_prob=log_prob, log_prob_sum=log_prob.sum())


def site_weight(site: dict[str, Any]) -> Tensor:
    """Return by what a handler multiplies a site's log density, beyond its plates' subsampling.

    Args:
        site: A sample site of a trace.

    Returns:
        A number, or the largest deviation from 1 where the scale differs within the site.
    """
    by_plates = math.prod(
        frame.full_size / frame.size
        for frame in site["cond_indep_stack"]
        if frame.full_size is not None
    )
    weight = torch.as_tensor(site["scale"]).detach().double() / by_plates
    return weight.flatten()[(weight - 1).abs().flatten().argmax()]


def refuse_one_sided_scales(pair: PairTrace) -> None:
    """Refuse a pair that scales a latent site in one of the two programs only.

    Its loss would be a weighted cross entropy minus an entropy with another weight, which nobody
    wants; some objectives of Pyro would leave the scale out without a word.

    Raises:
        SiteError: Naming the site and both scales.
    """
    drawn = pair.guide_sites()
    for name, site in pair.latents().items():
        other = drawn.get(name)
        if other is None or delta_within(other["fn"]) is not None:
            continue
        if not _equal(site["scale"], other["scale"]):
            raise SiteError(
                f"The latent site {name!r} has the scale {_shown(site['scale'])} in the model and "
                f"{_shown(other['scale'])} in the guide, so that its log densities do not make up "
                "a rate. Scale both alike: weighted(model, weights) and weighted(guide, weights), "
                "or leave both plain and train with LayerwiseELBO(weights)."
            )


def _equal(one: float | Tensor, other: float | Tensor) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        first, second = torch.as_tensor(one).detach(), torch.as_tensor(other).detach()
        return bool(torch.isclose(first.double(), second.double(), rtol=1e-6, atol=0).all())
    return abs(one - other) <= 1e-6 * abs(one)


def _shown(scale: float | Tensor) -> str:
    if isinstance(scale, Tensor) and scale.numel() > 1:
        return f"of shape {tuple(scale.shape)}"
    return f"{float(scale):g}"
