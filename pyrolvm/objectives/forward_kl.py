r"""Forward KL divergence on simulated pairs, up to the posterior's own entropy.

.. math:: E_{p(x, z)}[-\log q(z \mid x)] = E_{p(x)} \, \mathrm{KL}(p(z \mid x) \,\|\, q(z \mid x))
          + \mathrm{const}

The model is run forwards and the guide learns by regression from x to z: no gradient passes
through the likelihood. It is the right objective where that gradient says nothing (generators of
sgn z, discrete latents), where simulations are cheap, and for the question what an encoder can
represent at all. It covers every mode, and fits the data that the *model* makes, not those at
hand; it cannot train the model.

References:
    Hinton, Dayan, Frey & Neal (1995), The Wake-Sleep Algorithm (its sleep phase).
    Papamakarios & Murray (2016), Fast ε-free Inference of Simulation Models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Unit
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyrolvm.core import FactorisationError, Guide, IncompatiblePairError, SiteError
from pyrolvm.core.sites import delta_within
from pyrolvm.core.tracing import Unconditioned


def forward_kl(
    model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
) -> Tensor:
    """Simulate as many pairs (z, x) as there are rows, and score the guide at them.

    A loss for ``pyro.infer.SVI(..., loss=forward_kl)`` and ``lvm.fit(..., loss=forward_kl)``. The
    arguments give the number of rows and the covariates; those that the model observes are
    replaced by its own draws.

    Args:
        model: A Pyro program whose observed sites take their values from its arguments.
        guide: A Pyro program with the same arguments and a density at any latent value.
        *args: Data, rows first.
        **kwargs: Data by name.

    Returns:
        Sum over rows of −log q(z | x) in nats, with a gradient in the guide's parameters only.

    Raises:
        SiteError: If an observed site is a factor or is not one of the arguments, or the guide
            lacks a site or has no density at given latents.
        FactorisationError: If a latent site lies outside the plates of the observed ones.
        IncompatiblePairError: If the guide's parameters belong to single data.
    """
    if isinstance(guide, Guide) and guide.per_datum:
        raise IncompatiblePairError(
            f"The forward KL needs a guide for any data, but {type(guide).__name__} has "
            "parameters for its own rows only. Use an amortized guide."
        )
    with torch.no_grad():
        simulated = poutine.trace(Unconditioned()(model)).get_trace(*args, **kwargs)
    latents = {name: site for name, site in _samples(simulated) if not _was_observed(site)}
    observed = {name: site for name, site in _samples(simulated) if _was_observed(site)}
    if not latents:
        raise SiteError(
            "The forward KL scores a guide at simulated latents; this model draws none."
        )
    _refuse_global(latents, observed)
    new_args, new_kwargs = _replaced(observed, args, kwargs)
    replayed = poutine.replay(guide, trace=_holding(latents))
    scored = poutine.trace(replayed).get_trace(*new_args, **new_kwargs)
    _refuse_without_density(scored, latents)
    with pyro.validation_enabled(False):
        scored.compute_log_prob()
    return -torch.stack([scored.nodes[name]["log_prob_sum"] for name in latents]).sum()


def _samples(trace: Trace) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, site in trace.nodes.items():
        is_random = site["type"] == "sample" and not site_is_subsample(site)
        if is_random and not (site["infer"] or {}).get("_deterministic"):
            yield name, dict(site)


def _was_observed(site: dict[str, Any]) -> bool:
    return bool(site["infer"].get("was_observed"))


def _holding(sites: dict[str, dict[str, Any]]) -> Trace:
    trace = Trace()
    for name, site in sites.items():
        trace.add_node(name, **site)
    return trace


def _refuse_global(latents: dict[str, Any], observed: dict[str, Any]) -> None:
    rows = {frame.name for site in observed.values() for frame in site["cond_indep_stack"]}
    outside = [
        name
        for name, site in latents.items()
        if rows.isdisjoint(frame.name for frame in site["cond_indep_stack"])
    ]
    if outside or not observed:
        listed = ", ".join(map(repr, outside)) or "nothing that could be replaced"
        raise FactorisationError(
            "The forward KL simulates every row with latents of its own, but the plates of the "
            f"observed sites leave out {listed}. Put latent and observed sites into one plate, or "
            "train on the ELBO."
        )


def _replaced(
    observed: dict[str, dict[str, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put simulated observations in the place of the arguments that the model observes."""
    given: dict[int | str, Any] = dict(enumerate(args))
    given.update(kwargs)
    arguments = dict(given)
    for name, site in observed.items():
        if isinstance(site["fn"], Unit):
            raise SiteError(
                f"The site {name!r} is a factor, which cannot be simulated. Write it as an "
                "observed site, or train on the ELBO."
            )
        key = _argument(name, site["infer"]["obs"], given)
        arguments[key] = site["value"]
    return tuple(arguments[place] for place in range(len(args))), {
        key: arguments[key] for key in kwargs
    }


def _argument(name: str, value: Any, arguments: dict[int | str, Any]) -> int | str:
    """Find the argument that a site observes: the same tensor, or one of the same content."""
    tensors = {key: other for key, other in arguments.items() if isinstance(other, Tensor)}
    found: list[int | str] = [key for key, other in tensors.items() if other is value]
    if not found:
        equal = [key for key, other in tensors.items() if _equal(other, value)]
        found = [name] if name in equal else equal
    if len(found) != 1:
        raise SiteError(
            f"The observed site {name!r} should take its values from one argument of the model, "
            f"but {len(found)} of its {len(tensors)} tensors hold them. Pass the whole "
            "observations as one argument, without subsampling inside the model."
        )
    return found[0]


def _equal(other: Tensor, value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and other.shape == value.shape
        and torch.equal(other.to(value), value)
    )


def _refuse_without_density(scored: Trace, latents: dict[str, Any]) -> None:
    sites = {name: site for name, site in _samples(scored) if not site["is_observed"]}
    for name in latents:
        if name not in sites or delta_within(sites[name]["fn"]) is not None:
            raise SiteError(
                f"The forward KL scores the guide at simulated values of {name!r}, but the guide "
                "has no density there. Use a guide that samples the site from a distribution."
            )
    if len(sites) > len(latents):
        extra = ", ".join(repr(name) for name in sites if name not in latents)
        raise SiteError(
            f"The forward KL needs log q of the model's latents alone, but the guide also samples "
            f"{extra}. Use a guide without auxiliary sites."
        )
