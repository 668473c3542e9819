r"""Does the rate of a guide split into one rate for each layer?

It does where the guide is drawn in the order of the model's prior:

.. math:: \operatorname{KL}(q(z \mid x) \,\|\, p(z)) = \sum_l E_q
          \operatorname{KL}(q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))

Precisely: no site may depend in the model on one that depends on it, directly or not, in the
guide. Sites that come in the same order in both cannot break this; other orders are looked into by
following which values each density is computed from. A guide drawn from the bottom up breaks it:
the terms of its single layers are no divergences and can be negative, and a closed-form KL of a
layer is the wrong number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyro.infer.inspect import get_dependencies

from pyrolvm.core import Guide, IncompatiblePairError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import PairTrace


def split_obstacle(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    pair: PairTrace,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
) -> str | None:
    """Say why the rate of a guide does not split into layers.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        pair: One run of both.
        args: What both take.
        kwargs: What both take by name.

    Returns:
        The reason, as the end of a sentence; None where the rate splits.
    """
    in_model, in_guide = list(pair.latents()), list(pair.guide_sites())
    auxiliary = [name for name in in_guide if name not in in_model]
    if auxiliary:
        return f"it draws them by way of the auxiliary site {auxiliary[0]!r}"
    if in_model == in_guide:
        return None
    order = (
        f"it draws {' before '.join(map(repr, in_guide))}, and the model draws "
        f"{' before '.join(map(repr, in_model))}"
    )
    if isinstance(guide, Guide) and guide.top_down is False:
        return order
    try:
        with own_randomness():
            parents = _dependencies(model, args, kwargs)
            ancestors = _closed(_dependencies(guide, args, kwargs))
    except Exception:  # Pyro cannot follow every program; then the order decides
        return order
    broken = any(
        site in ancestors.get(parent, set())
        for site in in_model
        for parent in parents.get(site, set()) - {site}
    )
    return order if broken else None


def require_top_down(who: str, obstacle: str | None) -> None:
    """Refuse a guide whose rate does not split into layers.

    Args:
        who: What needs it to.
        obstacle: From :func:`split_obstacle`.

    Raises:
        IncompatiblePairError: With the reason.
    """
    if obstacle is not None:
        raise IncompatiblePairError(
            f"{who} needs a guide that draws the layers from the top down, as the model does, for "
            f"only then does each layer have a rate; but {obstacle}. Use a Layerwise or Ladder "
            "guide, or train on the plain ELBO (Trace_ELBO)."
        )


def _dependencies(
    program: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
) -> dict[str, set[str]]:
    """Latent sites that the density of each site is computed from."""
    found: Any = get_dependencies(program, args, dict(kwargs or {}))["prior_dependencies"]
    return {site: set(upstream) for site, upstream in found.items()}


def _closed(parents: dict[str, set[str]]) -> dict[str, set[str]]:
    """All ancestors of each site; sites come in the order in which they were drawn."""
    ancestors: dict[str, set[str]] = {}
    for site, upstream in parents.items():
        direct = upstream - {site}
        ancestors[site] = direct.union(*(ancestors.get(parent, set()) for parent in direct))
    return ancestors
