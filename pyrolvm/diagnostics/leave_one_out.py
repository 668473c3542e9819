r"""Leave-one-out prediction from draws of a guide, and its probability integral transform.

.. math:: p(x_i \mid x_{-i}) \approx \frac{\sum_k r_{ki} \, p(x_i \mid z_k)}{\sum_k r_{ki}},
          \qquad r_{ki} = \frac{1}{p(x_i \mid z_k)} \frac{p(x, z_k)}{q(z_k)}

Without the second factor the guide is taken for the posterior. Where each datum has a latent of
its own, leaving it out leaves that latent's prior, and p(x_i | x_{-i}) is the evidence p(x_i) of
the fitted model: no ratio of densities has to be smoothed for it.

References:
    Vehtari, Gelman & Gabry (2017), Practical Bayesian Model Evaluation Using Leave-One-Out
    Cross-Validation and WAIC, Statistics and Computing 27.
    Magnusson, Andersen, Jonasson & Vehtari (2019), Bayesian Leave-One-Out Cross-Validation for
    Large Data, ICML.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from pyrolvm.diagnostics.arviz_export import pointwise_loo
from pyrolvm.diagnostics.importance import psis
from pyrolvm.diagnostics.predictive_checks import Array


def loo_of_guide(log_likelihood: Float[Tensor, "particle observation"]) -> tuple[Array, Array]:
    """Leave-one-out with the guide's draws taken for the posterior's, as is common.

    Args:
        log_likelihood: Of each observation at each draw in nats, shape ``(K, U)``.

    Returns:
        Expected log predictive density in nats and Pareto k of each observation, ``(U,)`` each.
    """
    return pointwise_loo(log_likelihood)


def loo_of_posterior(
    log_likelihood: Float[Tensor, "particle observation"],
    log_joint: Float[Tensor, " particle"],
    log_guide: Float[Tensor, " particle"],
) -> tuple[Array, Array]:
    """Leave-one-out with the guide's draws weighted to the posterior.

    Args:
        log_likelihood: Of each observation at each draw in nats, shape ``(K, U)``.
        log_joint: log p(x, z) of the data set at each draw, shape ``(K,)``.
        log_guide: log q(z) at each draw, shape ``(K,)``.

    Returns:
        As :func:`loo_of_guide`.
    """
    return pointwise_loo(log_likelihood, log_joint, log_guide)


def loo_log_weights(
    log_likelihood: Float[Tensor, "particle observation"], log_weights: Float[Tensor, " particle"]
) -> Float[Tensor, "particle observation"]:
    """Normalised log weights that take the draws of a guide to each leave-one-out posterior.

    Args:
        log_likelihood: Shape ``(K, U)`` in nats.
        log_weights: log p(x, z) − log q(z) of the data set, shape ``(K,)``.

    Returns:
        Shape ``(K, U)``; their exponentials sum to 1 over draws.
    """
    return psis(log_weights[:, None] - log_likelihood)[0]


def predictive_pit(
    observed: Array,
    replicated: Array,
    weights: Array | None = None,
    *,
    is_discrete: bool = False,
    seed: int = 0,
) -> Array:
    """Probability integral transform: where each observation lies among its predictions.

    Uniform for a model that predicts rightly. Among equal values the place is drawn at random.

    Args:
        observed: Shape ``(R,)``.
        replicated: Shape ``(K, R)``.
        weights: Of the draws, summing to 1 over them, shape ``(K, R)``; equal ones where None.
        is_discrete: Whether ties have probability.
        seed: Of the places among ties.

    Returns:
        Between 0 and 1, shape ``(R,)``.
    """
    weights = np.full(replicated.shape, 1 / len(replicated)) if weights is None else weights
    below = (weights * (replicated < observed)).sum(0)
    if not is_discrete:
        return np.clip(below, 0.0, 1.0)
    ties = (weights * (replicated == observed)).sum(0)
    return np.clip(below + ties * np.random.default_rng(seed).random(observed.shape), 0.0, 1.0)
