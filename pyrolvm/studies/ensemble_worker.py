"""Run the cells of one ensemble: trained together, scored and written one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyrolvm.core import NonFiniteLossError
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.ensembles import members_of
from pyrolvm.studies.training import Trained
from pyrolvm.studies.training_together import train_together

Training = Callable[[], Trained]


def trainings(cells: Sequence[Cell]) -> Mapping[str, tuple[Training | None, str]]:
    """Train the ensemble of some cells, the whole of it whichever they are.

    Args:
        cells: Members that are to be measured, at least one.

    Returns:
        For each key what gives the trained pair of its cell (None where it has to be trained
        alone, because the pairs cannot be trained together), and how it was trained, in words.
    """
    try:
        found, how = train_together(members_of(cells[0].configuration))
    except Exception as error:  # a member that fails is to fail alone
        reason = f"alone: {str(error).strip() or type(error).__name__}"
        return {cell.key: (None, reason) for cell in cells}
    return {cell.key: (_training(found[cell.key]), how) for cell in cells}


def _training(found: Any) -> Training:
    def training() -> Trained:
        if isinstance(found, NonFiniteLossError):
            raise found
        return found

    return training
