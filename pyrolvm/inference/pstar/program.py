r"""The geometric mean of model and guide as a Pyro program, for Pyro's own inference.

.. math:: \log \sqrt{p(x, z) \, q(z \mid x)} = \tfrac12 \log p(x, z) + \tfrac12 \log q(z \mid x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core import SiteError
from pyrolvm.core.tracing import Holding

FACTOR = "half_log_guide"
"""Name of the site that adds the guide's half."""


def coupled_program(model: Callable[..., Any], guide: Callable[..., Any]) -> Callable[..., Any]:
    """Return a program that scores √(p q): the model at scale ½, and a factor for the guide.

    Args:
        model: A Pyro program with all sites in the plate ``"data"`` at dim −1.
        guide: A Pyro program with the same arguments, which draws every latent site.

    Returns:
        A program with the model's sites and arguments.
    """

    def coupled(*args: Any, **kwargs: Any) -> Any:
        with poutine.trace() as model_trace, poutine.scale(scale=0.5):
            result = model(*args, **kwargs)
        values = {name: site["value"] for name, site in _samples(model_trace.trace)}
        with poutine.block():
            trace = poutine.trace(Holding(values)(guide)).get_trace(*args, **kwargs)
            trace.compute_log_prob()
        log_guide = {name: site["log_prob"] for name, site in _samples(trace)}
        _refuse_auxiliary(log_guide.keys() - values.keys())
        half: Tensor = torch.stack(torch.broadcast_tensors(*log_guide.values())).sum(0) / 2
        with pyro.plate("half_of_guide", half.shape[-1], dim=-1):
            pyro.factor(FACTOR, half)
        return result

    return coupled


def _samples(trace: poutine.Trace) -> Iterator[tuple[str, Any]]:
    for name, site in trace.nodes.items():
        if site["type"] == "sample" and not site_is_subsample(site):
            yield name, site


def _refuse_auxiliary(names: AbstractSet[str]) -> None:
    if names:
        raise SiteError(
            "The coupled program needs log q at the model's latents, but the guide draws "
            f"{', '.join(map(repr, sorted(names)))} beside. Use a guide with "
            "the model's sites alone."
        )
