"""Short names for the generators and the guides of a study: what tells them apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

SIZES = ("hidden", "width", "depth", "standardise", "activation")
"""Arguments of a guide that say how large its encoder is, not what it can express."""


def labels(
    frame: pd.DataFrame, what: Literal["model", "guide"], skip: Collection[str] = SIZES
) -> pd.Series[str]:
    """Name each cell's model or guide by its name and the arguments that vary in the study.

    Args:
        frame: The table of a study.
        what: ``"model"`` or ``"guide"``.
        skip: Arguments that are left out.

    Returns:
        One label a row, for example ``"residual-generator, contraction 0.9"``.
    """
    import pandas as pd

    prefix = f"{what}."
    names = [n for n in frame.columns if n.startswith(prefix) and n[len(prefix) :] not in skip]
    found: dict[object, str] = {}
    for name, rows in frame.groupby(what, sort=False):
        varying = [column for column in names if rows[column].nunique() > 1]
        for index, row in rows.iterrows():
            parts = [_part(column[len(prefix) :], row[column]) for column in varying]
            found[index] = ", ".join([_short(str(name), row), *filter(None, parts)])
    return pd.Series(found, dtype=object).reindex(frame.index)


def _short(name: str, row: pd.Series[Any]) -> str:
    """Name of a guide; an encoder into a family is named by the family."""
    family = row.get("guide.family")
    return str(family) if name == "amortized" and isinstance(family, str) else name


def _part(argument: str, value: Any) -> str:
    if value is None or value != value or argument == "family":  # noqa: PLR0124 - NaN
        return ""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return shown if isinstance(value, str) else f"{argument.replace('_', ' ')} {shown}"
