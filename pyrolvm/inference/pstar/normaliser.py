"""The normaliser Z² of p*: by sums over small nets, from draws of the model elsewhere."""

from __future__ import annotations

import math
from typing import Any

import torch
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core import BinaryRecognition, Estimate, EvidenceError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.exact.binary import LayerSums
from pyrolvm.inference.enumeration import can_enumerate, layer_sums
from pyrolvm.inference.pstar.ancestral import Ancestral

METHODS = ("auto", "exact", "sampled")

JOINT_CELLS = 2**24
"""States of x times joint states of all layers that sums visit unasked where a guide is no chain;
each costs a run of the guide, and more would take minutes."""


def estimate_log_z2(
    model: Any,
    guide: Any,
    *,
    num_samples: int,
    num_inner: int,
    method: str = "auto",
    progress: bool = True,
) -> Estimate:
    """Log Z² of a pair; see :meth:`pyrolvm.PStar.log_z2`."""
    if method not in METHODS:
        raise SettingError(f"method should be one of {', '.join(METHODS)}, but it is {method!r}.")
    if method != "sampled":
        sums = layer_sums(model, guide) if method == "exact" else _sums_in_reach(model, guide)
        if sums is not None and (method == "exact" or _is_quick(sums, guide)):
            return Estimate(sums.log_z2, 0.0, "exact")
    return _sampled(Ancestral(model, guide), num_samples, num_inner, progress)


def _sums_in_reach(model: Any, guide: Any) -> LayerSums | None:
    return layer_sums(model, guide) if can_enumerate(model, guide) else None


def _is_quick(sums: LayerSums, guide: Any) -> bool:
    cells = 2**sums.obs_dim * sums.num_states
    chain = offers(guide, BinaryRecognition)
    return sums.can_sum_observations and (chain or cells <= JOINT_CELLS)


def _sampled(draws: Ancestral, num_samples: int, num_inner: int, progress: bool) -> Estimate:
    """Log of the mean weight of draws from the model, its error by the delta method."""
    found = []
    with tqdm(total=num_samples, desc="log Z²", disable=not progress, delay=1, unit="draw") as bar:
        for part in draws.weighted(num_samples, num_inner):
            found.append(part.log_weight)
            bar.update(len(part.log_weight))
    log_weight = torch.cat(found)
    value = log_weight.logsumexp(0) - math.log(num_samples)
    if not bool(value.isfinite()):
        raise EvidenceError(
            "The guide gives no draw of the model any probability, so that Z² is 0 as far as "
            f"{num_samples} draws can tell. Train the pair with CoupledELBO first."
        )
    error = (log_weight - value).exp().std() / math.sqrt(num_samples)
    return Estimate(value.item(), error.item(), "sampled")
