"""One tidy table of a study: a row a cell, its configuration first, then its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrolvm.core import RunFolderError
from pyrolvm.core.files import atomic
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.further_results import FURTHER_MEANS
from pyrolvm.studies.learning_results import LEARNED_MEANS, LEARNED_OTHERS
from pyrolvm.studies.paired import PAIRED, with_differences
from pyrolvm.studies.per_datum import read_per_datum
from pyrolvm.studies.posterior_modes import MODE_FIGURES
from pyrolvm.studies.questions import ANSWERS
from pyrolvm.studies.results import MEANS, OTHERS
from pyrolvm.studies.store import CONFIG, PROVENANCE, RESULT, Store

if TYPE_CHECKING:
    import pandas as pd

PARQUET, CSV = "frame.parquet", "frame.csv"
SECONDS = "seconds_training"
"""Processor time of training: the one column that another run does not repeat."""


def make_frame(cells: Sequence[Cell], store: Store) -> pd.DataFrame:
    """Read the finished cells of a study.

    Args:
        cells: Cells of the study, in its order; those that are not finished are left out.
        store: The study's folder.

    Returns:
        One row a cell. ``cell`` is its hash; ``model`` and ``guide`` are names, their arguments
        ``model.<argument>`` and ``guide.<argument>`` (a list as ``64x64``, ``affine`` where it is
        empty; ``guide.width`` and ``guide.depth`` say it in numbers); the figures of
        :func:`pyrolvm.studies.results.results` and its neighbours, NaN where there is none;
        ``checks_failed`` names the checks that did not pass; ``behind_best`` compares generators
        that learned from the same rows, see :mod:`pyrolvm.studies.paired`; and last
        ``seconds_training``, processor time, which no other run repeats exactly.

    Raises:
        RunFolderError: If a cell cannot be read, or is not the one that its folder says.
    """
    import pandas as pd

    rows = [_row(cell, store) for cell in cells if store.has(cell.key)]
    configured = dict.fromkeys(key for first, _ in rows for key in first)
    figures = dict.fromkeys(key for _, second in rows for key in second)
    columns = _ordered([*configured, *figures])
    merged = [{**first, **second} for first, second in rows]
    frame = pd.DataFrame({name: _column([row.get(name) for row in merged]) for name in columns})
    if frame.empty:
        return frame
    per_datum = read_per_datum(frame["cell"].tolist(), store)
    seconds = [_seconds(key, store) for key in frame["cell"]]
    return with_differences(frame, per_datum).assign(**{SECONDS: seconds})


def known_columns(cells: Sequence[Cell]) -> frozenset[str]:
    """Columns that the table of a study will have, whatever comes of its cells.

    Args:
        cells: Cells of the study.
    """
    means = (*MEANS, *FURTHER_MEANS, *LEARNED_MEANS, *ANSWERS)
    others = (*OTHERS, *LEARNED_OTHERS, *MODE_FIGURES, *PAIRED, SECONDS)
    figures = {*means, *(f"{name}_se" for name in means), *others, "noise_scale", "checks_failed"}
    configured = {key for cell in cells for key in flattened(cell.configuration)}
    return frozenset({"cell", *configured, *figures})


def save_frame(frame: pd.DataFrame, folder: Path) -> None:
    """Write the table, whole or not at all, as Parquet and as CSV.

    Raises:
        RunFolderError: If it cannot be written.
    """
    with atomic(folder / PARQUET) as temporary:
        frame.to_parquet(temporary, index=False)
    with atomic(folder / CSV) as temporary:
        frame.to_csv(temporary, index=False)


def _row(cell: Cell, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    stored = store.read(cell.key, CONFIG)
    if stored != json.loads(cell.text()):
        raise RunFolderError(
            f"{store.cell(cell.key)} holds another cell than its name says. Delete that folder, "
            "and give the same command again."
        )
    found = store.read(cell.key, RESULT)
    failed = ", ".join(each["check"] for each in found["checks"] if not each["passed"])
    flat = {"cell": cell.key, **flattened(cell.configuration)}
    return flat, {**found["results"], "checks_failed": failed}


def _seconds(key: str, store: Store) -> float:
    seconds = store.read(key, PROVENANCE).get("seconds", {})
    return float(seconds.get("training_cpu", seconds.get("training", math.nan)))


def flattened(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a configuration.

    >>> flattened({"guide": {"name": "amortized", "hidden": [64, 32]}, "seed": 0})
    {'guide': 'amortized', 'guide.hidden': '64x32', 'guide.width': 64, 'guide.depth': 2, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in configuration.items():
        if isinstance(value, Mapping):
            rest = {f"{key}.{n}": _plain(v) for n, v in value.items() if n != "name"}
            flat |= {key: value["name"], **rest, **_layers(key, value.get("hidden"))}
        else:
            flat[key] = _plain(value)
    return flat


def _layers(key: str, hidden: Any) -> dict[str, int]:
    """Width of the widest hidden layer and number of hidden layers."""
    if not isinstance(hidden, list):
        return {}
    return {f"{key}.width": max(hidden, default=0), f"{key}.depth": len(hidden)}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return "x".join(map(str, value)) or "affine"
    return value


def _ordered(names: Sequence[str]) -> list[str]:
    """The cell, what the model and the guide are, the other settings, the figures."""
    groups = ("cell", "model", "guide")
    first = [n for group in groups for n in names if n.split(".")[0] == group]
    return [*first, *(name for name in names if name not in first)]


def _column(values: list[Any]) -> pd.Series[Any]:
    """A column of one type: numbers with NaN, whole numbers or truth values, or words."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if None in values and kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    if kinds in ({int, float}, {float}):
        return pd.Series(values, dtype="float64")
    if None not in values and kinds in ({int}, {bool}):
        return pd.Series(values)
    return pd.Series([None if v is None else str(v) for v in values])
