r"""Everything that is measured of one model of a rate plane, as one row of a table.

The probes see codes of two kinds: one draw :math:`z_2 \sim q(z_2 \mid x)` a datum, to which
Fano's inequality applies, and the mean of q(z_2 | x), a function of x, to which it does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from pyrolvm.core import evaluating, mean_over_data
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics.rates import (
    classifier_score,
    fano_accuracy,
    information,
    label_information,
    marginal_kl,
    psnr,
)
from pyrolvm.guides import Layerwise
from pyrolvm.inference.layer_rates import layer_rates
from pyrolvm.inference.rate_plane.yardstick import Yardstick, probe_accuracy
from pyrolvm.models import HierarchicalVAE

NUM_PARTICLES = 20
NUM_SAMPLES = 2000
TOP, BOTTOM = "z_2", "z_1"


@dataclass(frozen=True)
class Codes:
    """What a guide makes of rows.

    Args:
        mean: Mean of q(z_2 | x), shape ``(N, width)``.
        draw: One draw of it for each row, shape ``(N, width)``.
        from_means: Mean of x given the mean of q(z_1 | mean of z_2, x), shape ``(N, D)``.
        from_draws: Mean of x given one draw of all layers, shape ``(N, D)``.
        log_guide: log q(z_2,i | x_j) at the draws, shape ``(N, N)``, draws first.
    """

    mean: Tensor
    draw: Tensor
    from_means: Tensor
    from_draws: Tensor
    log_guide: Tensor


def measured(
    model: HierarchicalVAE,
    guide: Layerwise,
    yardstick: Yardstick,
    *,
    seed: int = 0,
    num_particles: int = NUM_PARTICLES,
    num_samples: int = NUM_SAMPLES,
) -> dict[str, float]:
    """Measure a trained pair on the rows held out.

    Args:
        model: A model with the layers z_2 and z_1.
        guide: Its guide.
        yardstick: What to measure with.
        seed: Of all draws.
        num_particles: Draws a datum for rates and distortion.
        num_samples: Draws of the model for the classifier's score.

    Returns:
        Figures by column, nats, decibels and shares; ``…_se`` is a standard error.
    """
    row = _rates(model, guide, yardstick.x, seed, num_particles)
    with evaluating(model, guide), own_randomness(seed):
        held_out = _codes(model, guide, yardstick.x)
        probe_draw, probe_mean = _top_codes(guide, yardstick.probe_x)
        samples = _prior_samples(model, num_samples)
    x = yardstick.x.double()
    for name, rebuilt in (("psnr", held_out.from_means), ("psnr_drawn", held_out.from_draws)):
        decibels = mean_over_data(psnr(x, rebuilt, yardstick.peak))
        row |= {name: decibels.value, f"{name}_se": decibels.standard_error}
    for name, codes, tested in (
        ("accuracy_drawn", probe_draw, held_out.draw),
        ("accuracy_mean", probe_mean, held_out.mean),
    ):
        accuracy = probe_accuracy(yardstick, codes, tested)
        row |= {name: accuracy, f"{name}_se": math.sqrt(accuracy * (1 - accuracy) / len(x))}
    row["fano_bound"] = fano_accuracy(
        max(row["rate_2"], 0.0), yardstick.num_classes, yardstick.label_entropy
    )
    return row | _information(model, held_out, yardstick.labels) | _score(yardstick, samples)


def _rates(
    model: HierarchicalVAE, guide: Layerwise, x: Tensor, seed: int, num_particles: int
) -> dict[str, float]:
    found = layer_rates(model, guide, x, num_particles=num_particles, seed=seed)
    named = {
        "rate_1": found.rates[BOTTOM],
        "rate_2": found.rates[TOP],
        "distortion": found.distortion,
        "negative_elbo": -found.elbo,
    }
    row: dict[str, float] = {}
    for name, values in named.items():
        mean = mean_over_data(values)
        row |= {name: mean.value, f"{name}_se": mean.standard_error}
    return row


def _top_codes(guide: Layerwise, x: Tensor) -> tuple[Tensor, Tensor]:
    top = guide.layer_posterior(TOP, {}, x)
    return top.sample(), top.mean


def _codes(model: HierarchicalVAE, guide: Layerwise, x: Tensor) -> Codes:
    top = guide.layer_posterior(TOP, {}, x)
    draw, mean = top.sample(), top.mean
    bottom = guide.layer_posterior(BOTTOM, {TOP: draw}, x).sample()
    bottom_mean = guide.layer_posterior(BOTTOM, {TOP: mean}, x).mean
    return Codes(
        mean,
        draw,
        model.generate({TOP: mean, BOTTOM: bottom_mean}),
        model.generate({TOP: draw, BOTTOM: bottom}),
        top.log_prob(draw[:, None, :]),
    )


def _prior_samples(model: HierarchicalVAE, size: int) -> Tensor:
    """Means of x given draws of the prior, shape ``(S, D)``."""
    top = model.layer_prior(TOP, {}).expand((size,)).sample()
    bottom = model.layer_prior(BOTTOM, {TOP: top}).sample()
    return model.generate({TOP: top, BOTTOM: bottom})


def _information(model: HierarchicalVAE, codes: Codes, labels: Tensor) -> dict[str, float]:
    """Information of z_2 about x and about the class, and the excess of its rate."""
    about_x = information(codes.log_guide)
    about_label = label_information(codes.log_guide, labels)
    with evaluating(model):
        log_prior = model.layer_prior(TOP, {}).log_prob(codes.draw)
    excess = marginal_kl(codes.log_guide, log_prior)
    return {
        "information_2": about_x.estimate.value,
        "information_2_se": about_x.estimate.standard_error,
        "information_2_ceiling": about_x.ceiling,
        "label_information": about_label.value,
        "label_information_se": about_label.standard_error,
        "excess_2": excess.value,
        "excess_2_se": excess.standard_error,
    }


def _score(yardstick: Yardstick, samples: Tensor) -> dict[str, float]:
    """Score of prior samples; its standard error by the delta method."""
    probs = yardstick.class_probs(samples)
    score = classifier_score(probs)
    per_sample = (probs.clamp_min(1e-12).log() - probs.mean(0).clamp_min(1e-12).log()) * probs
    error = mean_over_data(per_sample.sum(-1)).standard_error
    return {
        "score": score.value,
        "score_se": score.value * error,
        "diversity": score.diversity,
        "sharpness": score.sharpness,
    }
