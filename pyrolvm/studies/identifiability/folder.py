"""The folder of the study: a killed run goes on with what is not yet there.

.. code-block:: text

    identifiability.json                    sizes that all cells share
    cells/<key>/run-<seed>.safetensors      weights of a trained pair
    cells/<key>/codes.safetensors           codes of the rows held out, by run, and the true ones
    cells/<key>/ladder.csv                  agreement of all pairs of runs
    cells/<key>/scores.json                 the cell's row of the table, and its runs
    frame.csv, runs.csv                     the tables

Each file is written whole or not at all; the scores come last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyrolvm.core.checkpoint import load_tensors, save_tensors
from pyrolvm.core.errors import RunFolderError
from pyrolvm.core.files import write_text
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.core.randomness import own_randomness
from pyrolvm.studies.identifiability.cells import Cell
from pyrolvm.studies.identifiability.training import Run
from pyrolvm.studies.identifiability.worlds import StudySettings, World

if TYPE_CHECKING:
    import pandas as pd

RECORD, FRAME, RUNS = "identifiability.json", "frame.csv", "runs.csv"
KIND = "identifiability"


@dataclass(frozen=True)
class StudyFolder:
    """Where the study is kept.

    Args:
        path: The folder; made by :meth:`claim`.
    """

    path: Path

    def claim(self, settings: StudySettings) -> None:
        """Make the folder, or take it up again.

        Raises:
            RunFolderError: If it holds something else, or cannot be written.
        """
        record = {"kind": KIND, "settings": asdict(settings)}
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder. Choose another.")
        if not any(self.path.glob("[!.]*")):
            write_text(self.path / RECORD, json.dumps(record, indent=1))
            return
        stored = self._read(self.path / RECORD)
        if stored != record:
            raise RunFolderError(
                f"{self.path} holds something other than this study in this size. Choose another "
                "folder; nothing was changed."
            )

    def has_run(self, cell: Cell, seed: int) -> bool:
        """Whether a run is trained."""
        return self._weights(cell, seed).is_file()

    def save_run(self, cell: Cell, run: Run) -> None:
        """Write the weights of a trained pair."""
        facts = {"seed": run.seed, "seconds": run.seconds}
        save_tensors(self._weights(cell, run.seed), program_state(run.model, run.guide), facts)

    def load_run(self, cell: Cell, world: World, seed: int) -> Run:
        """Build a pair with the weights of a trained one."""
        path = self._weights(cell, seed)
        tensors, facts = load_tensors(path)
        with own_randomness(seed):
            model, guide = cell.make(world)
        load_program_state(model, guide, tensors, path)
        return Run(seed, model, guide, float(facts["seconds"]))

    def is_measured(self, cell: Cell) -> bool:
        """Whether the scores of a cell are there."""
        return self._scores(cell).is_file()

    def save_scores(
        self,
        cell: Cell,
        scores: Mapping[str, Any],
        ladder: pd.DataFrame,
        codes: Mapping[str, Tensor],
    ) -> None:
        """Write what was measured of a cell."""
        save_tensors(self._cell(cell) / "codes.safetensors", codes, {"cell": cell.key})
        write_text(self._cell(cell) / "ladder.csv", ladder.to_csv(index=False))
        write_text(self._scores(cell), json.dumps(dict(scores), indent=1))

    def load_scores(self, cell: Cell) -> tuple[dict[str, Any], pd.DataFrame]:
        """Read what was measured of a cell: its scores and its ladder."""
        import pandas as pd

        return self._read(self._scores(cell)), pd.read_csv(self._cell(cell) / "ladder.csv")

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}): the folder holds no study of identifiability, "
                "or a damaged one. Choose another folder, or delete the file; nothing was changed."
            ) from error

    def _cell(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.key

    def _weights(self, cell: Cell, seed: int) -> Path:
        return self._cell(cell) / f"run-{seed}.safetensors"

    def _scores(self, cell: Cell) -> Path:
        return self._cell(cell) / "scores.json"
