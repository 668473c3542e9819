"""A rate plane that nobody trained, for figures and pages."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from pyrolvm.diagnostics.rates import fano_accuracy
from pyrolvm.inference.rate_plane import RatePlane

ENTROPY = math.log(10)
WEIGHTS = (0.1, 1.0, 10.0)


def rate_plane_frame(seeds=(0, 1)):
    """Nine pairs of weights; smooth figures with their optima at known places."""
    rows = []
    for seed in seeds:
        for first in WEIGHTS:
            for second in WEIGHTS:
                shift = 0.01 * seed
                rate_1, rate_2 = 20 / (1 + first), 8 * first / (second + 0.3 * first) / (1 + first)
                bound = fano_accuracy(rate_2, 10, ENTROPY)
                row = {
                    "weight_1": first, "weight_2": second, "seed": seed, "rate_1": rate_1,
                    "rate_2": rate_2, "distortion": 30 * first, "negative_elbo": 40 + shift
                    + math.log(first) ** 2 + math.log(second) ** 2,
                    "psnr": 22 - math.log(first) + shift, "psnr_drawn": 21 - math.log(first),
                    "accuracy_drawn": 0.9 * bound, "fano_bound": bound, "accuracy_mean": 0.9,
                    "diversity": 9.0, "sharpness": 0.6, "score": 6 - (rate_2 - 4) ** 2 / 20,
                    "information_2": min(rate_2, 4.5), "information_2_ceiling": math.log(100),
                    "label_information": 0.5 * min(rate_2, 2), "diverged": 0.0,
                    "excess_2": rate_2 - min(rate_2, 4.5),
                }  # fmt: skip
                errors = {f"{name}_se": 0.02 for name in list(row)[3:]}
                rows.append(row | errors)
    return pd.DataFrame(rows)


def synthetic_plane(folder, seeds=(0, 1), **facts):
    """A plane of this frame."""
    known = {
        "data": "digits", "source": "nowhere", "num_train": 500, "num_test": 100,
        "num_classes": 10, "label_entropy": ENTROPY, "classifier_accuracy": 0.97, "steps": 10,
        "network": "mlp", "latent_dims": [16, 4], "noise_scale": 0.1,
    }  # fmt: skip
    return RatePlane(rate_plane_frame(seeds), known | facts, Path(folder))
