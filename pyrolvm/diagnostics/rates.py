r"""What the rates of layers say about tasks: bounds on accuracy, information, sample quality.

A classifier that sees a draw :math:`z \sim q(z \mid x)` of the layers from l up cannot be more
accurate than their rates allow (Fano's inequality):

.. math:: f(a) = H(Y) - h_b(a) - (1 - a) \log(K - 1) \;\le\; I(Y; Z_{\ge l}) \;\le\;
          \sum_{k \ge l} R_k

The bound says nothing of a classifier that sees posterior *means*: they are functions of x, of
any information.

A layer's rate is information plus excess, the divergence of what the decoder saw in training from
what it is fed when samples are drawn:

.. math:: R_l = I(X; Z_l \mid Z_{>l}) + M_l, \qquad
          M_L = \operatorname{KL}(q(z_L) \,\|\, p(z_L))

References:
    Fano (1961), Transmission of Information.
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
    Hoffman & Johnson (2016), ELBO surgery. Salimans et al. (2016), Improved Techniques for
    Training GANs (the inception score).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from torch import Tensor

from pyrolvm.core.errors import DataError, SettingError, require_at_least
from pyrolvm.core.estimate import Estimate, mean_over_data

CAP_MARGIN = 1.0
"""Nats below log N from which on an information is taken to be cut off by the number of data."""


def label_entropy(label_probs: Float[Tensor, " classes"]) -> float:
    """Return the entropy of class labels in nats.

    Args:
        label_probs: Probability of each class, shape ``(K,)``.

    Raises:
        DataError: If they are not probabilities.
    """
    probs = _checked_probs(label_probs)
    if probs.ndim != 1:
        raise DataError(
            f"Probabilities of labels need the shape (K,), but have {tuple(probs.shape)}."
        )
    return torch.special.entr(probs).sum().item()


def fano_information(
    accuracy: float, num_classes: int, label_entropy: float | None = None
) -> float:
    """Return f(a), the information in nats that an accuracy takes at the least.

    Args:
        accuracy: Share of right answers, between 1/K and 1.
        num_classes: Number K of classes.
        label_entropy: Entropy of the labels in nats; log K, that of equally likely ones, where it
            is None.

    Raises:
        SettingError: If the accuracy or the entropy is out of range.
    """
    entropy = _checked_entropy(num_classes, label_entropy)
    if not 1 / num_classes - 1e-12 <= accuracy <= 1:
        raise SettingError(
            f"accuracy should be between 1/{num_classes} and 1, but it is {accuracy:g}."
        )
    wrong = 1 - accuracy
    kept = accuracy * math.log(accuracy)
    lost = wrong * math.log(wrong / (num_classes - 1)) if wrong > 0 else 0.0
    return entropy + kept + lost


def fano_accuracy(
    information: float, num_classes: int, label_entropy: float | None = None
) -> float:
    """Return the largest accuracy that an information, or a sum of rates, allows.

    For classifiers that see a draw of the latents, not their posterior mean.

    Args:
        information: Nats: I(Y; Z), or an upper bound such as the layers' rates.
        num_classes: Number K of classes.
        label_entropy: Entropy of the labels in nats; log K where it is None.

    Returns:
        The a of f(a) = information, between 1/K and 1.

    Raises:
        SettingError: If the information is negative or the entropy out of range.

    >>> round(fano_accuracy(0.0, 10), 6), fano_accuracy(2.31, 10)
    (0.1, 1.0)
    """
    entropy = _checked_entropy(num_classes, label_entropy)
    if not information >= 0:
        raise SettingError(f"information should be 0 or more nats, but it is {information:g}.")
    if information >= entropy:
        return 1.0
    chance = 1 / num_classes

    def surplus(accuracy: float) -> float:
        return fano_information(accuracy, num_classes, entropy) - information

    if surplus(chance) >= 0:
        return chance
    return float(brentq(surplus, chance, 1.0, xtol=1e-14))


@dataclass(frozen=True)
class Information:
    """Information about x in latents, estimated from N data.

    Args:
        estimate: In nats, with its standard error over data.
        ceiling: log N, which the estimate cannot exceed.
        is_capped: Whether it is so near the ceiling that the truth may lie far above; an excess
            rate that is computed from it is then too large.
    """

    estimate: Estimate
    ceiling: float
    is_capped: bool


def information(log_guide: Float[Tensor, "data data"]) -> Information:
    r"""Estimate I(X; Z) under the guide, with the mixture of all posteriors as q(z).

    .. math:: I = \frac1N \sum_i \Big[\log q(z_i \mid x_i)
                  - \log \tfrac1N \textstyle\sum_j q(z_i \mid x_j)\Big]

    Args:
        log_guide: log q(z_i | x_j) in nats at one draw z_i ~ q(z | x_i) of each datum, shape
            ``(N, N)``, draws first.

    Raises:
        DataError: If the matrix is not square and finite on its diagonal.
    """
    log_guide = _checked_matrix(log_guide)
    return _with_ceiling(log_guide.diagonal() - _log_aggregate(log_guide))


def layer_information(
    log_guide: Mapping[str, Float[Tensor, "data data"]],
) -> dict[str, Information]:
    """Estimate I(X; Z_l | Z_{>l}) of each layer under a guide drawn from the top down.

    Args:
        log_guide: log q(z_l,i | z_{>l},i, x_j) of each layer by site, top first, at one draw of
            each datum, shape ``(N, N)`` each, draws first.

    Returns:
        By site. The ceiling holds for the sum over the layers down to this one, and so does the
        flag.

    Raises:
        DataError: If a matrix is not square and finite on its diagonal.
    """
    found: dict[str, Information] = {}
    joint: Tensor | None = None
    above: Tensor | None = None
    for name, matrix in log_guide.items():
        joint = _checked_matrix(matrix) if joint is None else joint + _checked_matrix(matrix)
        down_to = joint.diagonal() - _log_aggregate(joint)
        own = down_to if above is None else down_to - above
        whole = _with_ceiling(down_to)
        found[name] = Information(mean_over_data(own), whole.ceiling, whole.is_capped)
        above = down_to
    return found


def marginal_kl(
    log_guide: Float[Tensor, "data data"], log_prior: Float[Tensor, " data"]
) -> Estimate:
    """Estimate KL(q(z) || p(z)), the excess of a rate over its information, in nats.

    It is too large where the information is capped (see :class:`Information`).

    Args:
        log_guide: log q(z_i | x_j) in nats, shape ``(N, N)``, draws first.
        log_prior: log p(z_i) in nats, shape ``(N,)``.

    Raises:
        DataError: If the shapes do not fit, or the diagonal is not finite.
    """
    log_guide = _checked_matrix(log_guide)
    if log_prior.shape != log_guide.shape[:1]:
        raise DataError(
            f"The marginal KL needs log_prior of shape {tuple(log_guide.shape[:1])}, one value a "
            f"draw, but it has {tuple(log_prior.shape)}."
        )
    return mean_over_data(_log_aggregate(log_guide) - log_prior.detach().double())


def label_information(
    log_guide: Float[Tensor, "data data"], labels: Int[Tensor, " data"]
) -> Estimate:
    r"""Estimate I(Y; Z) for class labels Y under the guide, in nats.

    .. math:: \frac1N \sum_i \log \frac{\sum_{j : y_j = y_i} q(z_i \mid x_j)}
              {\sum_j q(z_i \mid x_j)} - \log \frac{N_{y_i}}{N}

    Args:
        log_guide: log q(z_i | x_j) in nats, shape ``(N, N)``, draws first.
        labels: Class of each datum, shape ``(N,)``.

    Raises:
        DataError: If the shapes do not fit, or the diagonal is not finite.
    """
    log_guide = _checked_matrix(log_guide)
    if labels.shape != log_guide.shape[:1]:
        raise DataError(
            f"The labels need the shape {tuple(log_guide.shape[:1])}, one a datum, but have "
            f"{tuple(labels.shape)}."
        )
    same = labels[:, None] == labels[None, :]
    of_class = log_guide.masked_fill(~same, -math.inf).logsumexp(1)
    share = same.double().mean(1).log()
    return mean_over_data(of_class - log_guide.logsumexp(1) - share)


def psnr(
    x: Float[Tensor, "data obs_dim"], reconstruction: Float[Tensor, "data obs_dim"], peak: float
) -> Float[Tensor, " data"]:
    """Return the peak signal-to-noise ratio of each reconstruction, in decibels.

    Args:
        x: Observations, shape ``(N, D)``.
        reconstruction: Of the same shape.
        peak: Largest value that x can take: 1 or 255 for images.

    Returns:
        10 log10(peak² / mean squared error), shape ``(N,)``; infinite without error.

    Raises:
        DataError: If the shapes differ.
        SettingError: If the peak is not positive.
    """
    if x.shape != reconstruction.shape or x.ndim < 2:
        raise DataError(
            f"The PSNR needs x and its reconstruction of one shape (N, D), but they have "
            f"{tuple(x.shape)} and {tuple(reconstruction.shape)}."
        )
    if not peak > 0:
        raise SettingError(f"peak should be positive, but it is {peak:g}.")
    squares = (x.detach().double() - reconstruction.detach().double()).square()
    return 10 * torch.log10(peak**2 / squares.flatten(1).mean(1))


@dataclass(frozen=True)
class ClassifierScore:
    """How a classifier sees samples of a model.

    Args:
        diversity: exp H(p(y)): the effective number of classes, 1 to K.
        sharpness: exp(-E H(p(y | x))): how sure the classifier is, 1/K to 1.
    """

    diversity: float
    sharpness: float

    @property
    def value(self) -> float:
        """Their product, exp I(X; Y), between 1 and K: the inception score of this classifier."""
        return self.diversity * self.sharpness


def classifier_score(class_probs: Float[Tensor, "samples classes"]) -> ClassifierScore:
    """Score samples by a classifier, split into diversity and sharpness.

    Args:
        class_probs: p(y | x) of each sample, shape ``(S, K)``, rows that sum to 1.

    Raises:
        DataError: If they are not probabilities.
    """
    probs = _checked_probs(class_probs)
    if probs.ndim != 2 or not len(probs):
        raise DataError(
            f"Class probabilities need the shape (S, K), S ≥ 1, but have {tuple(probs.shape)}."
        )
    entropy = torch.special.entr(probs).sum(-1).mean()
    marginal = torch.special.entr(probs.mean(0)).sum()
    return ClassifierScore(marginal.exp().item(), (-entropy).exp().item())


def _checked_probs(probs: Tensor) -> Tensor:
    probs = probs.detach().double()
    if not probs.numel() or not (probs >= 0).all() or ((probs.sum(-1) - 1).abs() > 1e-4).any():
        raise DataError("Class probabilities should be 0 or more and sum to 1. Apply a softmax.")
    return probs / probs.sum(-1, keepdim=True)


def _checked_entropy(num_classes: int, entropy: float | None) -> float:
    require_at_least(2, num_classes=num_classes)
    most = math.log(num_classes)
    if entropy is None:
        return most
    if not 0 <= entropy <= most + 1e-9:
        raise SettingError(
            f"label_entropy should be between 0 and log {num_classes} = {most:.4g} nats, but it "
            f"is {entropy:g}."
        )
    return entropy


def _checked_matrix(log_guide: Tensor) -> Tensor:
    size = log_guide.shape[0] if log_guide.ndim else 0
    square = log_guide.ndim == 2 and log_guide.shape == (size, size) and size > 1
    if not square or not log_guide.diagonal().isfinite().all() or log_guide.isnan().any():
        raise DataError(
            "log q(z_i | x_j) needs the shape (N, N), draws first, N ≥ 2, finite where i = j, but "
            f"it has {tuple(log_guide.shape)}."
        )
    return log_guide.detach().double()


def _log_aggregate(log_guide: Tensor) -> Tensor:
    """Return log q(z_i), the mixture over all data, shape ``(N,)``."""
    return log_guide.logsumexp(1) - math.log(len(log_guide))


def _with_ceiling(per_datum: Tensor) -> Information:
    ceiling, estimate = math.log(len(per_datum)), mean_over_data(per_datum)
    return Information(estimate, ceiling, estimate.value > ceiling - CAP_MARGIN)
