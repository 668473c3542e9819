"""The folder of the study: a killed run goes on with what is not yet there.

.. code-block:: text

    cells.csv                         the table
    differences.csv                   objectives against reweighted wake-sleep, row by row
    cells/<key>/
      config.json                     what the cell was made with
      search.json                     validation bound of each learning rate
      checkpoint.safetensors          of a training that is under way
      curve.json                      bounds on validation rows by step
      weights.safetensors             of the trained pair
      rows.safetensors                figures of each test row
      pictures.safetensors            draws and completed images
      scores.json                     figures of the cell; it is finished then

Each file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pyrolvm.core.checkpoint import load_tensors, save_tensors
from pyrolvm.core.errors import RunFolderError
from pyrolvm.core.files import write_text

CELLS, DIFFERENCES = "cells.csv", "differences.csv"


@dataclass(frozen=True)
class CellFolder:
    """Where a cell is kept.

    Args:
        path: The folder; made by :meth:`claim`.
    """

    path: Path

    def claim(self, config: Mapping[str, Any]) -> None:
        """Make the folder, or take it up again.

        Args:
            config: What the cell is made with.

        Raises:
            RunFolderError: If it holds a cell that was made with something else.
        """
        wanted = json.loads(json.dumps(dict(config)))
        if (self.path / "config.json").is_file():
            stored = self.read("config.json")
            other = [name for name, value in wanted.items() if stored.get(name) != value]
            if other:
                raise RunFolderError(
                    f"{self.path} was made with another {' and another '.join(other)}. Choose "
                    "another folder with --out, or delete this one; nothing was changed."
                )
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise RunFolderError(
                f"{self.path} holds something other than a cell of this study. Choose another "
                "folder with --out; nothing was changed."
            )
        self.write("config.json", wanted)

    def has(self, name: str) -> bool:
        """Whether a file is there."""
        return (self.path / name).is_file()

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        write_text(self.path / name, json.dumps(dict(value), indent=1))

    def read(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            RunFolderError: If it is missing or damaged.
        """
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}). Delete the file, and the same command makes it "
                "anew; nothing was changed."
            ) from error

    def save(
        self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None
    ) -> None:
        """Write a file of tensors."""
        save_tensors(self.path / name, tensors, facts or {})

    def load(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read a file of tensors.

        Raises:
            CheckpointError: If it is damaged.
        """
        return load_tensors(self.path / name)

    def drop(self, name: str) -> None:
        """Delete a file that is no longer needed."""
        (self.path / name).unlink(missing_ok=True)
