"""Which site of a pair is at fault when a loss is not finite?"""

from __future__ import annotations

import warnings
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor

from pyrolvm.core import Data

LARGE = 1e4
"""Size of data, also in units of the noise, above which it is the likely cause of an overflow."""


def bad_site(svi: SVI, batch: Data) -> str:
    """Name a site whose value or log density is not finite, as far as a fresh run shows one."""
    with torch.no_grad(), warnings.catch_warnings(), pyro.validation_enabled(False):
        warnings.simplefilter("ignore")
        for _ in range(20):
            guide = poutine.trace(svi.guide).get_trace(*batch.args, **batch.named)
            model = poutine.trace(poutine.replay(svi.model, guide)).get_trace(
                *batch.args, **batch.named
            )
            for where, trace in (("guide", guide), ("model", model)):
                for name, site in trace.nodes.items():
                    if site["type"] != "sample" or not isinstance(site["value"], Tensor):
                        continue
                    density = site["fn"].log_prob(site["value"])
                    if not (site["value"].isfinite().all() and density.isfinite().all()):
                        return f" (site {name!r} of the {where})"
    return ""


def advice(svi: SVI, batch: Data) -> str:
    """What to do about a loss that is not finite: scale huge data, else take smaller steps."""
    with torch.no_grad(), warnings.catch_warnings(), pyro.validation_enabled(False):
        warnings.simplefilter("ignore")
        trace = poutine.trace(svi.model).get_trace(*batch.args, **batch.named)
    for name, site in trace.nodes.items():
        if site["type"] != "sample" or not site["is_observed"] or not site["value"].numel():
            continue
        largest, noise = site["value"].double().abs().max().item(), _noise(site["fn"])
        if largest > LARGE * max(noise, 1.0) and not site["infer"].get("_deterministic"):
            return (
                f"The data reach {largest:.1g}, but the noise at site {name!r} is {noise:.1g}: "
                "their size is the likely cause. Scale them first, for example x / x.std()."
            )
    return "Try a smaller learning_rate, or clip_norm=10."


def _noise(distribution: Any) -> float:
    """Largest standard deviation of an observed site; 0 where its distribution knows none."""
    try:
        return float(distribution.stddev.max())
    except (NotImplementedError, AttributeError):
        return 0.0
