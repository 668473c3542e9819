"""The first run of a pair: do model and guide fit, and if not, which site is at fault?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pyro
from pyro import poutine

from pyrolvm.core.data import Arguments
from pyrolvm.core.errors import DataError, PyroLVMError, SiteError
from pyrolvm.core.sites import log_density
from pyrolvm.core.summed_out import can_be_summed, disagreeing_site, enumeration_of, is_marked
from pyrolvm.core.tracing import PairTrace, free_dim, replayed, run_pair, subsamples


def run_once(
    model: Callable,
    guide: Callable,
    data: Arguments,
    may_sum: Callable[[Mapping[str, Any]], bool] | None = None,
) -> PairTrace:
    """Run guide and model once, without a particle plate, and check that their sites match.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
        may_sum: Which latent sites are summed out of the model where the guide does not sample
            them; none where it is None.

    Raises:
        SiteError: If a latent site of the model has no guide, the guide samples a site that the
            model lacks, one has another shape, nothing is observed, or a value or a parameter is
            not one that a distribution takes.
        DataError: If the pair does not run on these data for another reason, for example because
            they have another width than it was written for.
    """
    try:
        pair = run_pair(model, guide, data)
    except PyroLVMError as error:
        error.args = (_reason(error),)
        raise
    except TypeError as error:
        _refuse_arguments(model, guide, data, error)
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        _name_the_culprit(model, guide, data, error)
        _refuse_nan(data, error)
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in data.items())
        raise DataError(
            f"Model and guide do not run on data of shape {shapes}: {_reason(error).rstrip('.')}. "
            "Check that the data are as wide as model and guide expect, and the shapes in both."
        ) from error
    drawn = pair.guide_sites()
    summed = {
        name: site
        for name, site in pair.latents().items()
        if may_sum is not None and name not in drawn and may_sum(site)
    }
    _check_names(pair, summed)
    _check_shapes(pair.model, pair.guide)
    for _, site in pair.all_sites():
        log_density(site, None, per_datum=False)
    return _enumerated(model, data, pair, summed) if summed else pair


def _enumerated(
    model: Callable, data: Arguments, pair: PairTrace, summed: dict[str, Any]
) -> PairTrace:
    """Run the model of a pair again with sites that take all their values at once."""
    plan = enumeration_of(summed, free_dim(pair) - 1)
    try:
        trace = replayed(model, pair.guide, subsamples(pair), data, plan)
        culprit = disagreeing_site(trace, pair.model)
        reason = f"the density at {culprit!r} is another one than alone." if culprit else ""
    except (RuntimeError, ValueError, IndexError, AssertionError) as error:
        trace, reason = pair.model, _reason(error)
    if reason:
        raise SiteError(
            f"The discrete site {', '.join(map(repr, summed))} should be summed out, but the "
            f"model does not run with all its values at once, in a dimension to the left of every "
            f"plate: {reason} Let what depends on it broadcast (index with Vindex), or let the "
            "guide sample it."
        )
    return PairTrace(trace, pair.guide, enumeration=plan)


def _refuse_arguments(model: Callable, guide: Callable, data: Arguments, error: Exception) -> None:
    """Name a program that takes other arguments than the data give."""
    for role, program in (("model", model), ("guide", guide)):
        try:
            signature = inspect.signature(poutine.unwrap(program))
            signature.bind(*data.args, **data.named)
        except TypeError as mismatch:
            given = [f"{len(data.args)} by position"] * bool(data.args) + list(data.named)
            raise DataError(
                f"The {role} takes the arguments {signature}, but the data give "
                f"{', '.join(given) or 'none'} ({mismatch}). Pass a mapping from the names of its "
                "arguments, a tensor for a single one, or None where it takes none."
            ) from error
        except ValueError:  # it has no signature
            continue


def _refuse_nan(data: Arguments, error: Exception) -> None:
    """Name an argument with NaN, which is then the likely cause of an error."""
    for name, value in data.items():
        if value.is_floating_point() and value.isnan().any():
            raise DataError(
                f"Model and guide do not run on these data: the argument {name!r} holds NaN. "
                "Remove or impute it; what is masked needs a number in its place all the same."
            ) from error


def _check_names(pair: PairTrace, summed: Mapping[str, Any]) -> None:
    in_model, in_guide = pair.latents(), pair.guide_sites()
    for name, site in in_model.items():
        if name not in in_guide and name not in summed:
            raise SiteError(
                f"The model samples the latent site {name!r}, but the guide does not: it samples "
                f"{_listed(in_guide)}. Add the site to the guide, or observe it{_or_sum(site)}."
            )
    for name, site in in_guide.items():
        if name not in in_model and not (site["is_observed"] or site["infer"].get("is_auxiliary")):
            raise SiteError(
                f"The guide samples the site {name!r}, but the model does not: it samples "
                f"{_listed(in_model)}. Rename it, or mark it as "
                'auxiliary with infer={"is_auxiliary": True}.'
            )
    if not pair.observed():
        raise SiteError(
            f"A measured model needs an observed site, but this one only samples "
            f"{_listed(in_model)}. Pass the data to one of its sites as obs=...."
        )


def _or_sum(site: Mapping[str, Any]) -> str:
    if not can_be_summed(site):
        return ""
    if is_marked(site):
        return "; to train with it summed out, use Pyro's TraceEnum_ELBO"
    return ', or mark it in the model with infer={"enumerate": "parallel"} to have it summed out'


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _check_shapes(model: Any, guide: Any) -> None:
    for name, site in model.nodes.items():
        drawn = guide.nodes.get(name)
        if drawn is None or site["type"] != "sample" or site["is_observed"]:
            continue
        shape = getattr(site["fn"], "shape", None)
        if shape is not None and drawn["value"].shape != shape():
            raise SiteError(
                f"The site {name!r} has shape {tuple(shape())} in the model, but the guide draws "
                f"{tuple(drawn['value'].shape)}. Give it the same plates and event in both."
            )


def _name_the_culprit(model: Callable, guide: Callable, data: Arguments, error: Exception) -> None:
    """Raise a sentence that names the site at fault, where another run shows it."""
    reason = _reason(error)
    if "dtype" in reason or "same type" in reason:
        raise SiteError(
            f"Model, guide and data need one floating type, but it differs ({reason}). Train on "
            "data of the parameters' type; for measuring, which runs in double precision, make "
            "constants without a dtype, or by x.new_zeros(...)."
        ) from error
    with pyro.validation_enabled(False):
        try:
            drawn = poutine.trace(guide).get_trace(*data.args, **data.named)
            prior = poutine.trace(model).get_trace(*data.args, **data.named)
            _check_shapes(prior, drawn)
            pair = run_pair(model, guide, data)
            found = [
                name
                for name, site in pair.all_sites()
                if log_density(site, None, per_datum=False).isnan().any()
            ]
        except SiteError as clear:
            raise clear from error
        except (RuntimeError, ValueError, IndexError):
            return
    if found:
        raise SiteError(nan_sentence(found[0]) + data.size_hint()) from error


def _reason(error: Exception) -> str:
    """First line of what an error says; Pyro appends a table of all sites' shapes."""
    return (str(error).splitlines() or [""])[0].rstrip() or type(error).__name__


def nan_sentence(name: str) -> str:
    """Say that the log density of a site is not a number."""
    return (
        f"The log density of site {name!r} is NaN. Check the parameters of its distribution, and "
        "the data for NaN."
    )
