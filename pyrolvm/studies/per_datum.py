"""Figures of every scored row, which a cell keeps beside its results."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from pyrolvm.diagnostics.comparison_tree import Measured
from pyrolvm.studies.store import PER_DATUM, Store

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = 6
KEPT = ("log_evidence", "gap")
ENTROPY = "mode_entropy"


def per_datum(measured: Measured, entropy: Tensor | None) -> dict[str, list[float | None]]:
    """What a cell keeps of every scored row.

    Args:
        measured: Arrays over the scored data.
        entropy: From :func:`pyrolvm.studies.posterior_modes.posterior_mode_entropy`.

    Returns:
        ``log_evidence``, ``gap`` and, where it is known, ``mode_entropy``, in nats, rounded to a
        millionth; None where a value is not finite.
    """
    arrays = measured.per_datum()
    found = {name: _plain(arrays[name]) for name in KEPT}
    return found if entropy is None else {**found, ENTROPY: _plain(entropy)}


def read_per_datum(cells: Sequence[str], store: Store) -> pd.DataFrame:
    """Read the figures of every scored row of some cells.

    Args:
        cells: Hashes of finished cells; those that kept no such figures are left out.
        store: The study's folder.

    Returns:
        One row a cell and scored row: ``cell``, ``datum`` (from 0), ``log_evidence``, ``gap``,
        ``mode_entropy``, NaN where a figure is not known.
    """
    import pandas as pd

    parts = []
    for key in cells:
        if store.holds(key, PER_DATUM):
            part = pd.DataFrame(store.read(key, PER_DATUM), dtype="float64")
            parts.append(part.assign(cell=key, datum=range(len(part))))
    columns = ["cell", "datum", *KEPT, ENTROPY]
    if not parts:
        return pd.DataFrame(columns=columns)
    return pd.concat(parts, ignore_index=True).reindex(columns=columns)


def _plain(values: Tensor) -> list[float | None]:
    return [round(v, DECIMALS) + 0.0 if math.isfinite(v) else None for v in values.tolist()]
