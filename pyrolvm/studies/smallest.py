"""How large an encoder has to be: the smallest one of each family that comes close enough."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrolvm.core import DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies.settings import SETTINGS

if TYPE_CHECKING:
    import pandas as pd

SIZES = ("guide.hidden", "guide.width", "guide.depth")
FIGURES = {"nats": "gap", "tv": "tv"}


def smallest_encoders(
    frame: pd.DataFrame, *, nats: float | None = None, tv: float | None = None
) -> pd.DataFrame:
    """Smallest encoder whose mean over seeds is close enough, for each generator and family.

    Args:
        frame: The table of a study.
        nats: Largest gap, in nats per datum; 0.05 where neither limit is given.
        tv: Largest total variation instead, between 0 and 1.

    Returns:
        One row for each generator (all columns ``model…``, ``model_seed`` and ``data``), guide
        with all arguments but its size, objective, and other setting that varies. ``parameters``
        and ``guide.hidden`` are those of the smallest encoder within the limit, ``value`` its mean
        over ``seeds`` seeds and ``spread`` their standard deviation. Where none of them is within
        the limit, ``found`` is false and the encoder is the best of those tried.

    Raises:
        SettingError: If both limits are given.
        DataError: If the table has no such figure.
    """
    import pandas as pd

    if nats is not None and tv is not None:
        raise SettingError("smallest_encoders takes one limit, nats or tv, but both were given.")
    limit = tv if tv is not None else 0.05 if nats is None else nats
    figure = FIGURES["nats" if tv is None else "tv"]
    if figure not in frame or frame[figure].isna().all():
        raise DataError(f"The table has no figures {figure!r}: they need an exact evidence.")
    keys = _keys(frame)
    encoder = [name for name in ("parameters", "guide.hidden") if name in frame]
    means = frame.groupby([*keys, *encoder], dropna=False, sort=False)[figure]
    grouped = means.agg(["mean", "std", "count"]).reset_index()
    rows = [
        _smallest(dict(zip(keys, key, strict=True)), part, limit, encoder)
        for key, part in grouped.groupby(keys, dropna=False, sort=False)
    ]
    return pd.DataFrame(rows)


def _keys(frame: pd.DataFrame) -> list[str]:
    """Columns in which rows that are averaged agree: all but the seed and the encoder's size."""
    names = [str(name) for name in frame]
    programs = [n for n in names if n.split(".")[0] in ("model", "guide") and n not in SIZES]
    always = [name for name in ("model_seed", "data", "objective") if name in names]
    settings = [n for n in names if n in SETTINGS and n not in (*programs, *always, "seed")]
    return [*programs, *always, *(n for n in settings if frame[n].nunique(dropna=False) > 1)]


def _smallest(
    key: dict[str, Any], encoders: pd.DataFrame, limit: float, shown: list[str]
) -> dict[str, Any]:
    within = encoders[encoders["mean"] <= limit]
    found = not within.empty
    chosen = (
        within.sort_values("parameters").iloc[0] if found else encoders.sort_values("mean").iloc[0]
    )
    return {
        **key, **{name: chosen[name] for name in shown}, "value": float(chosen["mean"]),
        "spread": float(chosen["std"]), "seeds": int(chosen["count"]), "limit": limit,
        "found": found,
    }  # fmt: skip
