"""From arrays to the groups that ArviZ reads; everything that PyroLVM wants of ArviZ is here.

The K independent draws of a guide are split into labelled chains, because ArviZ plots compare
chains; the attribute ``sampling="iid_guide"`` says that they are no Markov chains: R-hat and
effective sample sizes of such draws mean nothing, and ``summary(tree, kind="stats")`` leaves them
out. The groups hold the guide's own draws: ArviZ functions that weight draws, such as ``loo``,
take them for the posterior, which ``khat`` in ``sample_stats`` supports or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics.labelling import ArrayLike, Arrays, Labelled, Labelling, as_array
from pyrolvm.diagnostics.netcdf import load, save

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["combine", "load", "save", "to_datatree"]

CONSTANT = 1e-9
"""Spread in nats below which log weights are equal up to rounding."""

SAMPLING = {
    "posterior": "iid_guide",
    "posterior_predictive": "iid_guide",
    "log_likelihood": "iid_guide",
    "sample_stats": "iid_guide",
    "prior": "iid_model",
    "prior_predictive": "iid_model",
}


def to_datatree(
    posterior: Arrays,
    log_weights: ArrayLike,
    khat: ArrayLike,
    *,
    observed_data: Arrays,
    log_likelihood: Arrays | None = None,
    posterior_predictive: Arrays | None = None,
    prior: Arrays | None = None,
    prior_predictive: Arrays | None = None,
    per_datum: Arrays | None = None,
    num_chains: int = 4,
    factorised: bool = True,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """ArviZ groups of one guide, with dimensions (chain, draw, datum, <site>_dim).

    Args:
        posterior: Draws of the guide by site, shape ``(K, N, ...)``.
        log_weights: log p(x, z) − log q(z | x) in nats, shape ``(K, N)``; it becomes the variable
            ``log_weight`` of the group ``sample_stats``.
        khat: Tail shape of the weights, shape ``(N,)``; also in ``sample_stats``.
        observed_data: Observations by site, shape ``(N, ...)``.
        log_likelihood: log p(x | z) in nats by observed site, shape ``(K, N)``.
        posterior_predictive: Replicated data by site, shape ``(K', N, ...)``.
        prior: Draws of the prior by site, shape ``(M, ...)``: one chain, no datum.
        prior_predictive: Data drawn from the model by site, shape ``(M, ...)``.
        per_datum: Further figures by name, shape ``(N,)``: bounds, gaps, labels.
        num_chains: Chains that the draws are split into; it divides K and K'.
        factorised: Whether each datum has a posterior of its own. If not, the data set is one
            datum: draws have shape ``(K, ...)``, weights ``(K,)`` or ``(K, 1)``, k-hat is one
            number, and no group has a dimension ``datum``.
        attrs: Attributes of the root, for example the name of the guide.

    Returns:
        A tree that ArviZ's functions read.

    Raises:
        DataError: If a shape does not fit, a name is reserved, or the draws do not split into
            the chains.
    """
    weights, khat = _statistics(as_array(log_weights), as_array(khat), factorised)
    label = Labelling(num_chains, weights.shape[1] if factorised else None)
    num_draws = len(weights)
    groups = {
        "posterior": label.draws(posterior, num_draws),
        "posterior_predictive": label.draws(posterior_predictive or {}),
        "prior": label.prior_draws(prior or {}),
        "prior_predictive": label.prior_draws(prior_predictive or {}),
        "log_likelihood": label.draws(log_likelihood or {}, num_draws),
        "sample_stats": label.draws({"log_weight": weights}, num_draws)
        | label.data({"khat": khat}),
        "observed_data": label.data(observed_data),
        "per_datum": label.data(per_datum or {}),
    }
    return labelled_tree({name: group for name, group in groups.items() if group}, attrs or {})


def combine(
    trees: Mapping[str, xr.DataTree],
    *,
    attrs: Mapping[str, Any] | None = None,
    extra_groups: Mapping[str, xr.Dataset] | None = None,
) -> xr.DataTree:
    """One tree with a child for each guide; each child alone is an ArviZ tree.

    Args:
        trees: From :func:`to_datatree`, by name of the guide. A slash in a name becomes a dot,
            and each child's attribute ``guide`` keeps the name as it came.
        attrs: Attributes of the root.
        extra_groups: Data sets about all guides, by name, for example the comparison table.

    Returns:
        The combined tree; the inputs are left as they are.

    Raises:
        DataError: If two groups have the same name.
    """
    import xarray as xr

    extra_groups = extra_groups or {}
    children = {name.replace("/", "."): tree.copy() for name, tree in trees.items()}
    for child, name in zip(children.values(), trees, strict=False):
        child.attrs = {**child.attrs, "guide": name}
    if len(children) < len(trees) or set(children) & set(extra_groups):
        raise DataError(
            "A combined tree needs one name for each guide and each extra group, where '/' and "
            f"'.' count as one, but has the guides {list(trees)} and groups {list(extra_groups)}."
        )
    return xr.DataTree(
        dataset=xr.Dataset(attrs=dict(attrs or {})),
        children=children | {name: xr.DataTree(each) for name, each in extra_groups.items()},
    )


def _statistics(
    weights: np.ndarray, khat: np.ndarray, factorised: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Log weights (K, N) and k-hat (N,), or (K,) and () where the data set is one datum."""
    wanted = 2 if factorised else 1
    if not factorised and weights.size == len(np.atleast_1d(weights)) and khat.size == 1:
        weights, khat = weights.reshape(-1), khat.reshape(())
    if weights.ndim != wanted or weights.size == 0 or khat.shape != weights.shape[1:]:
        raise DataError(
            "An ArviZ tree needs log weights (K, N) and k-hat (N,), or (K,) and one number with "
            f"factorised=False, but got {weights.shape} and {khat.shape} with "
            f"factorised={factorised}."
        )
    return weights, khat


def labelled_tree(
    groups: Mapping[str, Mapping[str, Labelled]],
    attrs: Mapping[str, Any],
    sampling: Mapping[str, str] = MappingProxyType(SAMPLING),
) -> xr.DataTree:
    """Put labelled arrays into groups that ArviZ reads.

    Args:
        groups: By name of the group, dimensions and values by name.
        attrs: Attributes of the root.
        sampling: By name of the group, what its draws are: the attribute ``sampling``.

    Returns:
        The tree, with a coordinate for each dimension.
    """
    import xarray as xr
    from arviz_base import make_attrs

    library = {
        "inference_library": "pyro-ppl",
        "inference_library_version": version("pyro-ppl"),
    }
    datasets = {"/": xr.Dataset(attrs={"sampling": sampling["posterior"], **attrs})}
    for name, group in groups.items():
        dataset = xr.Dataset(dict(group))
        coords = {dim: np.arange(size) for dim, size in dataset.sizes.items()}
        origin = {"sampling": sampling[name]} if name in sampling else {}
        datasets[name] = dataset.assign_coords(coords).assign_attrs(
            make_attrs({**library, **origin})
        )
    return xr.DataTree.from_dict(datasets)


def pointwise_loo(
    log_likelihood: ArrayLike, log_p: ArrayLike | None = None, log_q: ArrayLike = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Leave-one-out predictive densities by ArviZ's PSIS.

    Args:
        log_likelihood: Of each observation at independent draws, nats, shape ``(K, U)``.
        log_p: Log joint density at the draws, shape ``(K,)``; None takes the draws for those of
            the posterior.
        log_q: Log density that the draws come from, shape ``(K,)``.

    Returns:
        Expected log predictive density in nats and Pareto k of each observation, ``(U,)`` each; k
        is −∞ where the weights are constant.
    """
    import xarray as xr
    from arviz_stats import loo, loo_approximate_posterior  # type: ignore[attr-defined]

    values = as_array(log_likelihood)
    given = (as_array(0.0 if each is None else each) for each in (log_p, log_q))
    densities = [np.broadcast_to(each, len(values)) for each in given]
    ratios = (densities[0] - densities[1])[:, None] - values
    varies = np.ptp(ratios, axis=0) > CONSTANT
    elpd, pareto_k = values.mean(0), np.full(values.shape[1], -np.inf)
    if not varies.any():
        return elpd, pareto_k
    labelled = xr.DataArray(values[None][..., varies], dims=("chain", "draw", "observation"))
    tree = xr.DataTree.from_dict({"log_likelihood": labelled.to_dataset(name="x")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pareto k says the same, by observation
        if log_p is None:
            found = loo(tree, var_name="x", pointwise=True, reff=1.0)
        else:
            p, q = (xr.DataArray(each[None], dims=("chain", "draw")) for each in densities)
            found = loo_approximate_posterior(tree, p, q, var_name="x", pointwise=True)
    elpd[varies], pareto_k[varies] = found.elpd_i.values, found.pareto_k.values
    return elpd, pareto_k


def chain_statistic(name: str, draws: NDArray[Any], method: str) -> NDArray[np.float64]:
    """R-hat or effective sample size by ArviZ.

    Args:
        name: ``"rhat"`` or ``"ess"``.
        draws: Of real chains, ``(chain, draw, *rest)``.
        method: ArviZ's name of the variant.

    Returns:
        Shape ``rest``.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    found = getattr(array_stats, name)(draws, chain_axis=0, draw_axis=1, method=method)
    return np.asarray(found, dtype=np.float64)


def chain_datatree(
    site: str, draws: Tensor, attrs: Mapping[str, Any] | None = None
) -> xr.DataTree:
    """ArviZ's tree of real chains: ``posterior`` with dimensions (chain, draw, datum, latent).

    Args:
        site: Name of the latent site.
        draws: Its draws, ``(chain, draw, N, S)``.
        attrs: Attributes of the root and the group.

    Returns:
        A tree that ArviZ's functions read.
    """
    import xarray as xr
    from arviz_base import make_attrs

    values = as_array(draws)
    dims = ("chain", "draw", "datum", "latent")
    coords = {dim: np.arange(size) for dim, size in zip(dims, values.shape, strict=True)}
    facts = {
        "inference_library": "pyrolvm", "inference_library_version": version("pyrolvm"),
        **(attrs or {}),
    }  # fmt: skip
    posterior = xr.Dataset({site: (dims, values)}, coords=coords, attrs=make_attrs(facts))
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=dict(attrs or {})), "posterior": posterior}
    )
