"""Tables of the study of belief networks, for the page and for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrolvm.inference.helmholtz import OBJECTIVES, HelmholtzStudy
from pyrolvm.plots.quantities import count, fixed, percent, with_error
from pyrolvm.report.text_table import TextTable

if TYPE_CHECKING:
    import pandas as pd

SHOWN = {
    "nll": "−log p(x)",
    "coupled_nll": "−log p~*(x)",
    "log_z": "−2 log Z",
    "pstar_nll": "−log p*(x)",
}
"""Columns in nats with a standard error."""
MEASURED = ("nll", "coupled_nll", "log_z", "pstar_nll", "root_ess", "ess", "bc2")


def likelihood_table(study: HelmholtzStudy) -> TextTable:
    """The table of the study: a row for each data set and objective, means over seeds."""
    frame = study.frame[study.frame["in_table"]]
    headers = ("data", "objective", *SHOWN.values(), "ESS, √w", "ESS, w", "BC²", "method")
    rows = []
    for data in frame["data"].unique():
        for key in OBJECTIVES:
            own = frame[(frame["data"] == data) & (frame["objective"] == key)]
            if len(own):
                rows.append((data, OBJECTIVES[key].title, *_measured(own), own.iloc[0]["method"]))
    title = "Test rows, nats a datum: model, guide, and what couples them"
    return TextTable(title, headers, tuple(rows), 2)


def cell_table(study: HelmholtzStudy) -> TextTable:
    """All cells: how each was trained, and its likelihoods."""
    headers = ("data", "objective", "layers", "seed", "learning rate", "steps", "stopped early",
               "seconds", "−log p(x)", "−log p*(x)", "BC²")  # fmt: skip
    rows = tuple(
        (
            str(row["data"]),
            str(row["objective"]),
            str(row["layers"]).replace("-", ", "),
            str(row["seed"]),
            f"{row['learning_rate']:g}",
            count(row["steps"]),
            "yes" if row["stopped_early"] else "no",
            count(row["seconds"]),
            fixed(row["nll"], 2),
            fixed(row["pstar_nll"], 2),
            fixed(row["bc2"], 3),
        )
        for _, row in study.frame.iterrows()
    )
    return TextTable("How each cell was trained", headers, rows, 4)


def _measured(own: pd.DataFrame) -> tuple[str, ...]:
    """Means over seeds, each with its standard error over test rows, or that of Z."""
    means = own[[*MEASURED, *(f"{name}_se" for name in MEASURED)]].mean()
    return (
        *(with_error(means[name], means[f"{name}_se"]) for name in SHOWN),
        percent(means["root_ess"]),
        percent(means["ess"]),
        with_error(means["bc2"], means["bc2_se"]),
    )
