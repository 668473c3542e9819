"""How strongly a model's log densities bend: what step sizes are chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyrolvm.amortization.log_joint import LogJoint, curvature
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness

LEAST_CURVATURE = 1e-2


@dataclass(frozen=True)
class Curvature:
    """Curvatures of a model at pairs (z, x) that it draws itself.

    Args:
        x: The observations that were drawn, shape ``(N, obs_dim)``.
        largest: Largest eigenvalue of the Hessian of −log p(x, z) at a pair.
        largest_misfit: Largest eigenvalue of the Hessian of −σ² log p(x | z), at the pairs and at
            the prior's mean; σ² is the mean variance of x given z there.
        scale_tril: Cholesky factor of the inverse of the mean Hessian of −log p(x, z): a typical
            width of the posterior, shape ``(D, D)``.
    """

    x: Tensor
    largest: float
    largest_misfit: float
    scale_tril: Tensor


def typical_curvature(model: Any, size: int = 64, seed: int = 0) -> Curvature:
    """Simulate pairs and measure the Hessians there.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        size: Number of pairs.
        seed: Of the pairs; the user's random numbers stay as they are.
    """
    with torch.no_grad(), own_randomness(seed):
        z = model.prior().sample(torch.Size([size]))
        x = model.likelihood(z).sample()
        joint = LogJoint(model, x)
        hessians = curvature(joint, z)
        values, vectors = torch.linalg.eigh(hessians.mean(0))
        covariance = (vectors / values.clamp_min(LEAST_CURVATURE)) @ vectors.mT
        centre = model.prior().mean.expand_as(z)
        misfits = [curvature(joint.log_likelihood, point) for point in (z, centre)]
        misfit = noise_variance(model) * torch.linalg.eigvalsh(torch.cat(misfits)).max()
        return Curvature(
            x=x,
            largest=max(torch.linalg.eigvalsh(hessians).max().item(), LEAST_CURVATURE),
            largest_misfit=max(misfit.item(), 1e-12),
            scale_tril=torch.linalg.cholesky(covariance),
        )


def noise_variance(model: Any) -> Tensor:
    """Mean variance of x given z at the prior's mean, the unit in which a misfit is measured."""
    return model.likelihood(model.prior().mean).variance.mean()


def require_positive(**scales: float | None) -> None:
    """Refuse step sizes and scales that are given and not positive.

    Raises:
        SettingError: Naming the first one.
    """
    for name, scale in scales.items():
        if scale is not None and not scale > 0:
            raise SettingError(
                f"{name} should be positive, or None to be chosen by the model's curvature, but "
                f"it is {scale}."
            )
