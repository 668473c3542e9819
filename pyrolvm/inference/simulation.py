r"""A data set that the model itself could have made, with the latents that made it.

.. math:: z \sim p(z), \qquad x \sim p(x \mid z)

Sizes and covariates are those of given data. A program does not say which of its arguments it
observes, so that is found out: a site's observed value is one of the arguments, a part of one, or
a copy in another shape or type, and what is drawn at the site takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution, Unit
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SiteError, require_seed
from pyrolvm.core.evaluation import evaluating
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.summed_out import is_marked
from pyrolvm.core.tracing import Holding, PairTrace, Unconditioned, subsamples

INSTEAD = "pass simulate=, a function that takes a seed and returns (latents by site, data)"

Site: TypeAlias = dict[str, Any]
Sites: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Simulation:
    """Latents from the prior and the observations that they made.

    Args:
        data: The given data, with new draws in the place of what the model observes; in double
            precision.
        values: The latents by site, shape ``(1, N, ...)``; ``(1, ...)`` where the posterior does
            not factorise over data. Discrete sites that are summed out are left out.
        in_trace: The same latents in the shapes that they have in a run of the program.
    """

    data: Data
    values: Mapping[str, Tensor]
    in_trace: Mapping[str, Tensor]


def simulate(
    model: Callable[..., Any], data: Any, seed: int, *, guide: Callable[..., Any] | None = None
) -> Simulation:
    """Draw latents from a model's prior, and observations given them.

    Args:
        model: A Pyro program that observes ``data``.
        data: A tensor, or a mapping from argument name to tensor, rows first; it gives the sizes
            and the covariates. Entries whose observation is masked are kept as they are.
        seed: The same seed gives the same simulation.
        guide: A guide that runs on these data; discrete sites that the model marks for enumeration
            are summed out where it leaves them alone. Without one all marked sites are.

    Returns:
        Data of the same shapes, and the latents behind them.

    Raises:
        SiteError: If an observed value is none of the arguments, or the model's density is not
            that of its draws: factors, scaled or masked latents, subsampled plates, observations
            that the program also reads elsewhere.
    """
    require_seed(seed)
    programs = (model,) if guide is None else (model, guide)
    with own_randomness(seed), evaluating(*programs):
        rows = _own_tensors(Data.of(data).to(dtype=torch.float64))
        seen = run_once(model, poutine.block(model, hide_fn=_is_observed), rows)
        _refuse_what_draws_miss(seen)
        free = poutine.replay(Unconditioned()(model), trace=subsamples(seen))
        drawn: Sites = dict(poutine.trace(free).get_trace(*rows.args, **rows.named).nodes)
        made = _with_draws(rows, seen.observed(), drawn)
        _require_consistent(model, made, drawn, seen)
        names = _sampled(model, guide, rows, seen)
        in_trace = {name: drawn[name]["value"] for name in names}
        return Simulation(made, _values(seen, drawn, names), in_trace)


def _is_observed(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and msg["is_observed"])


def _own_tensors(rows: Data) -> Data:
    """Give every argument memory of its own, by which a view of it is known."""
    return _replaced(rows, {name: tensor.clone() for name, tensor in rows.items()})


def _replaced(rows: Data, tensors: Mapping[str, Tensor]) -> Data:
    if rows.positional is not None:
        return Data(tensors["x"], rows.named)
    return Data(None, {**rows.named, **tensors})


def _refuse_what_draws_miss(seen: PairTrace) -> None:
    """Refuse a program whose joint density is not the density of what it draws."""
    for name, site in seen.observed().items():
        if isinstance(site["fn"], Unit) or isinstance(
            getattr(site["fn"], "base_dist", None), Unit
        ):
            _refuse(name, "is a factor, which adds to the log density but draws nothing")
    for name, site in (*seen.latents().items(), *seen.observed().items()):
        for frame in site["cond_indep_stack"]:
            if frame.full_size is not None and 0 < frame.size < frame.full_size:
                _refuse(name, f"lies in the plate {frame.name!r}, which takes a part of its rows")
        if not bool(torch.as_tensor(site["scale"] == 1.0).all()):
            _refuse(name, "is scaled (poutine.scale), so that its density is not that of draws")
    for name, site in seen.latents().items():
        if not all(bool(torch.as_tensor(mask).all()) for mask, _ in _masks(site)):
            _refuse(name, "is masked, so that its density is not that of draws")


def _refuse(name: str, why: str) -> None:
    raise SiteError(
        f"Simulating data draws every site of the model, but the site {name!r} {why}. Write the "
        f"model without it, or {INSTEAD}."
    )


def _with_draws(rows: Data, observed: Sites, drawn: Sites) -> Data:
    """Put what was drawn at the observed sites into the arguments that these observe."""
    arguments = dict(rows.items())
    made = {name: tensor.clone() for name, tensor in arguments.items()}
    for name, site in observed.items():
        argument, part = _part_observed(name, site, arguments, made)
        value = drawn[name]["value"].to(made[argument].dtype)
        part.copy_(_unless_masked(value, site).reshape(part.shape))
    return _replaced(rows, made)


def _part_observed(
    name: str, site: Site, arguments: Mapping[str, Tensor], made: Mapping[str, Tensor]
) -> tuple[str, Tensor]:
    """Find which argument a site observes, and return that part of the new argument."""
    value = site["value"]
    for argument, tensor in arguments.items():
        if _is_view(value, tensor):
            offset = value.storage_offset() - tensor.storage_offset()
            return argument, made[argument].as_strided(value.shape, value.stride(), offset)
    equal = [argument for argument, tensor in arguments.items() if _same_numbers(value, tensor)]
    if len(equal) == 1:
        return equal[0], made[equal[0]]
    what = (
        f"equals the arguments {', '.join(map(repr, equal))}"
        if equal
        else f"is none of the arguments {', '.join(map(repr, arguments)) or '(there are none)'}"
    )
    raise SiteError(
        f"Simulating data needs to know which argument the site {name!r} observes, but its value "
        f"{what}: the program computes it from the data first. Observe the argument itself, or "
        f"{INSTEAD}."
    )


def _is_view(value: Tensor, argument: Tensor) -> bool:
    """Whether a value is (a part of) an argument, every entry once."""
    shared = value.untyped_storage().data_ptr() == argument.untyped_storage().data_ptr()
    repeats = any(
        step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True)
    )
    return shared and value.dtype == argument.dtype and not repeats


def _same_numbers(value: Tensor, argument: Tensor) -> bool:
    """Whether a value is a copy of an argument in another shape or type."""
    if value.numel() != argument.numel():
        return False
    left, right = (tensor.reshape(-1).to(torch.float64) for tensor in (value, argument))
    return torch.allclose(left, right, rtol=1e-12, atol=0.0, equal_nan=True)


def _unless_masked(draw: Tensor, site: Site) -> Tensor:
    """Keep the old entries where the observation is masked: a guide may read them."""
    for mask, event_dim in _masks(site):
        keeps = torch.as_tensor(mask, device=draw.device)
        keeps = keeps.reshape(keeps.shape + (1,) * event_dim)
        draw = torch.where(keeps, draw, site["value"].to(draw.dtype))
    return draw


def _masks(site: Site) -> Iterator[tuple[Any, int]]:
    """Masks around a site and inside its distribution, with the event dimensions below each."""
    law = site["fn"]
    if site["mask"] is not None:
        yield site["mask"], law.event_dim
    while hasattr(law, "base_dist"):
        if isinstance(law, MaskedDistribution):
            yield law._mask, law.event_dim
        law = law.base_dist


def _require_consistent(
    model: Callable[..., Any], made: Data, drawn: Sites, seen: PairTrace
) -> None:
    """Refuse a program whose laws depend on what it observes: draws came from laws of old data."""
    latents = {name: drawn[name]["value"] for name in seen.latents()}
    held = Holding(latents)(poutine.replay(model, trace=subsamples(seen)))
    with pyro.validation_enabled(False):
        again: Sites = dict(poutine.trace(held).get_trace(*made.args, **made.named).nodes)
        for name in (*latents, *seen.observed()):
            before, after = (sites.log_density(run[name], None, False) for run in (drawn, again))
            if not torch.allclose(before, after, rtol=1e-6, atol=1e-6):
                raise SiteError(
                    "Simulating data draws what the model observes, but the density at the site "
                    f"{name!r} changes when the draws come in as data: the program changes what "
                    "it observes, or predicts an entry from other observed ones. To simulate "
                    f"such a model, {INSTEAD}."
                )


def _sampled(
    model: Callable[..., Any], guide: Callable[..., Any] | None, rows: Data, seen: PairTrace
) -> list[str]:
    """Names of the latent sites that are not summed out."""
    if guide is not None:
        return list(run_once(model, guide, rows, is_marked).latents())
    return [name for name, site in seen.latents().items() if not is_marked(site)]


def _values(seen: PairTrace, drawn: Sites, names: list[str]) -> dict[str, Tensor]:
    per_datum = all(sites.data_dim(site) is not None for _, site in seen.all_sites())
    return {name: sites.value_of(drawn[name], None, per_datum) for name in names}
