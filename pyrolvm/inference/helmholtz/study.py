"""Train belief networks by several objectives, and measure model, guide and what couples them.

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core.errors import DeviceError, SettingError
from pyrolvm.core.files import write_text
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.inference.helmholtz.differences import differences
from pyrolvm.inference.helmholtz.folder import CELLS, DIFFERENCES, CellFolder
from pyrolvm.inference.helmholtz.images import painted
from pyrolvm.inference.helmholtz.measuring import measured
from pyrolvm.inference.helmholtz.objectives import COUPLED, objectives_named
from pyrolvm.inference.helmholtz.rows import BinaryRows, binary_rows
from pyrolvm.inference.helmholtz.settings import (
    Cell,
    Settings,
    all_cells,
    size_named,
    steps_for,
)
from pyrolvm.inference.helmholtz.training import new_pair, trained

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_DATA = ("digits", "bars")
"""Data sets of the study where the user names none: they need no download."""
SCORES, WEIGHTS, ROWS, PICTURES = (
    "scores.json", "weights.safetensors", "rows.safetensors", "pictures.safetensors",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class HelmholtzStudy:
    """Belief networks trained by several objectives, and what each is worth.

    Args:
        frame: One row a cell: ``data``, ``objective``, ``layers``, ``num_layers``, ``seed``,
            ``in_table``, ``in_sweep``; the scores of
            :class:`pyrolvm.inference.helmholtz.measuring.Measured`; ``learning_rate``, ``steps``,
            ``stopped_early``, ``seconds`` of training, ``key``.
        differences: Each objective less reweighted wake-sleep, paired over test rows: ``data``,
            ``objective``, ``nll``, ``bc2`` with standard errors.
        curves: Bounds on validation rows: ``key``, ``step``, ``nll``, ``coupled_nll``, ``bc2``.
        pictures: By data set with images: tensors of
            :func:`pyrolvm.inference.helmholtz.images.painted`.
        facts: By data set: ``num_train``, ``num_valid``, ``num_test``, ``dim``, ``source``,
            ``image_shape``.
        folder: Where everything lies.
    """

    frame: pd.DataFrame
    differences: pd.DataFrame
    curves: pd.DataFrame
    pictures: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, Mapping[str, Any]]
    folder: Path = field(default_factory=Path)

    def __repr__(self) -> str:
        sets = ", ".join(self.frame["data"].unique())
        return f"HelmholtzStudy({len(self.frame)} cells on {sets}, in {self.folder})"


def run_helmholtz(
    data: Sequence[str] = DEFAULT_DATA,
    *,
    objectives: Sequence[str] | None = None,
    depths: Sequence[int] = (),
    size: str | Settings = "default",
    out: str | Path,
    device: str | None = None,
    progress: bool = True,
) -> HelmholtzStudy:
    """Train and measure every cell that is not there yet, and collect them all.

    A run that was killed goes on where it stopped, a training in its midst too; more data sets,
    objectives, depths or seeds take over the cells that are there.

    Args:
        data: Names of data sets.
        objectives: Keys of :data:`pyrolvm.inference.helmholtz.objectives.OBJECTIVES`; those of the
            size where it is None.
        depths: Numbers of layers at which coupled and reweighted training are compared as well.
        size: A key of :data:`pyrolvm.inference.helmholtz.settings.SIZES`, or settings.
        out: Folder.
        device: Where to train and to measure.
        progress: Whether to show progress bars.

    Returns:
        The study.

    Raises:
        UnknownNameError: If a data set, an objective or a size does not exist.
        DataError: If a data set does not fit.
        SettingError: If a setting makes no sense.
        DeviceError: If this machine does not have the device.
        RunFolderError: If the folder holds other cells under the same names.
    """
    _require_device(device)
    settings = size_named(size) if isinstance(size, str) else size
    chosen = [each.key for each in objectives_named(objectives or settings.objectives)]
    if not data:
        raise SettingError("The study needs at least one data set; --data names none.")
    cells = all_cells(tuple(dict.fromkeys(data)), chosen, depths, settings)
    sets = {name: binary_rows(name, settings.test_rows) for name in dict.fromkeys(data)}
    for cell in tqdm(cells, desc="cells", unit="cell", disable=not progress):
        folder = CellFolder(Path(out) / "cells" / cell.key)
        run_cell(cell, sets[cell.data], settings, folder, device=device, progress=progress)
    return _collected(cells, sets, Path(out))


def run_cell(
    cell: Cell,
    rows: BinaryRows,
    settings: Settings,
    folder: CellFolder,
    *,
    device: str | None = None,
    progress: bool = True,
) -> None:
    """Train and measure one cell, as far as that is not done.

    Raises:
        RunFolderError: If the folder holds a cell that was made with something else.
    """
    folder.claim(_config(cell, rows, settings))
    if folder.has(SCORES):
        return
    if folder.has(WEIGHTS):
        model, guide = new_pair(cell, rows, device)
        tensors, facts = folder.load(WEIGHTS)
        load_program_state(model, guide, tensors, folder.path / WEIGHTS)
    else:
        result = trained(cell, rows, settings, folder.path, device=device, progress=progress)
        model, guide, facts = result.model, result.guide, result.facts
        state = program_state(model, guide)
        own = {name: each for name, each in state.items() if not name.startswith("store.")}
        folder.save(WEIGHTS, own, facts)
    folder.drop("checkpoint.safetensors")
    found = measured(
        model, guide, rows.test, settings,
        progress=f"{cell.label}, score" if progress else False,
    )  # fmt: skip
    if rows.image_shape is not None and cell.objective == COUPLED and cell.in_table:
        images = painted(model, guide, rows.test, settings.sweeps, progress=progress)
        folder.save(PICTURES, images)
    folder.save(ROWS, found.rows)
    folder.write(SCORES, {**facts, **found.scores})


def _require_device(device: str | None) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"Device {device!r} cannot be used here: {str(error).splitlines()[0]} Leave --device "
            "out to compute on the processor."
        ) from error


def _config(cell: Cell, rows: BinaryRows, settings: Settings) -> dict[str, Any]:
    """What a cell depends on; lists of objectives, seeds and the like are not among it."""
    every = asdict(settings)
    own = (
        "learning_rates", "evaluation_particles", "z_samples", "batch_size", "num_particles",
        "sweeps",
    )  # fmt: skip
    return {
        "kind": "helmholtz",
        "data": rows.name,
        "digest": rows.digest,
        "objective": cell.objective,
        "layers": cell.layers,
        "seed": cell.seed,
        "steps": steps_for(cell.data, settings),
        **{name: every[name] for name in own},
    }


def _collected(cells: Sequence[Cell], sets: Mapping[str, BinaryRows], out: Path) -> HelmholtzStudy:
    import pandas as pd

    rows, curves, per_row = [], [], {}
    pictures: dict[str, Mapping[str, Tensor]] = {}
    for cell in cells:
        folder = CellFolder(out / "cells" / cell.key)
        scores = dict(folder.read(SCORES))
        scores.pop("search", None)
        about = {
            "data": cell.data,
            "objective": cell.objective,
            "layers": "-".join(map(str, cell.layers)),
            "num_layers": len(cell.layers),
            "seed": cell.seed,
            "in_table": cell.in_table,
            "in_sweep": cell.in_sweep,
        }
        rows.append(about | scores | {"key": cell.key})
        curves += [{"key": cell.key} | point for point in folder.read("curve.json")]
        if cell.in_table:
            per_row[cell] = folder.load(ROWS)[0]
            if folder.has(PICTURES):
                pictures.setdefault(cell.data, folder.load(PICTURES)[0])
    frame, paired = pd.DataFrame(rows), differences(per_row)
    write_text(out / CELLS, frame.to_csv(index=False))
    write_text(out / DIFFERENCES, paired.to_csv(index=False))
    facts = {name: _facts(each) for name, each in sets.items()}
    return HelmholtzStudy(frame, paired, pd.DataFrame(curves), pictures, facts, out)


def _facts(rows: BinaryRows) -> dict[str, Any]:
    return {
        "num_train": len(rows.train),
        "num_valid": len(rows.valid),
        "num_test": len(rows.test),
        "dim": rows.train.shape[1],
        "source": rows.source,
        "image_shape": rows.image_shape,
    }
