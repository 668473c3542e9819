"""Where the numbers of a diagnosis come from."""

from __future__ import annotations

import json
from typing import Any

import xarray as xr

from pyrolvm.plots.quantities import number


def facts(tree: xr.DataTree) -> list[tuple[str, str]]:
    """What stands below the title: name and text."""
    pairs = [
        ("model", _text(tree, "model")),
        ("guide", _text(tree, "guide")),
        ("data", _text(tree, "scored") or _text(tree, "data")),
        ("made", _text(tree, "created")),
    ]
    return [(name, text) for name, text in pairs if text]


def provenance(tree: xr.DataTree) -> list[tuple[str, str]]:
    """Everything that one needs to know to judge, or to repeat, the numbers: name and text."""
    pairs = [
        ("model", _text(tree, "model")),
        ("guide", _text(tree, "guide")),
        ("data", _text(tree, "data")),
        ("scored", _text(tree, "scored")),
        ("posterior", _factorisation(tree)),
        ("draws", _text(tree, "num_particles")),
        ("effort", _text(tree, "effort")),
        ("log p(x) by", _evidence(tree)),
        ("reference", _reference(tree)),
        ("oracle", _oracle(tree)),
        ("seed", _text(tree, "seed")),
        ("made", _text(tree, "created")),
    ]
    return [(name, text) for name, text in pairs if text]


def versions(tree: xr.DataTree) -> list[tuple[str, str]]:
    """Packages and their versions."""
    found = _parsed(_text(tree, "versions"))
    return [(str(k), str(v)) for k, v in found.items()] if isinstance(found, dict) else []


def configuration(tree: xr.DataTree) -> str:
    """The configuration, indented; empty where there is none."""
    text = _text(tree, "config")
    found = _parsed(text)
    return text if found is None else json.dumps(found, indent=2, ensure_ascii=False)


def _factorisation(tree: xr.DataTree) -> str:
    if "factorises" not in tree.attrs or int(tree.attrs["factorises"]):
        return "one for each datum" if "factorises" in tree.attrs else ""
    found = tree.attrs.get("global_sites", "[]")
    sites = _parsed(found) if isinstance(found, str) else found
    names = ", ".join(map(str, sites or []))
    lies = "lies" if len(sites or []) == 1 else "lie"
    why = (
        f"{names} {lies} outside the plate “data”" if names else "no plate “data” holds the sites"
    )
    return (
        f"one for the whole data set: {why}, so that the posterior does not factorise over data. "
        "The data set counts as one datum: weights, k-hat and gap are those of the whole, and no "
        "standard error over data exists."
    )


def _evidence(tree: xr.DataTree) -> str:
    attrs = _attrs(tree, "evidence")
    if "method" not in attrs:
        return ""
    bound = "; a lower bound, so that gaps are at least as large (≥)"
    return f"{attrs['method']}{bound if int(attrs.get('is_bound', 0)) else ''}"


def _reference(tree: xr.DataTree) -> str:
    attrs = _attrs(tree, "reference")
    if "method" not in attrs:
        return ""
    if attrs["method"] == "exact":
        return "exact, independent draws of the known posterior"
    group = tree["reference"].to_dataset()
    rhat, ess = float(group["rhat"].max()), float(group["ess"].min())
    chains = attrs.get("num_chains", "several")
    return (
        f"{attrs['method']}, {chains} chains: R-hat at most {number(rhat, 4)}, ESS at least "
        f"{number(ess)}"
    )


def _oracle(tree: xr.DataTree) -> str:
    oracle = _attrs(tree, "gaps").get("oracle")
    whole = int(tree.attrs.get("factorises", 1)) == 0
    return f"{oracle}, fitted to {'the data' if whole else 'each datum alone'}" if oracle else ""


def _attrs(tree: xr.DataTree, group: str) -> dict[Any, Any]:
    node = tree.children.get(group)
    return {} if node is None else dict(node.attrs)


def _text(tree: xr.DataTree, name: str) -> str:
    value = tree.attrs.get(name)
    return "" if value is None else str(value)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
