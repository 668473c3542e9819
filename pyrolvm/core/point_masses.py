"""Guides that put a point where a density is wanted.

Pyro gives a point mass (``Delta``) the log density 0. As a density that number means nothing: the
"gap" of such a guide can be negative, its overlap above 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pyrolvm.core.data import Arguments
from pyrolvm.core.errors import SiteError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.sites import delta_within
from pyrolvm.core.tracing import PairTrace, run_pair


def refuse_point_masses(
    model: Callable, guide: Callable, rows: Arguments, alone: PairTrace
) -> None:
    """Refuse a guide that fixes a continuous latent site at a point.

    A ``Delta`` is let through where something else carries the density: a ``log_density`` of its
    own, the model's site (deterministic there too, or discrete), or an auxiliary site of the guide
    that the value follows from, as in Pyro's autoguides over one joint vector.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        rows: What both take.
        alone: A single run of them.

    Raises:
        SiteError: Naming the site.
    """
    latents, drawn = alone.latents(), alone.guide_sites()
    points = [
        name
        for name, site in latents.items()
        if _has_no_density(drawn[name]["fn"]) and _is_continuous(site["fn"])
    ]
    if points and drawn.keys() - latents.keys():
        with own_randomness():
            again = run_pair(model, guide, rows, alone).guide_sites()
        points = [n for n in points if torch.equal(again[n]["value"], drawn[n]["value"])]
    if points:
        raise SiteError(
            f"The site {points[0]!r} of the guide is a point mass (a Delta); it has no density to "
            "compare with the posterior. Use AutoNormal, or what "
            "AutoLaplaceApproximation.laplace_approximation() returns; for a latent that the "
            "guide draws in another way, give the Delta its log_density."
        )


def _has_no_density(distribution: Any) -> bool:
    delta = delta_within(distribution)
    return delta is not None and not delta.log_density.any()


def _is_continuous(distribution: Any) -> bool:
    if delta_within(distribution) is not None:
        return False
    try:
        return not distribution.support.is_discrete
    except NotImplementedError:  # it does not say
        return True
