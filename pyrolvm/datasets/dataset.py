"""A data set: rows to train on, to validate and to test on, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from pyrolvm.core.errors import DataError, require_at_least, require_seed

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
        valid: Rows to choose settings by, shape ``(V, D)``, float32; None if there are none.
        valid_labels: Class of each of them, shape ``(V,)``.
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
    valid: Tensor | None = None
    valid_labels: Tensor | None = None
    train_covariates: Mapping[str, Tensor] | None = None
    test_covariates: Mapping[str, Tensor] | None = None
    train_codes: Tensor | None = None
    test_codes: Tensor | None = None

    def __post_init__(self) -> None:
        for part, (rows, labels) in self.parts.items():
            if rows is not None:
                self._check_rows(part, rows)
            self._check_labels(part, rows, labels)
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
        """Rows in all, for training, validation and testing."""
        return sum(len(rows) for rows, _ in self.parts.values() if rows is not None)

    @property
    def parts(self) -> dict[str, tuple[Tensor | None, Tensor | None]]:
        """Rows and labels of ``"train"``, ``"valid"`` and ``"test"``, None where there are no."""
        return {
            "train": (self.train, self.train_labels),
            "valid": (self.valid, self.valid_labels),
            "test": (self.test, self.test_labels),
        }

    def subset(self, size: int, *, seed: int = 0) -> Dataset:
        """Some rows of each part, drawn without replacement: right for files sorted by class too.

        Args:
            size: Rows to keep of each part, at least 1; a part that has no more is kept whole.
            seed: Of the draw; each part has its own.

        Returns:
            The smaller data set, rows in random order, labels with them.

        Raises:
            SettingError: If ``size`` is not positive, or no generator takes the seed.

        Examples:
            >>> rows = torch.arange(10.0)[:, None]
            >>> data = Dataset("ten", rows, "counts", "a formula", "none", valid=rows)
            >>> len(data.subset(4).train), len(data.subset(40).valid)
            (4, 10)
        """
        require_at_least(1, size=size)
        require_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        chosen: dict[str, Any] = {}
        for part, (rows, labels) in self.parts.items():
            order = torch.randperm(0 if rows is None else len(rows), generator=generator)[:size]
            chosen[part] = None if rows is None else rows[order]
            chosen[f"{part}_labels"] = None if labels is None else labels[order]
            if part != "valid":
                codes = getattr(self, f"{part}_codes")
                covariates = getattr(self, f"{part}_covariates")
                chosen[f"{part}_codes"] = None if codes is None else codes[order]
                chosen[f"{part}_covariates"] = covariates and {
                    name: value[order] for name, value in covariates.items()
                }
        return replace(self, **chosen)

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
