"""The folder of a study: finished cells, failed ones, and the locks of those that run.

.. code-block:: text

    study.json              the study that the folder belongs to
    cells/<hash>/           config.json, result.json, per_datum.json, provenance.json: there, so
                            complete
    failed/<hash>/          config.json, error.txt
    locks/<hash>.lock       held by whoever runs the cell; the system lets go when it dies
    frame.parquet, .csv     the table

A folder is built beside its place under a hidden name and renamed: nobody ever sees half of one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pyrolvm.core import RunFolderError
from pyrolvm.core.files import write_text
from pyrolvm.studies.cell import as_text

STUDY, CONFIG, RESULT, PER_DATUM, PROVENANCE, ERROR = (
    "study.json", "config.json", "result.json", "per_datum.json", "provenance.json", "error.txt",
)  # fmt: skip
PART = ".part"


@dataclass(frozen=True)
class Store:
    """The folder of a study.

    Args:
        folder: Where it lies; made by :meth:`claim`.
    """

    folder: Path

    def cell(self, key: str) -> Path:
        """Folder of a finished cell, whether it is there or not."""
        return self.folder / "cells" / key

    def failure(self, key: str) -> Path:
        """Folder of a failed cell."""
        return self.folder / "failed" / key

    def has(self, key: str) -> bool:
        """Whether a cell is finished."""
        return self.cell(key).is_dir()

    def has_failed(self, key: str) -> bool:
        """Whether a cell has failed, and was not repeated with success."""
        return self.failure(key).is_dir() and not self.has(key)

    def has_cells(self) -> bool:
        """Whether any cell is there."""
        cells = self.folder / "cells"
        return cells.is_dir() and any(not each.name.startswith(".") for each in cells.iterdir())

    def claim(self, name: str, facts: Mapping[str, Any]) -> None:
        """Make the folder, or take it up again, for the study of a name.

        Args:
            name: Of the study; a study of the same name with another grid shares the folder.
            facts: What ``study.json`` says besides.

        Raises:
            RunFolderError: If it cannot be written, or belongs to something else.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise RunFolderError(f"{self.folder} is a file, not a folder; choose another --out.")
        record = self.folder / STUDY
        there = [p.name for p in self.folder.glob("[!.]*")]
        if there and STUDY not in there:
            raise RunFolderError(
                f"{self.folder} holds files that are not a study. Choose an empty or a new "
                "folder; nothing was changed."
            )
        theirs = _read_json(record).get("name") if there else name
        if theirs != name:
            raise RunFolderError(
                f"{self.folder} belongs to the study {theirs!r}, not to {name!r}. Choose "
                "another --out; nothing was changed."
            )
        write_text(record, as_text({"name": name, **facts}))
        for part in ("cells", "failed", "locks"):
            (self.folder / part).mkdir(exist_ok=True)

    def lock(self, key: str) -> FileLock:
        """The lock of a cell; whoever holds it may write the cell."""
        return FileLock(self.folder / "locks" / f"{key}.lock", thread_local=False)

    def sweep(self, key: str) -> None:
        """Remove what a runner that died has left of a cell; only for the holder of its lock."""
        for parent in (self.folder / "cells", self.folder / "failed"):
            for left in parent.glob(f".{key}.*{PART}"):
                shutil.rmtree(left, ignore_errors=True)

    def write_cell(self, key: str, files: Mapping[str, str]) -> None:
        """Write a finished cell, whole or not at all, and forget that it had failed."""
        _write_folder(self.cell(key), files)
        shutil.rmtree(self.failure(key), ignore_errors=True)

    def write_failure(self, key: str, files: Mapping[str, str]) -> None:
        """Write a failed cell, whole or not at all, in the place of an earlier failure."""
        shutil.rmtree(self.failure(key), ignore_errors=True)
        _write_folder(self.failure(key), files)

    def holds(self, key: str, file: str) -> bool:
        """Whether a finished cell has a file of a name; earlier versions kept fewer."""
        return (self.cell(key) / file).is_file()

    def read(self, key: str, file: str) -> dict[str, Any]:
        """Read a JSON file of a finished cell.

        Raises:
            RunFolderError: If it cannot be read.
        """
        return _read_json(self.cell(key) / file)

    def error(self, key: str) -> str:
        """The traceback of a failed cell."""
        return (self.failure(key) / ERROR).read_text(encoding="utf-8")


def _write_folder(place: Path, files: Mapping[str, str]) -> None:
    part = place.with_name(f".{place.name}.{os.getpid()}{PART}")
    try:
        part.mkdir(parents=True)
        for name, text in files.items():
            with (part / name).open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        part.rename(place)
        _sync_folder(place.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise RunFolderError(
            f"{place} cannot be written ({error.strerror or error}). "
            "Finished cells are safe: the same command goes on once that is mended."
        ) from error


def _sync_folder(folder: Path) -> None:
    """Let the disk know of a rename, so that it survives a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{file} cannot be read ({error}). Delete the folder {file.parent} to repeat the cell."
        ) from error
    if not isinstance(found, dict):
        raise RunFolderError(f"{file} should hold a JSON object. Delete its folder to repeat it.")
    return found
