"""A study: a grid of configurations, run cell by cell, and the table that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrolvm.core import PyroLVMError
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.studies.builtin import read_builtin
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.frame import make_frame, save_frame
from pyrolvm.studies.other_data import on_data
from pyrolvm.studies.per_datum import read_per_datum
from pyrolvm.studies.resolving import resolve
from pyrolvm.studies.runner import Plan, check_folder, run_cells
from pyrolvm.studies.source import Source, located
from pyrolvm.studies.store import PROVENANCE, Store
from pyrolvm.studies.toml_file import DEFAULT_SIZE, StudyFile, read_study_file

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class StudyResult:
    """What came of a study.

    Args:
        frame: One row a finished cell, in the order of the study; see
            :func:`pyrolvm.studies.frame.make_frame`.
        failures: Traceback of each failed cell, by its hash.
        folder: Where everything lies.
    """

    frame: pd.DataFrame
    failures: Mapping[str, str]
    folder: Path

    def provenance(self) -> pd.DataFrame:
        """Versions, machine and wall seconds of every finished cell, indexed by its hash."""
        import pandas as pd

        rows = {key: self.store.read(key, PROVENANCE) for key in self.frame["cell"]}
        flat = pd.json_normalize(list(rows.values()))
        return flat.set_index(pd.Index(list(rows), name="cell"))

    def per_datum(self) -> pd.DataFrame:
        """Figures of every scored row; see :func:`pyrolvm.studies.per_datum.read_per_datum`."""
        return read_per_datum(self.frame["cell"].tolist() if len(self.frame) else [], self.store)

    @property
    def store(self) -> Store:
        """The study's folder."""
        return Store(self.folder)

    def __str__(self) -> str:
        return f"{len(self.frame)} cells, {len(self.failures)} failed, in {self.folder}"


@dataclass(frozen=True)
class Study:
    """A grid of configurations.

    Every key of a block may be one value, or a list, which is an axis; inside the tables of models
    and guides too. A value that is itself a list is written in double brackets.

    Args:
        name: Names the folder.
        grid: Blocks; the study is the union of their cells. The keys are those of
            :data:`pyrolvm.studies.settings.SETTINGS`.
        description: What it asks.
        figures: Which figures to draw of its table; see :mod:`pyrolvm.plots.study_figures`.
        notes: How to read them.
        source: Where it was written, for messages.

    >>> study = Study("widths", [{"model": {"name": "linear-gaussian", "obs_dim": 3},
    ...                           "guide": {"name": "full", "hidden": [[8], [16]]},
    ...                           "seed": [0, 1, 2]}])
    >>> len(study.cells)
    6
    """

    name: str
    grid: Sequence[Mapping[str, Any]]
    description: str = ""
    figures: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    source: Source = field(default=Source(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.name or not self.grid:
            raise SettingError("A study needs a name and at least one block of keys.")
        object.__setattr__(self, "grid", tuple(dict(block) for block in self.grid))

    @classmethod
    def from_toml(cls, path: str | Path, size: str = DEFAULT_SIZE) -> Study:
        """Read a study from a file; see :func:`pyrolvm.studies.toml_file.read_study_file`.

        Args:
            path: The file.
            size: One of its sizes.
        """
        return cls._of(read_study_file(Path(path), size))

    @classmethod
    def builtin(cls, name: str, size: str = DEFAULT_SIZE) -> Study:
        """Take a study that comes with PyroLVM.

        Args:
            name: One of :func:`pyrolvm.studies.builtin.builtin_names`.
            size: One of its sizes.
        """
        return cls._of(read_builtin(name, size))

    @classmethod
    def _of(cls, file: StudyFile) -> Study:
        return cls(file.name, file.blocks, file.description, file.figures, file.notes, file.source)

    def with_data(self, *data: str) -> Study:
        """The same study on some of its data sets, or on others.

        Args:
            *data: Names or files. Those that the study names keep the blocks that name them; one
                that it does not name takes the place of the data in every block.

        Returns:
            The study; it may share the folder of this one.

        Raises:
            SettingError: If there is none, or nothing is left of the study.
            PyroLVMError: If a block cannot take the data, with the line.

        >>> study = Study("mine", [{"model": "cpa-generator:1:4", "guide": "exact-cpa",
        ...                         "data": ["circle", "wave"]}])
        >>> [cell.configuration["data"] for cell in study.with_data("wave", "spiral").cells]
        ['wave', 'spiral']
        """
        grid, blocks = on_data(self.grid, self.source.blocks, data)
        study = replace(self, grid=grid, source=replace(self.source, blocks=blocks))
        try:
            study.cells  # noqa: B018 - reading them checks them
        except PyroLVMError as error:
            raise located(error, f"With the data {', '.join(data)}") from None
        return study

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, each once; reading them checks that every one of them can run.

        Raises:
            PyroLVMError: For a key, name, option, pair or data set that cannot be right.
        """
        return resolve(self.grid, self.source)

    def run(
        self,
        *,
        out: str | Path | None = None,
        n_jobs: int = 1,
        backend: str = "local",
        scheduler: str | None = None,
        resume: bool = True,
        retry_failed: bool = False,
        progress: bool = True,
    ) -> StudyResult:
        """Run the cells that the folder does not hold yet.

        Interrupted or killed at any moment, the same call goes on; several runners may share a
        folder, and each cell runs once.

        Args:
            out: The study's folder, ``runs/study-<name>`` where it is None. A study of the same
                name with another grid may share it.
            n_jobs: Processes, of one thread each.
            backend: ``"local"``, ``"dask"`` or ``"ray"``; see :mod:`pyrolvm.studies.backends`.
            scheduler: Address of a Dask scheduler.
            resume: Whether to go on in a folder that has cells; it is refused otherwise.
            retry_failed: Whether cells that failed before are tried again.
            progress: Whether to show a progress bar.

        Returns:
            The table of all finished cells of this study, also in ``frame.parquet`` and
            ``frame.csv``.

        Raises:
            PyroLVMError: Before anything runs, for a cell that cannot run.
            RunFolderError: If the folder belongs to another study, or cannot be written.
            BackendError: If the backend is not there.
        """
        require_at_least(1, n_jobs=n_jobs)
        folder = self.default_folder if out is None else Path(out)
        cells, store = self.cells, Store(folder)
        plan = Plan(n_jobs, backend, scheduler, resume, retry_failed, progress)
        check_folder(store, plan)
        store.claim(self.name, {"description": self.description, "grid": list(self.grid)})
        run_cells(self.name, cells, store, plan)
        result = self.read(folder)
        save_frame(result.frame, store.folder)
        return result

    @property
    def default_folder(self) -> Path:
        """Where a study lies that was given no folder."""
        return Path("runs") / f"study-{self.name}"

    def read(self, out: str | Path | None = None) -> StudyResult:
        """Read what there is of this study, without running anything.

        Args:
            out: The study's folder.
        """
        store = Store(self.default_folder if out is None else Path(out))
        failed = [cell.key for cell in self.cells if store.has_failed(cell.key)]
        return StudyResult(
            make_frame(self.cells, store), {key: store.error(key) for key in failed}, store.folder
        )
