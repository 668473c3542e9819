r"""The evidence of a model all of whose latent sites are discrete: an exact sum.

.. math:: \log p(x) = \log \sum_k p(k) \, p(x \mid k)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.summed_out import can_be_summed
from pyrolvm.core.tracing import is_latent


def log_evidence_by_enumeration(
    model: Callable[..., Any], data: Any
) -> Float[Tensor, " data"] | None:
    """Log p(x) of each datum, summed over all values of the latent sites, marked or not.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, a mapping from argument name to tensor, or None.

    Returns:
        Nats, shape ``(N,)``, or ``(1,)`` where a latent site lies outside the plate ``"data"``;
        None where a latent site is not of finite support, or the sites cannot be summed out: they
        have more joint values outside ``pyro.markov`` than the limits of
        :mod:`~pyrolvm.core.summed_out`, or the program does not run with all values at once.

    Raises:
        DataError: If the model does not run on these data.
    """
    nothing = poutine.block(model, hide_fn=_is_sample)
    with evaluating(model), own_randomness():
        rows = Data.of(data).to(dtype=torch.float64)
        latents = poutine.trace(model).get_trace(*rows.args, **rows.named).nodes.values()
        if not all(can_be_summed(site) for site in latents if is_latent(site)):
            return None
        try:
            pair = run_once(model, nothing, rows, can_be_summed)
            per_datum = not pair.outside_data_plate()
            terms = pair.model_terms(per_datum).likelihood.values()
        except SiteError:
            return None
        return torch.stack(torch.broadcast_tensors(*terms)).sum((0, 1))


def _is_sample(msg: Any) -> bool:
    return bool(msg["type"] == "sample")
