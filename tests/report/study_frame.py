"""A made-up table of a study: two smooth generators, one of signs, two families, two seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

SIZES = (10, 100, 1000)
SEED_STEP = 0.02
APPROXIMATION = {"full": 0.3, "mixture": 0.01}


def study_frame(seeds=(0, 1)):
    """Gap = approximation + 3 / parameters, and a step of 0.02 from seed to seed."""
    rows = [
        {
            "cell": f"{contraction}-{family}-{size}-{seed}", "model": "residual-generator",
            "model.contraction": contraction, "model.num_folds": np.nan, "guide": "amortized",
            "guide.family": family, "guide.hidden": str(size), "guide.width": size,
            "seed": seed, "parameters": size,
            "approximation_gap": APPROXIMATION[family],
            "amortization_gap": 3 / size + SEED_STEP * seed,
            "gap": APPROXIMATION[family] + 3 / size + SEED_STEP * seed,
            "gap_se": 0.5, "tv": 0.2, "tv_share": 1 - 3 / size,
        }
        for contraction in (0.5, 0.9) for family in APPROXIMATION for size in SIZES
        for seed in seeds
    ]  # fmt: skip
    rows += [
        {
            "cell": f"sign-{size}-{seed}", "model": "sign-permutation", "guide": "sign-guide",
            "guide.hidden": str(size), "guide.width": size, "seed": seed, "parameters": size,
            "approximation_gap": 0.0, "amortization_gap": 400.0, "gap": 400.0, "gap_se": 9.0,
            "tv": 0.9 - 0.4 * np.log10(size / 10), "tv_share": 0.5,
        }
        for size in SIZES for seed in seeds
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    return frame.assign(
        evidence_method="exact", evidence_is_bound=False, checks_failed="", train="guide"
    )


def folding_frame():
    """Mixtures of C components at exactly log(2^k / C), and the injective control."""
    rows = [
        {
            "model": model, key: k, "guide": "amortized", "guide.num_components": components,
            "seed": 0, "parameters": 10,
            "approximation_gap": max(0.0, np.log(2**k / components)) * (model == "folding"),
        }
        for model, key in (("folding", "model.num_folds"), ("injective", "model.num_doublings"))
        for k in (0, 1, 2) for components in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)
