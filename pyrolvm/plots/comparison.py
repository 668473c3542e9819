"""A comparison tree, read by name: what every figure and the report look things up in.

The tree (an :class:`xarray.DataTree`) is what a comparison of guides leaves behind: its root
attributes say what was compared, ``/table`` has one row a guide, and a child group for each guide
holds draws, weights and per-datum numbers. Only ``/table`` must be there; what else is missing is
left out of the pictures.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError

REQUIRED_COLUMNS = ("elbo", "log_evidence", "gap")
"""Columns of ``/table`` without which there is nothing to compare."""

ZERO_GAP = 1e-6
"""Gaps below this many nats count as 0: what double precision leaves of an exact guide."""


@dataclass(frozen=True)
class ComparisonView:
    """A checked view of a comparison tree.

    Args:
        tree: The tree, as :func:`read_comparison` checked it.
        names: The guides, in the order of the table.
    """

    tree: xr.DataTree
    names: tuple[str, ...]

    @property
    def table(self) -> xr.Dataset:
        """One row a guide."""
        return self.tree.children["table"].to_dataset()

    @property
    def is_bound(self) -> bool:
        """Whether the evidence is only a lower bound, so that gaps are lower bounds too."""
        return bool(int(self.tree.attrs.get("evidence_is_bound", 0)))

    @property
    def is_one_datum(self) -> bool:
        """Whether the data set as a whole is the only datum.

        It is where a latent site lies outside the data plate.
        """
        gaps = [self.per_datum(name, "gap") for name in self.names]
        known = [gap.ndim == 0 for gap in gaps if gap is not None]
        return bool(known) and all(known)

    @property
    def unit(self) -> str:
        """Unit of bounds and gaps."""
        return "nats for the data set as a whole" if self.is_one_datum else "nats a datum"

    @property
    def khat_threshold(self) -> float:
        """Above this Pareto k-hat, importance weights are not to be trusted."""
        return float(self.tree.attrs.get("khat_threshold", 0.7))

    @property
    def num_particles(self) -> int | None:
        """Draws a datum that the numbers rest on, if the tree says so."""
        number = self.tree.attrs.get("num_particles")
        return None if number is None else int(number)

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """Height and width of a datum that is an image; None for other data."""
        text = self.tree.attrs.get("image_shape", "null")
        shape = [side for side in (json.loads(str(text)) or []) if side != 1]
        return (int(shape[0]), int(shape[1])) if len(shape) == 2 else None

    def text(self, attribute: str) -> str:
        """A root attribute as text; empty if it is missing."""
        return str(self.tree.attrs.get(attribute, ""))

    def column(self, variable: str) -> NDArray[np.float64]:
        """A column of the table.

        Args:
            variable: Its name; a missing column is all NaN.

        Returns:
            One number a guide, shape ``(num_guides,)``.
        """
        if variable not in self.table:
            return np.full(len(self.names), np.nan)
        return np.asarray(self.table[variable].values, dtype=np.float64)

    def cell(self, variable: str, guide: str) -> float:
        """One number of the table; NaN if the column is missing."""
        return float(self.column(variable)[self.names.index(guide)])

    def is_exact(self, guide: str) -> bool:
        """Whether a guide is the posterior itself: its weights are constant and its gap is 0."""
        constant = self.cell("khat_median", guide) == -np.inf
        return constant and not self.is_bound and abs(self.cell("gap", guide)) < ZERO_GAP

    def is_chain(self, guide: str) -> bool:
        """Whether a guide's figures are those of whole chains that end at z."""
        return self.cell("extended_space", guide) == 1

    def shared(self, group: str) -> xr.Dataset | None:
        """A group that belongs to no guide, such as ``"picture"``; None if it is missing."""
        node = self.tree.children.get(group)
        return None if node is None or not node.data_vars else node.to_dataset()

    def group(self, guide: str, group: str) -> xr.Dataset | None:
        """A group of one guide, such as ``"per_datum"``; None if it is missing.

        A slash in a guide's name is a dot in the name of its group.
        """
        node = self.tree.children.get(guide.replace("/", "."))
        inner = None if node is None else node.children.get(group)
        return None if inner is None or not inner.data_vars else inner.to_dataset()

    def per_datum(self, guide: str, variable: str) -> NDArray[np.float64] | None:
        """A per-datum quantity of one guide.

        Args:
            guide: Name of the guide.
            variable: For example ``"gap"`` (nats).

        Returns:
            Shape ``(N,)``; ``()`` where the data set as a whole is the only datum; None if the
            tree does not hold it.
        """
        dataset = self.group(guide, "per_datum")
        if dataset is None or variable not in dataset:
            return None
        return np.asarray(dataset[variable].values, dtype=np.float64)


def read_comparison(tree: xr.DataTree) -> ComparisonView:
    """Check that a tree is the result of a comparison.

    Args:
        tree: What a comparison returned, or was loaded from its file.

    Returns:
        A view of the tree.

    Raises:
        DataError: If the table of guides is missing, empty, or lacks a column that it must have.
    """
    if "table" not in tree.children:
        came = ", ".join(f"/{name}" for name in tree.children) or "no groups at all"
        raise DataError(
            "A comparison tree needs the group /table with one row a guide, but this one has "
            f"{came}. Pass what `compare(...)` returned as a tree, or what it saved."
        )
    table = tree.children["table"].to_dataset()
    missing = [column for column in REQUIRED_COLUMNS if column not in table]
    if "guide" not in table.coords or missing:
        lacks = missing or ["the coordinate 'guide'"]
        raise DataError(
            f"The group /table of a comparison needs {', '.join(REQUIRED_COLUMNS)} over the "
            f"dimension 'guide', but it lacks {', '.join(lacks)}. Was it written by an older "
            "version?"
        )
    names = tuple(str(name) for name in np.atleast_1d(table["guide"].values))
    if not names:
        raise DataError(
            "The group /table of this comparison has no rows: compare at least one guide."
        )
    return ComparisonView(tree, names)
