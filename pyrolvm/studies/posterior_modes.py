r"""How many modes the exact posterior of a datum has, weighted by their mass (one latent).

On a region on which the generator is affine, :math:`\log p(x, z)` is a concave parabola in z, and
it is continuous across regions. A valley between two modes is therefore exactly a breakpoint whose
left slope falls and whose right slope rises; the modes are the runs of regions between valleys.
With :math:`m_k` the posterior mass of mode k, the measure is

.. math:: H = - \sum_k m_k \log m_k

in nats: 0 for one mode, log 2 for two equal ones. A guide of one Gaussian that fits one of two
separate modes perfectly has a gap of :math:`-\log m_k`, so that both are on one scale.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import PiecewiseAffine, evaluating
from pyrolvm.core.pairing import offers
from pyrolvm.exact import AffineStack, LatentRegions, solve
from pyrolvm.inference.evidence import Evidence
from pyrolvm.studies.training import Trained

MODE_FIGURES = ("mode_entropy", "mode_entropy_se", "mode_entropy_median", "mode_entropy_q90")


def posterior_mode_entropy(trained: Trained, evidence: Evidence) -> Float[Tensor, " data"] | None:
    """Mode entropy of every scored datum; None where it is not defined.

    It is defined for a piecewise-affine generator with one latent and a Gaussian prior.

    Args:
        trained: The pair.
        evidence: What the cell rests on.
    """
    model = trained.model
    if evidence.is_bound or not offers(model, PiecewiseAffine) or model.latent_dim != 1:
        return None
    stack = AffineStack.of(model.affine_stack)
    if stack.prior_logits is not None:
        return None
    with evaluating(model), torch.no_grad():
        return mode_entropy(stack, trained.rows.test.double())


def mode_entropy(stack: AffineStack, x: Float[Tensor, "data D"]) -> Float[Tensor, " data"]:
    """Entropy of the masses of the exact posterior's modes, in nats.

    Args:
        stack: A generator with one latent and a Gaussian prior.
        x: Observations.
    """
    solved: Any = solve(stack, x)
    mass = solved.region_probabilities.dense()
    modes = torch.zeros(mass.shape, dtype=torch.long)
    modes[:, 1:] = _valleys(stack, solved.regions, x.double()).cumsum(1)
    masses = torch.zeros_like(mass).scatter_add_(1, modes, mass)
    return torch.special.entr(masses).sum(1).clamp_min(0.0)


def _valleys(
    stack: AffineStack, regions: LatentRegions, x: Float[Tensor, "data D"]
) -> Float[Tensor, "data breakpoints"]:
    """Whether log p(x, z) falls on the left of a breakpoint and rises on its right."""
    z, slopes = regions.breakpoints.double(), regions.matrices[:, :, 0].double()
    at = z[:, None] * slopes[:-1] + regions.offsets[:-1].double()
    precision = stack.noise_scale.detach().double().pow(-2)
    scaled = (x[:, None, :] - at) * precision
    prior = (z - stack.prior_loc.detach().double()) / stack.prior_scale_tril.detach().double() ** 2
    left = (scaled * slopes[:-1]).sum(-1) - prior.reshape(-1)
    right = (scaled * slopes[1:]).sum(-1) - prior.reshape(-1)
    return (left < 0) & (right > 0)


def mode_results(entropy: Float[Tensor, " data"] | None) -> dict[str, float | None]:
    """Mean, its standard error, median and upper decile over the scored data, in nats.

    Args:
        entropy: From :func:`posterior_mode_entropy`.
    """
    if entropy is None:
        return dict.fromkeys(MODE_FIGURES)
    error = entropy.std().item() / len(entropy) ** 0.5
    found = (entropy.mean().item(), error, *entropy.quantile(_QUANTILES).tolist())
    return dict(zip(MODE_FIGURES, found, strict=True))


_QUANTILES = torch.tensor([0.5, 0.9], dtype=torch.float64)
