"""Which family a guide searches, as far as it can be known from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pyro.infer import autoguide
from torch import Tensor
from torch.distributions import Distribution, Independent, LogNormal, MultivariateNormal, Normal

from pyrolvm.core import Data, Guide, evaluating
from pyrolvm.core import sites as site_arrays
from pyrolvm.core.matching import run_once
from pyrolvm.core.summed_out import is_marked
from pyrolvm.inference.gaussian_oracle import DIAGONAL, FULL_RANK, Shape
from pyrolvm.inference.rows import acts_on_rows_alone

SharedPart = Literal["amortization", "optimisation"]
"""What the second gap is due to: weights shared over data, or training that has not arrived."""


@dataclass(frozen=True)
class GuideFamily:
    """The family of a guide in unconstrained coordinates.

    Args:
        shape: Of Gaussians; None where the family is another one, or not known.
        is_richer: Whether it is known to hold more than every Gaussian.
    """

    shape: Shape | None
    is_richer: bool = False


def guide_family(model: Callable[..., Any], guide: Callable[..., Any], data: Any) -> GuideFamily:
    """Recognise the Gaussian families: Pyro's automatic guides, and normal sites of any guide.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
    """
    if isinstance(guide, autoguide.AutoNormal | autoguide.AutoDiagonalNormal):
        return GuideFamily(DIAGONAL)
    if isinstance(guide, autoguide.AutoMultivariateNormal):
        return GuideFamily(FULL_RANK)
    if isinstance(guide, autoguide.AutoLowRankMultivariateNormal):
        return GuideFamily(Shape(int(guide.cov_factor.shape[-1])))
    if isinstance(guide, autoguide.AutoNormalizingFlow):
        return GuideFamily(None, is_richer=True)
    if isinstance(guide, autoguide.AutoGuide):
        return GuideFamily(None)
    return GuideFamily(_shape_of_sites(model, guide, data))


def _shape_of_sites(model: Any, guide: Any, data: Any) -> Shape | None:
    """Shape of a guide whose sites are normal and do not depend on one another."""
    with evaluating(model, guide):
        rows = Data.of(data).to(dtype=torch.float64)
        first, second = (run_once(model, guide, rows, is_marked).guide_sites() for _ in range(2))
    laws, again = ([_normal(site["fn"]) for site in each.values()] for each in (first, second))
    if not laws or not all(map(_same, laws, again)):
        return None
    if not any(isinstance(_within(site["fn"]), MultivariateNormal) for site in first.values()):
        return DIAGONAL
    return FULL_RANK if len(laws) == 1 and _one_event(first) else None


def _one_event(sites: dict[str, dict[str, Any]]) -> bool:
    """Whether the one site has no plates within its datum, so that nothing is left independent."""
    (site,) = sites.values()
    inside = [size for size in site["fn"].batch_shape if size > 1]
    return len(inside) <= (site_arrays.data_dim(site) is not None)


def _within(law: Any) -> Any:
    """The law under reinterpreted, masked and expanded batch dimensions."""
    while isinstance(law, Independent) or type(law).__name__ in ("MaskedDistribution",):
        law = law.base_dist
    return law


def _normal(law: Distribution) -> tuple[Tensor, ...] | None:
    """Location and scale of a law that is normal in unconstrained coordinates."""
    inner = _within(law)
    if isinstance(inner, MultivariateNormal):
        return inner.loc, inner.covariance_matrix
    return (inner.loc, inner.scale) if isinstance(inner, Normal | LogNormal) else None


def _same(left: tuple[Tensor, ...] | None, right: tuple[Tensor, ...] | None) -> bool:
    """Whether two runs met the same normal law, which then depends on no other draw."""
    if left is None or right is None or len(left) != len(right):
        return False
    return all(
        a.shape == b.shape and torch.allclose(a, b) for a, b in zip(left, right, strict=True)
    )


def shared_part(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    rows: Sequence[int],
    factorises: bool,
) -> SharedPart:
    """What a guide loses against the best member of its family for one datum.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        data: What both take.
        rows: Numbers of the chosen ones.
        factorises: Whether each datum has a posterior of its own.
    """
    own = isinstance(guide, autoguide.AutoGuide) or (isinstance(guide, Guide) and guide.per_datum)
    if own or not factorises:
        return "optimisation"
    alone = acts_on_rows_alone(model, guide, data, torch.tensor(rows))
    return "amortization" if alone else "optimisation"
