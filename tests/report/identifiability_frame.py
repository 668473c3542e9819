"""A study of identifiability that nobody trained, for pages."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pyrolvm.identifiability import LADDER
from pyrolvm.studies.identifiability import CELLS, IdentifiabilityStudy, StudySettings

STRONG = ("triangular-map", "fixed-prior", "fixed-prior-warm-start", "triangular-vae")
AGREE, DIFFER = 0.99, -1.0


def ladder(raw):
    """Two used pairs of runs; every rung but the first two is high."""
    rows = []
    for pair, shift in ((("a", "b"), 0.0), (("a", "c"), 0.004)):
        for metric in (*LADDER, "euclidean_distances"):
            low = raw if metric in ("raw_r2", "signed_correlation") else 0.98
            value = low + shift
            rows.append({
                "run_a": pair[0], "run_b": pair[1], "metric": metric, "value": value,
                "low": value - 0.01, "high": value + 0.01, "used": True,
            })  # fmt: skip
    return pd.DataFrame(rows)


def synthetic_study(folder, **changed):
    """All cells as theory has them; ``changed`` gives cells another raw R²."""
    rows, runs, ladders = [], [], {}
    for cell in CELLS:
        strong, sign = cell.key in STRONG, cell.turns is not None
        raw = changed.get(cell.key.replace("-", "_"), AGREE if strong or sign else DIFFER)
        ladders[cell.key] = ladder(raw)
        row = {
            "cell": cell.key, "experiment": cell.experiment, "title": cell.title,
            "level": "strong" if strong else "up to signs", "rule": "a rule" if sign else "",
            "symmetries": "" if strong else "sign flip in z_1", "should_agree": strong or sign,
            "runs": 4, "used": 3, "failed": 1, "bound_best": -3.0, "bound_worst_used": -3.01,
            "bound_worst": -4.0, "kind": "identified", "seconds": 1.0, "rhat_reason": "none",
            "rhat_median": 1.01 if strong else float("nan"), "truth_raw_r2": raw,
            "truth_mcc": 0.98,
        }  # fmt: skip
        for metric, part in ladders[cell.key].groupby("metric"):
            lowest = part.loc[part["value"].idxmin()]
            row |= {f"{metric}_mean": part["value"].mean(), f"{metric}_min": lowest["value"]}
            row |= {f"{metric}_low": lowest["low"], f"{metric}_high": lowest["high"]}
        rows.append(row)
        for rank in range(1, 5):
            runs.append({
                "cell": cell.key, "seed": rank, "rank": rank, "bound": -3.0 - 0.003 * rank,
                "bound_se": 0.1, "behind": 0.003 * rank, "used": rank < 4, "failed": rank == 4,
                "seconds": 1.0,
            })  # fmt: skip
    return IdentifiabilityStudy(
        pd.DataFrame(rows), pd.DataFrame(runs), ladders, StudySettings(), Path(folder)
    )
