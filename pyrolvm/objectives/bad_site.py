"""Which site of a pair is at fault when a loss is not finite?"""

from __future__ import annotations

import warnings

import pyro
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor

from pyrolvm.core import Data


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
