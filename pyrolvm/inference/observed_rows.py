"""Observed sites as rows of numbers, and what kind of numbers they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyro.distributions import Categorical, OneHotCategorical
from torch import Tensor
from torch.distributions import constraints

from pyrolvm.diagnostics.predictive_checks import Array, Kind, TestStatistics
from pyrolvm.inference.replayed_sites import ObservedSite

FEWEST_SCALARS = 5
"""Scalar observations below which the places among predictions say nothing."""


@dataclass(frozen=True)
class ObservedRows:
    """An observed site as rows of entries, with its statistics.

    Args:
        site: The site.
        kind: What it takes.
        observed: Its values, shape ``(R, E)``; labels in place of vectors that are one-hot.
        statistics: Of new values.
    """

    site: ObservedSite
    kind: Kind
    observed: Array
    statistics: TestStatistics

    @property
    def is_scalar(self) -> bool:
        """Whether rows are single numbers whose order means something, and enough of them."""
        rows, entries = self.observed.shape
        ordered = self.kind in ("real", "count") and self.site.keeps is None
        return ordered and entries == 1 and rows >= FEWEST_SCALARS

    def rows(self, values: Tensor) -> Array:
        """Lay values ``(k, ...)`` of this site out as ``(k, R, E)``."""
        return _laid_out(values, self.site)


def read_rows(site: ObservedSite) -> ObservedRows:
    """Lay an observed site out as rows, and choose its statistics."""
    kind = _kind(site.law)
    observed = _laid_out(site.value[None], site)[0]
    keeps = site.keeps
    if keeps is not None:
        kept = keeps.any(-1, keepdim=True).expand(keeps.shape) if _is_one_hot(site.law) else keeps
        keeps = _laid_out(kept[None], site)[0].astype(bool)
    return ObservedRows(site, kind, observed, TestStatistics(observed, kind, keeps))


def _laid_out(values: Tensor, site: ObservedSite) -> Array:
    """Rows and their entries; a label in place of each vector that is one-hot."""
    if _is_one_hot(site.law):
        values = values.argmax(-1)
    num_rows = values.shape[1] if site.plates else 1
    return values.reshape(len(values), num_rows, -1).cpu().double().numpy()


def _unwrapped(law: Any) -> Any:
    while hasattr(law, "base_dist"):
        law = law.base_dist
    return law


def _is_one_hot(law: Any) -> bool:
    return isinstance(_unwrapped(law), OneHotCategorical)


def _kind(law: Any) -> Kind:
    if isinstance(_unwrapped(law), Categorical | OneHotCategorical):
        return "category"
    support = law.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if not support.is_discrete:
        return "real"
    return "binary" if support is constraints.boolean else "count"
