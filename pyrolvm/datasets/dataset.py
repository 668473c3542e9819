"""A data set: rows to train on, rows to test on, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from pyrolvm.core.errors import DataError

Kind: TypeAlias = Literal["continuous", "binary", "counts"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of observations, flat, with what is known about them.

    Args:
        name: How the catalogue calls it, or the path that it was read from.
        train: Shape ``(N, D)``, float32.
        kind: What a likelihood has to match: ``"continuous"``, ``"binary"`` (0 and 1) or
            ``"counts"`` (0, 1, 2, …).
        source: Where the rows come from: a citation, an address, a formula.
        licence: Under which terms.
        test: Rows held out, shape ``(M, D)``, float32; None if there are none.
        image_shape: Shape of one row as an image, its product is D; None if rows are no images.
        train_labels: Class of each row, shape ``(N,)``, int64; never shown to a model.
        test_labels: The same for the rows held out, shape ``(M,)``.
        train_covariates: What a model takes beside each row, by the name of its argument, such as
            environments ``u`` of shape ``(N,)``; None if there is nothing.
        test_covariates: The same for the rows held out.
        train_codes: True latent vector of each row where it is known, shape ``(N, L)``; never
            shown to a model.
        test_codes: The same for the rows held out, shape ``(M, L)``.

    Raises:
        DataError: If a shape, a type or a value breaks the above.
    """

    name: str
    train: Tensor
    kind: Kind
    source: str
    licence: str
    test: Tensor | None = None
    image_shape: tuple[int, ...] | None = None
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    train_covariates: Mapping[str, Tensor] | None = None
    test_covariates: Mapping[str, Tensor] | None = None
    train_codes: Tensor | None = None
    test_codes: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_rows("train", self.train)
        self._check_labels("train", self.train, self.train_labels)
        if self.test is not None:
            self._check_rows("test", self.test)
        self._check_labels("test", self.test, self.test_labels)
        for part, rows in (("train", self.train), ("test", self.test)):
            self._check_lengths(part, rows, f"{part}_covariates", f"{part}_codes")
        if self.image_shape is not None and prod(self.image_shape) != self.dim:
            raise DataError(
                f"Rows of {self.name!r} have {self.dim} entries and cannot be images of shape "
                f"{self.image_shape}."
            )

    @property
    def dim(self) -> int:
        """Entries of a row, D."""
        return self.train.shape[1]

    @property
    def size(self) -> int:
        """Rows in all, for training and held out."""
        return len(self.train) + (0 if self.test is None else len(self.test))

    @property
    def train_data(self) -> Tensor | dict[str, Tensor]:
        """What a program is trained on: the rows, or with covariates a mapping by argument."""
        return _beside(self.train, self.train_covariates)

    @property
    def test_data(self) -> Tensor | dict[str, Tensor] | None:
        """The same for the rows held out; None if there are none."""
        return None if self.test is None else _beside(self.test, self.test_covariates)

    def _check_rows(self, part: str, rows: Tensor) -> None:
        place = f"The {part} rows of {self.name!r}"
        if rows.ndim != 2 or rows.numel() == 0 or rows.dtype != torch.float32:
            raise DataError(
                f"{place} need the shape (N, D), neither of them 0, in float32, but have "
                f"{tuple(rows.shape)} in {rows.dtype}."
            )
        if rows.shape[1] != self.dim:
            raise DataError(f"{place} have {rows.shape[1]} entries, those to train {self.dim}.")
        unusable = ~rows.isfinite()
        if unusable.any():
            row, column = (int(index) for index in unusable.nonzero()[0])
            raise DataError(
                f"{place} hold {int(unusable.sum())} entries that are NaN or infinite, the first "
                f"in row {row}, column {column}. Drop those rows, or fill the gaps."
            )
        if self.kind != "continuous" and not _is_kind(rows, self.kind):
            raise DataError(f"{place} are said to be {self.kind}, but hold other values.")

    def _check_labels(self, part: str, rows: Tensor | None, labels: Tensor | None) -> None:
        wanted = None if rows is None else (len(rows),)
        if labels is not None and (labels.shape != wanted or labels.is_floating_point()):
            raise DataError(
                f"The {part} labels of {self.name!r} need one whole number a row, shape "
                f"{wanted}, but have {tuple(labels.shape)} in {labels.dtype}."
            )

    def _check_lengths(self, part: str, rows: Tensor | None, covariates: str, codes: str) -> None:
        beside = {
            f"covariate {name!r}": value
            for name, value in (getattr(self, covariates) or {}).items()
        }
        if getattr(self, codes) is not None:
            beside["codes"] = getattr(self, codes)
        for name, value in beside.items():
            if rows is None or value.shape[:1] != rows.shape[:1]:
                raise DataError(
                    f"The {part} {name} of {self.name!r} need one entry a row, of which there are "
                    f"{0 if rows is None else len(rows)}, but have the shape {tuple(value.shape)}."
                )


def _beside(rows: Tensor, covariates: Mapping[str, Tensor] | None) -> Tensor | dict[str, Tensor]:
    return {"x": rows, **covariates} if covariates else rows


def kind_of(rows: Tensor) -> Kind:
    """The narrowest kind that all entries fit.

    Args:
        rows: Observations, any shape.

    Returns:
        ``"binary"``, ``"counts"`` or ``"continuous"``.

    Examples:
        >>> kind_of(torch.tensor([0.0, 1.0])), kind_of(torch.tensor([0.0, 7.0]))
        ('binary', 'counts')
    """
    for kind in ("binary", "counts"):
        if _is_kind(rows, kind):
            return kind
    return "continuous"


def _is_kind(rows: Tensor, kind: Kind) -> bool:
    if kind == "binary":
        return bool(((rows == 0) | (rows == 1)).all())
    return bool(((rows >= 0) & (rows == rows.round())).all())
