"""Train every cell several times, and measure whether its runs agree about codes.

The demonstrations are our own; the theory is that of

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core.errors import SettingError
from pyrolvm.core.files import write_text
from pyrolvm.studies.identifiability.cells import CELLS, Cell
from pyrolvm.studies.identifiability.folder import FRAME, RUNS, StudyFolder
from pyrolvm.studies.identifiability.measuring import measured
from pyrolvm.studies.identifiability.training import Run, trained, turned
from pyrolvm.studies.identifiability.worlds import StudySettings, World

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class IdentifiabilityStudy:
    """How far the runs of each model agree about codes, beside what theory says of it.

    Args:
        frame: One row a cell: ``level`` and ``symmetries`` (from ``check``), ``rule`` (a
            convention that was applied), ``should_agree``; ``runs``, ``used``, ``failed``,
            ``bound_best``, ``bound_worst_used`` and ``bound_worst`` (nats per datum, held out);
            for every rung of the ladder ``…_mean`` and ``…_min`` over pairs of used runs, the
            interval ``…_low``, ``…_high`` of the lowest pair, and ``truth_…``, the mean over used
            runs against the true codes; ``rhat_median``; ``seconds`` of a run.
        runs: One row a run: ``cell``, ``seed``, ``rank``, ``bound``, ``behind``, ``used``, …
        ladders: Agreement of all pairs, by cell.
        settings: Sizes.
        folder: Where weights, codes and tables lie.
    """

    frame: pd.DataFrame
    runs: pd.DataFrame
    ladders: dict[str, pd.DataFrame]
    settings: StudySettings
    folder: Path

    def __repr__(self) -> str:
        found = ", ".join(
            f"{row['cell']} {row['raw_r2_min']:.2f}" for _, row in self.frame.iterrows()
        )
        return f"IdentifiabilityStudy(lowest raw R² of two runs: {found})"


def run_identifiability(
    *,
    out: str | Path,
    settings: StudySettings | None = None,
    cells: Sequence[str] | None = None,
    progress: bool = True,
) -> IdentifiabilityStudy:
    """Train all cells and compare their runs; a killed study goes on where it stopped.

    Args:
        out: Folder for weights, codes and tables.
        settings: Sizes.
        cells: Keys of :data:`CELLS` to run; all where it is None.
        progress: Whether to show how far it is.

    Returns:
        The tables and the ladders.

    Raises:
        SettingError: If there is no such cell.
        RunFolderError: If the folder holds something else, or cannot be written.
    """
    settings, folder = settings or StudySettings(), StudyFolder(Path(out))
    chosen = _chosen(cells)
    folder.claim(settings)
    with tqdm(chosen, desc="identifiability", unit="model", disable=not progress) as bar:
        for cell in bar:
            bar.set_postfix_str(cell.key)
            if not folder.is_measured(cell):
                _run_cell(cell, folder, settings, progress)
    return _read(chosen, folder, settings)


def _chosen(cells: Sequence[str] | None) -> list[Cell]:
    known = {cell.key: cell for cell in CELLS}
    keys = list(known) if cells is None else list(cells)
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        raise SettingError(f"cells should be among {', '.join(known)}, but they are {keys}.")
    return [known[key] for key in keys]


def _run_cell(cell: Cell, folder: StudyFolder, settings: StudySettings, progress: bool) -> None:
    world = cell.world(settings)
    runs = _runs(cell, world, folder, settings, progress)
    found = measured(cell, world, runs, settings)
    scores = {"row": found.row, "runs": found.runs}
    folder.save_scores(cell, scores, found.ladder, found.codes)


def _runs(
    cell: Cell, world: World, folder: StudyFolder, settings: StudySettings, progress: bool
) -> list[Run]:
    """Runs of a cell: trained now where they are not there, then read."""
    seeds = range(cell.runs(settings))
    missing = [seed for seed in seeds if not folder.has_run(cell, seed)]
    if cell.turns is not None and missing:
        origin = next(each for each in CELLS if each.key == cell.turns)
        for run in _runs(origin, world, folder, settings, progress):
            folder.save_run(cell, turned(run, world))
    elif missing:
        for run in trained(cell, world, missing, settings, progress):
            folder.save_run(cell, run)
    return [folder.load_run(cell, world, seed) for seed in seeds]


def _read(
    cells: Sequence[Cell], folder: StudyFolder, settings: StudySettings
) -> IdentifiabilityStudy:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    runs: list[dict[str, Any]] = []
    ladders = {}
    for cell in cells:
        scores, ladders[cell.key] = folder.load_scores(cell)
        rows.append(scores["row"])
        runs += scores["runs"]
    frame, of_runs = pd.DataFrame(rows), pd.DataFrame(runs)
    frame["rhat_median"] = frame["rhat_median"].astype(float)
    write_text(folder.path / FRAME, frame.to_csv(index=False))
    write_text(folder.path / RUNS, of_runs.to_csv(index=False))
    return IdentifiabilityStudy(frame, of_runs, ladders, settings, folder.path)
