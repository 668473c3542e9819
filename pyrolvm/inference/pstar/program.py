r"""The geometric mean of model and guide as a Pyro program, for Pyro's own inference.

.. math:: \log \sqrt{p(x, z) \, q(z \mid x)} = \tfrac12 \log p(x, z) + \tfrac12 \log q(z \mid x)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
        A program with the model's sites and arguments; it raises a SiteError where a latent lies
        in other plates, or the guide draws fewer or further sites.
    """

    def coupled(*args: Any, **kwargs: Any) -> Any:
        with poutine.trace() as model_trace, poutine.scale(scale=0.5):
            result = model(*args, **kwargs)
        found = dict(_samples(model_trace.trace))
        values = {name: site["value"] for name, site in found.items()}
        with poutine.block():
            trace = poutine.trace(Holding(values)(guide)).get_trace(*args, **kwargs)
            trace.compute_log_prob()
        drawn = dict(_samples(trace))
        _refuse_other_sites(drawn, found)
        _refuse_other_plates({name: found[name] for name in drawn})
        _refuse_other_plates(drawn)
        log_guide = {name: site["log_prob"] for name, site in drawn.items()}
        half: Tensor = torch.stack(torch.broadcast_tensors(*log_guide.values())).sum(0) / 2
        with pyro.plate("half_of_guide", half.shape[-1], dim=-1):
            pyro.factor(FACTOR, half)
        return result

    return coupled


def _samples(trace: poutine.Trace) -> Iterator[tuple[str, Any]]:
    for name, site in trace.nodes.items():
        is_random = site["type"] == "sample" and not site_is_subsample(site)
        if is_random and not (site["infer"] or {}).get("_deterministic"):
            yield name, site


def _refuse_other_sites(drawn: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    latents = {name for name, site in found.items() if not site["is_observed"]}
    missing, beside = sorted(latents - drawn.keys()), sorted(drawn.keys() - found.keys())
    if missing:
        raise SiteError(
            "The coupled program needs log q of every latent of the model, but the guide does not "
            f"draw {', '.join(map(repr, missing))}. Add it to the guide."
        )
    if beside:
        raise SiteError(
            "The coupled program needs log q at the model's latents, but the guide draws "
            f"{', '.join(map(repr, beside))} beside. Use a guide with the model's sites alone."
        )


def _refuse_other_plates(found: Mapping[str, Any]) -> None:
    """One factor a datum holds the guide's half: a global site would count in each of them."""
    plates = {
        name: frozenset(f.dim for f in site["cond_indep_stack"] if f.dim is not None)
        for name, site in found.items()
    }
    dims = next(iter(plates.values()), frozenset())
    for name, own in plates.items():
        if -1 not in own or own != dims:
            raise SiteError(
                "The coupled program needs every latent site in the plate 'data' at dim -1 and "
                f"in no other plate than its fellows, but {name!r} lies in plates at dims "
                f"{sorted(own)}. Move it into the plate, or put inner plates into the event "
                "with to_event."
            )
