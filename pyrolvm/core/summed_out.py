r"""Discrete latent sites that are summed out of a model exactly.

.. math:: \log p(x, z) = \log \sum_k p(k) \, p(z \mid k) \, p(x \mid z, k)

A site that the model marks with ``infer={"enumerate": "parallel"}`` (or ``config_enumerate``) and
that the guide leaves alone takes all its values at once, in a dimension of its own to the left of
the particles, and the sum over it is a contraction (:mod:`~pyrolvm.core.packed_factors`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.ops import packed
from pyro.poutine import Trace
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.errors import SiteError
from pyrolvm.core.packed_factors import Factors

MOST_JOINT_STATES = 2**20
"""Joint values that are summed at once, of sites outside ``pyro.markov``."""

MOST_CELLS = 2**25
"""The same, times the places in the plates around a site; 256 MiB in double precision."""

Sites = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Enumeration:
    """Which sites of a model take all their values at once.

    Args:
        names: Of the sites.
        first_dim: First of the dimensions that are free for them, counting to the left.
        num_states: Number of their joint values that a tensor may hold at once.
    """

    names: frozenset[str]
    first_dim: int
    num_states: int

    def over(self, model: Callable[..., Any]) -> Callable[..., Any]:
        """Return the model with these sites enumerated, and no others."""

        def config(site: Any) -> Any:
            chosen = site["name"] in self.names
            return {"enumerate": "parallel" if chosen else None, "num_samples": None}

        return EnumMessenger(self.first_dim)(poutine.infer_config(model, config))


def can_be_summed(site: Mapping[str, Any]) -> bool:
    """Whether a site is a discrete latent with finite support."""
    return not site["is_observed"] and bool(getattr(site["fn"], "has_enumerate_support", False))


def is_marked(site: Mapping[str, Any]) -> bool:
    """Whether a model marks a discrete latent site for enumeration."""
    return can_be_summed(site) and site["infer"].get("enumerate") == "parallel"


def enumeration_of(summed: Sites, first_dim: int) -> Enumeration:
    """Plan the enumeration of sites.

    Args:
        summed: The sites, from a run in which they were drawn.
        first_dim: First dimension that is free for them.

    Raises:
        SiteError: If they have too many joint values.
    """
    sizes, chained = [1], [1]
    for name, site in summed.items():
        (chained if "_markov_scope" in site["infer"] else sizes).append(_num_values(name, site))
    num_states = math.prod(sizes) * max(chained) ** 2
    cells = num_states * max(math.prod(site["fn"].batch_shape) for site in summed.values())
    if num_states > MOST_JOINT_STATES or cells > MOST_CELLS:
        raise SiteError(
            f"The discrete sites {_listed(summed)} have {num_states:.2g} joint values "
            f"({cells:.2g} with the plates around them), too many to be summed out: the limit is "
            f"{MOST_JOINT_STATES:.2g} ({MOST_CELLS:.2g}). Put them into plates or pyro.markov "
            "where they depend on few others, take fewer rows, or let the guide sample them."
        )
    return Enumeration(frozenset(summed), first_dim, num_states)


def _num_values(name: str, site: Mapping[str, Any]) -> int:
    try:
        return len(site["fn"].enumerate_support(expand=False))
    except NotImplementedError as error:
        raise SiteError(
            f"The discrete site {name!r} ({type(site['fn']).__name__}) cannot be summed out: "
            f"{error}. Let the guide sample it."
        ) from error


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


@dataclass(frozen=True)
class Terms:
    """Log densities of a model's sites once discrete ones are summed out.

    Args:
        prior: Of the latent sites that are left, by name, shape ``(K, N)`` each.
        likelihood: Of the observed sites, likewise.
    """

    prior: dict[str, Tensor]
    likelihood: dict[str, Tensor]


def marginal_terms(
    trace: Trace, latents: Sites, observed: Sites, particle_dim: int | None, per_datum: bool
) -> Terms:
    """Sum discrete sites out of an enumerated run.

    Latent sites that depend on them share one marginal density, which stands at the first of
    those; so do observed sites given the latents. The others hold 0, so that totals are right.

    Args:
        trace: Of a model under an :class:`Enumeration`.
        latents: Its latent sites that are not summed out.
        observed: Its observed sites.
        particle_dim: Dimension of the particle plate, None without one.
        per_datum: Whether every site of the pair lies in the data plate.

    Raises:
        SiteError: If the sites that depend on the summed ones are scaled unequally, or in plates
            that cross.
    """
    factors = Factors(trace, particle_dim, per_datum)
    prior, likelihood = (
        {
            name: sites.log_density(site, particle_dim, per_datum)
            for name, site in found.items()
            if name not in factors.dependent
        }
        for found in (latents, observed)
    )
    given = [name for name in latents if name in factors.dependent]
    seen = [name for name in observed if name in factors.dependent]
    log_prior = factors.summed(given) if given else None
    log_joint = factors.summed([*given, *seen]) if seen else log_prior
    if log_prior is not None:
        prior |= _at_the_first(given, log_prior)
    if seen:
        assert log_joint is not None
        rest = log_joint if log_prior is None else log_joint - log_prior
        likelihood |= _at_the_first(seen, rest)
    return Terms(_ordered(prior, latents), _ordered(likelihood, observed))


def _at_the_first(names: list[str], total: Tensor) -> dict[str, Tensor]:
    return {name: torch.zeros_like(total) if i else total for i, name in enumerate(names)}


def _ordered(found: dict[str, Tensor], like: Sites) -> dict[str, Tensor]:
    return {name: found[name] for name in like}


def disagreeing_site(enumerated: Trace, drawn: Trace) -> str | None:
    """Name a site whose density among all values is not what a single run gives at its draws.

    A program that was not written for values in further dimensions can return wrong numbers
    without an error.

    Args:
        enumerated: Of a model under an :class:`Enumeration`.
        drawn: Of the same model at the same values of the other latents, without it.

    Returns:
        None where all densities agree.
    """
    factors = Factors(enumerated, None, per_datum=False)
    nodes, alone = dict[str, Any](enumerated.nodes), dict[str, Any](drawn.nodes)
    chosen = {
        name: packed.pack(_position(alone[name]), factors.plates_of(name))
        for name in factors.summed_sites
    }
    for name, among_all in factors.packed.items():
        factor: Any = among_all
        for other, position in chosen.items():
            symbol = nodes[other]["infer"]["_enumerate_symbol"]
            if symbol in factor._pyro_dims:
                factor = packed.gather(factor, position, symbol)
        single = packed.pack(sites.raw_log_density(alone[name]), factors.plates_of(name))
        one, other_one = packed.broadcast_all(factor, single)
        if not torch.allclose(one, other_one, rtol=1e-6, atol=1e-6, equal_nan=True):
            return name
    return None


def _position(site: dict[str, Any]) -> Tensor:
    """Where the drawn value of a discrete site stands in its support."""
    fn, value = site["fn"], site["value"]
    event = fn.event_dim
    support = fn.enumerate_support(expand=False)
    same = (value == support).reshape(*torch.broadcast_shapes(value.shape, support.shape))
    return (same.flatten(same.dim() - event).all(-1) if event else same).int().argmax(0)
