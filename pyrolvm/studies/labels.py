"""Short names for the generators and the guides of a study: what tells them apart."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

SIZES = ("hidden", "width", "depth", "standardise", "activation")
"""Arguments of a guide that say how large its encoder is, not what it can express."""
COUNTED = {
    "doublings": "doublings of the slope",
    "latent_dim": "latent dimensions",
    "num_descent": "descent steps",
    "num_langevin": "Langevin steps",
    "prior_components": "prior components",
}
"""Arguments that count something, and what; ``num_<things>`` needs no entry."""
AMORTIZED = "amortized"
AS_DRAWN = "as drawn"
"""What the generator of a cell is called that did not learn."""
LEARNER_WORDS = {
    "svi": "SVI with a helper",
    "em": "safeguarded EM",
    "em-undamped": "undamped EM",
    "lbfgs": "L-BFGS, exact gradient",
    "exact-adam": "Adam, exact gradient",
}
"""What the values of ``model_learner`` are called in figures."""


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
        if name == AMORTIZED:  # is called by its family
            varying = [column for column in varying if column != "guide.family"]
        for index, row in rows.iterrows():
            parts = [_part(column[len(prefix) :], row[column]) for column in varying]
            found[index] = ", ".join([_short(str(name), row), *filter(None, parts)])
    return pd.Series(found, dtype=object).reindex(frame.index)


def learner_labels(frame: pd.DataFrame) -> pd.Series[str]:
    """Name how the generator of each cell learned; ``"as drawn"`` where it did not.

    Args:
        frame: The table of a study.
    """
    import pandas as pd

    found = [_learner(row) for _, row in frame.iterrows()]
    return pd.Series(found, index=frame.index, dtype=object)


def _learner(row: pd.Series[Any]) -> str:
    if row.get("train") == "both":
        return f"VAE, step size {row.get('learning_rate', float('nan')):g}"
    learner = row.get("model_learner") if row.get("model_steps", 0) > 0 else None
    return LEARNER_WORDS.get(str(learner), AS_DRAWN)


def problem_labels(frame: pd.DataFrame) -> pd.Series[str]:
    """Name the data and the generator's layers of each cell: ``"circle, 1-8-2"``.

    Args:
        frame: The table of a study.
    """
    import pandas as pd

    rows = (row for _, row in frame.iterrows())
    found = [f"{row.get('data')}, {_layers(row)}".removesuffix(", ") for row in rows]
    return pd.Series(found, index=frame.index, dtype=object)


def _layers(row: pd.Series[Any]) -> str:
    """Widths of a generator's layers, from its latents to its observations."""
    import pandas as pd

    hidden = str(row.get("model.hidden", "")).replace("affine", "")
    sizes = [row.get("latent_dim"), *filter(None, hidden.split("x")), row.get("obs_dim")]
    return "-".join(f"{float(size):g}" for size in sizes if pd.notna(size))


def _short(name: str, row: pd.Series[Any]) -> str:
    """Name of a guide; an encoder into a family is named by the family."""
    family = row.get("guide.family")
    return str(family) if name == AMORTIZED and isinstance(family, str) else name


def _part(argument: str, value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return ""
    return value if isinstance(value, str) else worded(argument, float(value))


def worded(argument: str, value: float) -> str:
    """An argument and its number as one says them.

    >>> worded("num_folds", 1), worded("num_components", 4.0), worded("contraction", 0.9)
    ('1 fold', '4 components', 'contraction 0.9')
    """
    words = argument.replace("_", " ")
    if argument not in COUNTED and not argument.startswith("num_"):
        return f"{words} {value:g}"
    noun = COUNTED.get(argument, words.removeprefix("num "))
    return f"{value:g} {noun.removesuffix('s') if value == 1 else noun}"
