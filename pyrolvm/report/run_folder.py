"""A run folder: what was asked for, how far it came, and everything that came of it.

``config.json`` is written first and names the run; the folder of a finished run also holds the
page, the table, the figures, the weights and, written last, ``comparison.nc``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xarray as xr

from pyrolvm.compare import Comparison
from pyrolvm.core import RunFolderError
from pyrolvm.core.checkpoint import fingerprint, save_tensors
from pyrolvm.core.files import atomic, write_text
from pyrolvm.core.program_state import program_state
from pyrolvm.diagnostics import arviz_export
from pyrolvm.inference.oracle import file_name
from pyrolvm.plots import save
from pyrolvm.report.page import figures, write

CONFIG, TREE, PAGE, TABLE = "config.json", "comparison.nc", "report.html", "table.csv"


def default_folder(config: Mapping[str, Any]) -> Path:
    """Name a run folder by the hash of its configuration: ``runs/compare-0123456789ab``."""
    return Path("runs") / f"{config['command']}-{fingerprint(dict(config))}"


class RunFolder:
    """A folder that belongs to one configuration.

    Args:
        path: The folder; it is made if need be.
        config: What was asked for, as JSON can hold it.

    Raises:
        RunFolderError: If the folder cannot be written, holds another configuration, or holds
            files that are not a run.
    """

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self.path, self.config = path, json.loads(json.dumps(dict(config)))
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file, not a folder; choose another --out.")
        if (path / CONFIG).exists():
            self._check(read_config(path))
        elif path.exists() and any(path.iterdir()):
            raise RunFolderError(
                f"{path} holds files that are not a run of PyroLVM. "
                "Choose an empty or a new folder; nothing was changed."
            )
        else:
            write_text(path / CONFIG, json.dumps(self.config, indent=2) + "\n")

    def _check(self, found: Mapping[str, Any]) -> None:
        keys = dict.fromkeys([*self.config, *found])
        different = [key for key in keys if self.config.get(key) != found.get(key)]
        if different:
            shown = ", ".join(
                f"{k} is {found.get(k)!r}, not {self.config.get(k)!r}" for k in different
            )
            raise RunFolderError(
                f"{self.path} holds another configuration ({shown}). Choose another --out; "
                "nothing was changed."
            )

    @property
    def is_finished(self) -> bool:
        """Whether the run's result is stored."""
        return (self.path / TREE).exists()

    def read(self) -> xr.DataTree:
        """Return the stored result."""
        return arviz_export.load(self.path / TREE)

    def write(self, comparison: Comparison) -> None:
        """Store a result: weights, table, figures, page, and last the tree."""
        tree = comparison.tree
        model = next(iter(comparison.pairs.values()), (None, None))[0]
        if isinstance(model, torch.nn.Module):
            save_tensors(self.path / "weights" / "model.safetensors", model.state_dict(), {})
        for name, (_, guide) in comparison.pairs.items():
            if isinstance(guide, torch.nn.Module):
                state = {
                    k: v for k, v in program_state(None, guide).items() if k.startswith("guide.")
                }
                place = self.path / "weights" / f"{file_name(name)}.safetensors"
                save_tensors(place, state, {"guide": name})
        with atomic(self.path / TABLE) as temporary:
            comparison.frame.to_csv(temporary)
        rebuild(tree, self.path)
        arviz_export.save(tree, self.path / TREE)


def rebuild(tree: xr.DataTree, folder: Path) -> Path:
    """Draw the figures and write the page of a stored result.

    Returns:
        Path of the page.
    """
    for name, figure in figures(tree, "light").items():
        save(figure, folder / "figures", name)
    return write(tree, folder / PAGE)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Args:
        path: A run folder, or a file such as its ``config.json``.

    Raises:
        RunFolderError: If it cannot be read, or is no configuration.
    """
    file = path if path.is_file() else path / CONFIG
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path} is not a run folder: {file} cannot be read ({error})."
        ) from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} is not a configuration: it should hold a JSON object.")
    return found


def repeated(path: Path, asked: Mapping[str, Any], changed: Sequence[str]) -> dict[str, Any]:
    """Read the configuration of an earlier run that is to be repeated.

    Args:
        path: A ``config.json`` or the folder that holds it.
        asked: What would be asked without it; its keys are the configuration's.
        changed: Keys that were asked for besides.

    Raises:
        RunFolderError: If other options were given too, or it is no such configuration.
    """
    if changed:
        raise RunFolderError(f"--config repeats a run as it was; leave out {', '.join(changed)}.")
    found = read_config(path)
    if found.get("command") != asked["command"] or set(asked) - set(found):
        raise RunFolderError(f"{path} is not the configuration of a {asked['command']} run.")
    return {key: found[key] for key in asked}
