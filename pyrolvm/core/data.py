"""Observations and covariates as the arguments of a Pyro program, rows first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pyrolvm.core.errors import DataError


class Arguments(Protocol):
    """What a program is called with; :class:`Data` is the one that has rows."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments."""
        ...

    @property
    def named(self) -> Mapping[str, Any]:
        """The arguments by name."""
        ...

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors with their names."""
        ...

    def size_hint(self) -> str:
        """A sentence where values are so large that densities may overflow; empty elsewhere."""
        ...


@dataclass(frozen=True)
class CallArguments:
    """Arguments of any kind and number, as SVI hands them to a loss.

    Args:
        args: The positional ones.
        named: Those by name.
    """

    args: tuple[Any, ...]
    named: Mapping[str, Any]

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors among them, positional ones numbered."""
        for name, value in (*enumerate(self.args), *self.named.items()):
            if isinstance(value, Tensor):
                yield str(name), value

    def size_hint(self) -> str:
        """A sentence where values are so large that densities may overflow; empty elsewhere."""
        return _size_hint(self.items())


HUGE = 1e8
"""Size of data at which programs that were not written for it begin to overflow."""


@dataclass(frozen=True)
class Data:
    """The arguments of a program; every tensor with rows among them has one row a datum.

    A program that holds its data itself takes no arguments, and its data set is one datum. A
    number, a text or another object among the named arguments is passed on as it is.

    Args:
        positional: The single argument of the program, if it takes one.
        named: Arguments by name otherwise.
    """

    positional: Tensor | None
    named: Mapping[str, Any]

    @classmethod
    def of(cls, data: Any) -> Data:
        """Read data from a tensor, an array, a mapping from argument names, or None.

        Raises:
            DataError: If there are no rows, or the tensors disagree about their number.
        """
        if isinstance(data, Data):
            return data
        if data is None:
            return cls(None, {})
        if isinstance(data, Mapping):
            made = cls(None, {name: _argument(value, name) for name, value in data.items()})
        else:
            made = cls(_tensor(data, "data"), {})
        rows = {name: len(tensor) for name, tensor in made.items()}
        if isinstance(data, Mapping) and not data:
            raise DataError(
                "A program needs data, but the mapping is empty. Pass None to programs that take "
                "no arguments."
            )
        if len(set(rows.values())) > 1:
            raise DataError(
                f"All data need the same number of rows, but got {rows}. Bind an argument without "
                "rows to model and guide: functools.partial(model, name=value)."
            )
        if made.num_rows == 0:
            raise DataError("The data has no rows; at least one is needed.")
        return made

    @property
    def num_rows(self) -> int:
        """Number of data N; 1 where no argument has rows."""
        return next((len(tensor) for _, tensor in self.items()), 1)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors with rows and their names; the positional one is called ``x``."""
        if self.positional is not None:
            yield "x", self.positional
        for name, value in self.named.items():
            if isinstance(value, Tensor) and value.dim():
                yield name, value

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return next((tensor.device for _, tensor in self.items()), torch.device("cpu"))

    def rows(self, index: slice | Tensor) -> Data:
        """Return the chosen rows; what has no rows stays."""
        return self._map(lambda tensor: tensor[index] if tensor.dim() else tensor)

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Data:
        """Move every tensor to a device; floating ones take the dtype."""
        return self._map(lambda t: t.to(device, dtype if t.is_floating_point() else None))

    def call(self, program: Callable[..., Any]) -> Any:
        """Run a program on these data."""
        return program(*self.args, **self.named)

    @property
    def args(self) -> tuple[Tensor, ...]:
        """The positional arguments."""
        return () if self.positional is None else (self.positional,)

    @property
    def only(self) -> Tensor | None:
        """The single tensor, passed by position or by name; None if there are more."""
        tensors = [tensor for _, tensor in self.items()]
        return tensors[0] if len(tensors) == 1 else None

    def check_finite(self) -> None:
        """Refuse values that are not finite.

        Raises:
            DataError: Naming the first bad row.
        """
        for name, tensor in self.items():
            if not tensor.is_floating_point():
                continue
            bad = ~torch.isfinite(tensor.reshape(len(tensor), -1)).all(-1)
            if bad.any():
                raise DataError(
                    f"The data must be finite, but {int(bad.sum())} of {len(tensor)} rows of "
                    f"{name!r} hold NaN or infinity (first: row {int(bad.nonzero()[0, 0])}). "
                    "Remove or impute them."
                )

    def size_hint(self) -> str:
        """A sentence where values are so large that densities may overflow; empty elsewhere."""
        return _size_hint(self.items())

    def _map(self, change: Callable[[Tensor], Tensor]) -> Data:
        positional = None if self.positional is None else change(self.positional)
        changed = {
            name: change(value) if isinstance(value, Tensor) else value
            for name, value in self.named.items()
        }
        return Data(positional, changed)


def _size_hint(tensors: Iterator[tuple[str, Tensor]]) -> str:
    largest = max((float(tensor.double().abs().max()) for _, tensor in tensors), default=0.0)
    if not largest > HUGE:
        return ""
    return (
        f" The data reach {largest:.1g}, and their size is a likely cause: scale them first, "
        "for example x / x.std()."
    )


def _argument(value: Any, name: str) -> Any:
    """A named argument: a tensor where it has rows, as it is where it has none."""
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return _tensor(value, name) if listed or np.ndim(value) else value


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, tuple) and any(isinstance(each, Tensor) for each in value):
        raise DataError(
            f"{name!r} came as a tuple of {len(value)}. Pass several arguments as a mapping from "
            'their names, for example {"x": x, "y": y}.'
        )
    try:
        tensor = value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name!r} should be a tensor or an array of numbers, but it is a "
            f"{type(value).__name__} that cannot be read as one ({error})."
        ) from error
    if tensor.dim() == 0:
        raise DataError(f"{name!r} should have one row a datum, but it is a single number.")
    return (
        tensor.float()
        if tensor.dtype == torch.float64 and not isinstance(value, Tensor)
        else tensor
    )
