r"""M-step of the prior: moments of the latent vector under all posteriors.

.. math:: \pi_k = \frac1N \sum_n r_{nk}, \qquad
          \mu_k = \frac{\sum_n r_{nk} E_k[z \mid x_n]}{N \pi_k}, \qquad
          \Sigma_k = \frac{\sum_n r_{nk} E_k[(z - \mu_k)(z - \mu_k)^\top \mid x_n]}{N \pi_k} .

No region moves in z, so that this is an exact M-step: the likelihood cannot fall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pyrolvm.exact.folding import Array
from pyrolvm.exact.learning.expectation_step import ExpectationStep
from pyrolvm.exact.learning.learning_parts import LearningParts
from pyrolvm.exact.learning.region_sums import RegionSums
from pyrolvm.exact.stack import AffineStack

# A component that holds less than so many data keeps its mean and covariance.
FEWEST = 1e-6


def best_prior(step: ExpectationStep, learning: LearningParts) -> AffineStack:
    """The prior that maximises the expected log joint density.

    Args:
        step: The E-step.
        learning: What of the prior may change.

    Returns:
        The generator with this prior.
    """
    stack = step.stack
    found = [
        _gaussian([part for part in step.sums if part.component == k], learning)
        for k in range(len(step.partitions))
    ]
    loc = torch.from_numpy(np.stack([each[0] for each in found]))
    tril = torch.from_numpy(np.stack([each[1] for each in found]))
    if stack.prior_logits is None:
        return replace(stack, prior_loc=loc[0], prior_scale_tril=tril[0])
    logits = stack.prior_logits
    if learning.prior_logits:
        share = torch.from_numpy(step.responsibilities.mean(0))
        logits = share.clamp(min=1e-300).log()
    return replace(stack, prior_loc=loc, prior_scale_tril=tril, prior_logits=logits)


def absorbed_prior(step: ExpectationStep) -> AffineStack:
    """The best prior, put into the first layer, so that the prior itself stays as it is.

    With z = m + A (z' - m_0) the best prior of z is the old one of z'. This parameter-expanded
    step undoes the slowness of EM where the noise is small: without it the first layer's scale
    moves by the ratio of noise to signal a sweep.

    Args:
        step: The E-step, under a single Gaussian prior.

    Returns:
        The generator with another first layer.

    References:
        Liu, Rubin & Wu (1998), Parameter Expansion to Accelerate EM: The PX-EM Algorithm.
    """
    stack = step.stack
    layers = (False,) * len(stack.weights)
    wanted = best_prior(step, LearningParts(layers, layers, prior_loc=True, prior_scale_tril=True))
    turn = wanted.prior_scale_tril @ torch.linalg.inv(stack.prior_scale_tril)
    shift = wanted.prior_loc - turn @ stack.prior_loc
    first, bias = stack.weights[0], stack.biases[0]
    return replace(
        stack,
        weights=(first @ turn, *stack.weights[1:]),
        biases=(bias + first @ shift, *stack.biases[1:]),
    )


def _gaussian(sums: Sequence[RegionSums], learning: LearningParts) -> tuple[Array, Array]:
    """Mean and Cholesky factor of one component."""
    folded = sums[0].folded
    loc, tril = folded.prior_loc, folded.prior_scale_tril
    anchors = np.concatenate([part.anchors for part in sums])
    outer = np.concatenate([part.outer for part in sums])
    mass, first = outer[:, 0, 0], outer[:, 0, 1:]
    if mass.sum() < FEWEST:
        return loc, tril
    total = mass.sum()
    centre = np.zeros(len(loc))
    if learning.prior_loc:
        centre = (mass @ anchors + first.sum(0)) / total
        loc = folded.to_latent(centre)
    if learning.prior_scale_tril:
        rest = anchors - centre
        mixed = rest.T @ first
        spread = (rest * mass[:, None]).T @ rest + mixed + mixed.T
        spread = (spread + outer[:, 1:, 1:].sum(0)) / total
        tril = tril @ np.linalg.cholesky(spread)
    return loc, tril
