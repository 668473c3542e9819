"""Pictures of a diagnosis that need more than one of its groups.

Gap and k-hat are drawn as those of a comparison with a single row.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.gaps import gap_bars
from pyrolvm.plots.khat import khat_per_datum
from pyrolvm.plots.per_datum_gaps import gap_per_datum
from pyrolvm.plots.reference_draws import MOST_COORDINATES, draw_pairs
from pyrolvm.plots.theme import WIDE, ThemeName

PARTS = {"total": "gap", "approximation": "approximation_gap", "amortization": "amortization_gap"}
"""Variables of ``/gaps``, and what a comparison calls them."""


def gap_split(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """The gap as a bar: what the family cannot express, plus what the encoder loses.

    Args:
        tree: A diagnosis with the group ``/gaps`` or ``/per_datum``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If there is no gap to draw.
    """
    return gap_bars(as_comparison(tree), theme, width=width)


def gap_of_each(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """The gap of every datum, sorted.

    Args:
        tree: A diagnosis with the group ``/gaps`` or ``/per_datum``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If gaps of two data or more are not there.
    """
    return gap_per_datum(as_comparison(tree), theme, width=width)


def khat_of_each(tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE) -> Figure:
    """One dot a datum, and the threshold above which weights are not trusted.

    Args:
        tree: A diagnosis with the group ``/importance``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure.

    Raises:
        DataError: If k-hat of two data or more is not there.
    """
    return khat_per_datum(as_comparison(tree, ("importance",)), theme, width=width)


def draws_at_worst(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Draws of guide and posterior at the datum, and in the coordinates, that are furthest off.

    Args:
        tree: A diagnosis with the group ``/reference``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure: pairs of up to four coordinates.

    Raises:
        DataError: If there are no reference draws.
    """
    draws, tests, moments = (_group(tree, name) for name in ("reference", "two_sample", "moments"))
    if draws is None:
        raise DataError("Draws of guide and posterior need the group /reference of a diagnosis.")
    data = np.asarray(draws["datum"].values)
    worst = 0 if tests is None or "c2st" not in tests else int(np.argmax(tests["c2st"].values))
    return draw_pairs(
        draws,
        theme,
        datum=int(data[worst]),
        coordinates=None if moments is None else _furthest(moments.isel(datum=worst)),
        width=width,
    )


def _furthest(moments: xr.Dataset) -> list[str] | None:
    """The coordinates to look at, in their order: the worst correlated pair is among them."""
    names = [str(name) for name in moments["coordinate"].values]
    if len(names) <= MOST_COORDINATES:
        return None
    errors = [np.abs(moments[each].values) for each in ("mean_error", "log_sd_ratio")]
    order = np.argsort(-np.max(errors, axis=0), kind="stable")
    pair = [str(name) for name in moments["correlation_pair"].values]
    ranked = dict.fromkeys([*(p for p in pair if p in names), *(names[i] for i in order)])
    return sorted(list(ranked)[:MOST_COORDINATES], key=names.index)


def as_comparison(
    tree: xr.DataTree, groups: tuple[str, ...] = ("gaps", "per_datum")
) -> xr.DataTree:
    """The figures of a diagnosis as a comparison of one guide.

    Args:
        tree: A diagnosis. The gap is that of ``/gaps``, or, not split, that of ``/per_datum``.
        groups: Groups to look into; the gap is split for fewer data than have a k-hat.

    Raises:
        DataError: If it has neither gap nor k-hat.
    """
    gaps, weights, plain = (
        _group(tree, name) if name in groups else None
        for name in ("gaps", "importance", "per_datum")
    )
    bound = gaps.attrs.get("evidence_is_bound", 0) if gaps is not None else _is_bound(tree)
    if gaps is None and plain is not None and "gap" in plain:
        gaps = xr.Dataset({"total": plain["gap"]})
    if gaps is None and weights is None:
        raise DataError(
            "The gap and k-hat of a diagnosis need its groups /gaps, /per_datum or /importance, "
            f"but it has {', '.join(f'/{name}' for name in tree.children) or 'no groups at all'}."
        )
    name = str(tree.attrs.get("guide", "guide")).replace("/", ".")
    found = {new: gaps[old] for old, new in PARTS.items() if gaps is not None and old in gaps}
    table = dict.fromkeys(("elbo", "log_evidence", "gap"), (np.nan, np.nan))
    table |= {PARTS[old]: _mean(gaps, old) for old in PARTS if gaps is not None and old in gaps}
    if weights is not None and "khat" in weights:
        found["khat"] = weights["khat"]
    columns = {k: ("guide", [value]) for k, (value, _) in table.items()}
    columns |= {f"{k}_se": ("guide", [error]) for k, (_, error) in table.items()}
    comparison = xr.DataTree.from_dict(
        {
            "/table": xr.Dataset(columns, {"guide": [name]}),
            f"/{name}/per_datum": xr.Dataset({k: _array(v) for k, v in found.items()}),
        }
    )
    comparison.attrs = {
        "evidence_is_bound": int(bound),
        "khat_threshold": 0.7 if weights is None else weights.attrs.get("khat_threshold", 0.7),
        "num_particles": tree.attrs.get("num_particles"),
        "shared_part": "" if gaps is None else gaps.attrs.get("shared_part", ""),
    }
    return comparison


def _is_bound(tree: xr.DataTree) -> int:
    evidence = tree.children.get("evidence")
    return 0 if evidence is None else int(evidence.attrs.get("is_bound", 0))


def _mean(gaps: xr.Dataset, name: str) -> tuple[float, float]:
    """Mean over data and its standard error; of a single datum its own."""
    values = np.asarray(gaps[name].values, dtype=float)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.nan, np.nan
    if values.size > 1:
        return float(finite.mean()), float(finite.std(ddof=1) / np.sqrt(finite.size))
    error = gaps[f"{name}_se"].values if f"{name}_se" in gaps else np.nan
    return float(finite[0]), float(np.ravel(error)[0])


def _array(values: xr.DataArray) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """Without coordinates; a single datum, which stands for the whole data set, has no axis."""
    array = np.asarray(values.values, dtype=float)
    return ((), array.reshape(())) if array.size == 1 else (("datum",), array.ravel())


def _group(tree: xr.DataTree, name: str) -> xr.Dataset | None:
    node = tree.children.get(name)
    return None if node is None or not node.data_vars else node.to_dataset()
