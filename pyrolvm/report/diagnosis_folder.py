"""The folder of a diagnosis: the page, the findings as a table and, written last, the tree."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from pyrolvm.core.files import atomic
from pyrolvm.diagnostics import arviz_export
from pyrolvm.report.diagnosis_page import write

TREE, PAGE, TABLE = "diagnosis.nc", "report.html", "findings.csv"


def is_diagnosed(folder: Path) -> bool:
    """Whether a folder holds a finished diagnosis."""
    return (folder / TREE).is_file()


def read_diagnosis(folder: Path) -> xr.DataTree:
    """The stored tree of a finished diagnosis."""
    return arviz_export.load(folder / TREE)


def write_diagnosis(tree: xr.DataTree, folder: Path) -> None:
    """Store a diagnosis: each file whole or not at all, the tree last.

    Args:
        tree: Of the diagnosis.
        folder: Made if need be.

    Raises:
        RunFolderError: If a file cannot be written.
    """
    with atomic(folder / TABLE) as temporary:
        tree["findings"].to_dataset().to_dataframe().to_csv(temporary, index=False)
    rebuild_page(tree, folder)
    arviz_export.save(tree, folder / TREE)


def rebuild_page(tree: xr.DataTree, folder: Path) -> Path:
    """Write the page of a stored diagnosis.

    Returns:
        Path of the page.
    """
    return write(tree, folder / PAGE)
