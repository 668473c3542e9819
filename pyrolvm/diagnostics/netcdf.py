"""Data trees on disk: NetCDF files that are whole or absent, and come back as they were.

NetCDF attributes hold text and numbers only, so every other value (a boolean, a list, None, a
mapping) is written as JSON behind the prefix ``json:``, and read back from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pyrolvm.core.errors import DataError
from pyrolvm.core.files import atomic

if TYPE_CHECKING:
    import xarray as xr

JSON_PREFIX = "json:"
INTEGER_LIMIT = 2**63


def save(tree: xr.DataTree, path: str | Path) -> Path:
    """Write a tree to a NetCDF-4 file, in one piece.

    The file is written under a temporary name beside its place and then renamed, so that neither
    an interruption nor a full disk leaves a broken file, or harms one that was there.

    Args:
        tree: Any data tree; attributes may hold whatever JSON can.
        path: Where to; missing folders are made.

    Returns:
        The path.

    Raises:
        TypeError: If an attribute cannot be written as JSON.
        RunFolderError: If the place cannot be written to.
    """
    encoded = _with_attributes(tree, _encoded)
    with atomic(path) as partial:
        encoded.to_netcdf(partial, engine="h5netcdf")
    return Path(path)


def load(path: str | Path) -> xr.DataTree:
    """Read a tree into memory and close its file.

    Args:
        path: A file that :func:`save`, or ArviZ, has written.

    Returns:
        The tree, with nothing left to read.

    Raises:
        FileNotFoundError: If there is no such file.
        DataError: If the file is cut short, or is no NetCDF-4 file.
    """
    import xarray as xr

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path} to load a data tree from.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            tree.load()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a NetCDF-4 data tree: it is "
            f"cut short, or another kind of file. Write it again with `save`. ({error})"
        ) from error
    return _with_attributes(tree, _decoded)


def _with_attributes(tree: xr.DataTree, change: Callable[[Any], Any]) -> xr.DataTree:
    import xarray as xr

    datasets = {}
    for key, node in tree.subtree_with_keys:
        dataset = node.to_dataset(inherit=False)
        dataset.attrs = _changed(dataset.attrs, change)
        for variable in dataset.variables.values():
            variable.attrs = _changed(variable.attrs, change)
        datasets["/" if key == "." else key] = dataset
    return xr.DataTree.from_dict(datasets, name=tree.name)


def _changed(attrs: Mapping[Any, Any], change: Callable[[Any], Any]) -> dict[Any, Any]:
    return {name: change(value) for name, value in attrs.items()}


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, str):
        plain = not value.startswith(JSON_PREFIX)
    elif isinstance(value, int) and not isinstance(value, bool):
        plain = -INTEGER_LIMIT <= value < INTEGER_LIMIT
    else:
        plain = isinstance(value, float)
    return value if plain else JSON_PREFIX + json.dumps(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(JSON_PREFIX):
        return json.loads(value.removeprefix(JSON_PREFIX))
    return value.item() if isinstance(value, np.generic) else value
