"""Which guide serves which model."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import Any, get_args

from pyrolvm.core.errors import IncompatiblePairError

_guides: dict[str, type] = {}


def record_guide(guide: type) -> None:
    """Remember a guide class, so that a refusal can name the guides that would do."""
    _guides[f"{guide.__module__}.{guide.__qualname__}"] = guide


def serves(guide: type, model: Any) -> bool:
    """Whether a model offers what a guide class requires, and the class knows no obstacle."""
    return _reason(guide, model) is None


def require_capabilities(guide: Any, model: Any) -> None:
    """Refuse a model that a guide cannot serve.

    Raises:
        IncompatiblePairError: Naming the missing capabilities, the model's arguments that the
            guide does not take, the latent dimensions that are too many, or what else stands in
            the way, and the guides that would do.
    """
    reason = _reason(guide, model)
    if reason is None:
        return
    usable = sorted(
        other.__name__
        for other in _guides.values()
        if not inspect.isabstract(other)
        and other.__module__.startswith("pyrolvm.")
        and serves(other, model)
    )
    raise IncompatiblePairError(
        f"{reason}. Guides that serve it: {', '.join(usable) or 'none of PyroLVM'}."
    )


def _reason(guide: Any, model: Any) -> str | None:
    """Say why a guide class cannot serve a model; None where it can."""
    missing = [_names(kind) for kind in guide.requires if not offers(model, kind)]
    if missing:
        return (
            f"{guide.__name__} needs a model with the capability {' and '.join(missing)}, "
            f"which {getattr(model, '__name__', type(model).__name__)} does not offer"
        )
    unread = _unread(guide, model)
    if unread:
        return (
            f"{guide.__name__} infers latents from x alone, but {type(model).__name__} "
            f"has the further argument {' and '.join(unread)}"
        )
    limit = guide.max_latent_dim
    if limit is not None and model.latent_dim > limit:
        return (
            f"{guide.__name__} serves models with {_up_to(limit)}, "
            f"but this one has {model.latent_dim}"
        )
    return guide.obstacle(model)


def offers(model: Any, capability: Any) -> bool:
    """Whether a model has every member of a capability, or of one of several (``A | B``).

    A property that raises ``AttributeError`` does not count; ``isinstance`` alone would count it
    from Python 3.12 on. A model without latent sites offers no capability that is about them.
    """
    if isinstance(capability, UnionType):
        return any(offers(model, kind) for kind in get_args(capability))
    if "latent_sites" in inspect.get_annotations(capability) and not _has_latent_sites(model):
        return False
    members = [name for name in vars(capability) if not name.startswith("_")]
    return isinstance(model, capability) and all(hasattr(model, name) for name in members)


def _has_latent_sites(model: Any) -> bool:
    return bool(getattr(model, "latent_sites", ()))


def _unread(guide: Any, model: Any) -> list[str]:
    """Arguments of the model beside x that the guide does not take."""
    return [name for name in getattr(model, "covariates", ()) if name not in guide.covariates]


def _names(capability: Any) -> str:
    if isinstance(capability, UnionType):
        return " or ".join(kind.__name__ for kind in get_args(capability))
    return str(capability.__name__)


def _up_to(limit: int) -> str:
    """Say how many latent dimensions there may be."""
    if limit == 1:
        return "1 latent dimension"
    return f"{'1 or' if limit == 2 else 'up to'} {limit} latent dimensions"
