"""Observations and covariates as the arguments of a Pyro program, rows first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    """One tensor, or a mapping from argument name to tensor; every tensor has one row a datum.

    Args:
        positional: The single argument of the program, if it takes one.
        named: Arguments by name otherwise.
    """

    positional: Tensor | None
    named: Mapping[str, Tensor]

    @classmethod
    def of(cls, data: Any) -> Data:
        """Read data from a tensor, an array, or a mapping of those.

        Raises:
            DataError: If there are no rows, or the tensors disagree about their number.
        """
        if isinstance(data, Data):
            return data
        if isinstance(data, Mapping):
            made = cls(None, {name: _tensor(value, name) for name, value in data.items()})
        else:
            made = cls(_tensor(data, "data"), {})
        rows = {name: len(tensor) for name, tensor in made.items()}
        if not rows:
            raise DataError("A program needs data, but the mapping is empty.")
        if len(set(rows.values())) > 1:
            raise DataError(f"All data need the same number of rows, but got {rows}.")
        if made.num_rows == 0:
            raise DataError("The data has no rows; at least one is needed.")
        return made

    @property
    def num_rows(self) -> int:
        """Number of data N."""
        return len(next(iter(self.items()))[1])

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """The tensors with their names; the positional one is called ``x``."""
        if self.positional is not None:
            yield "x", self.positional
        yield from self.named.items()

    @property
    def device(self) -> torch.device:
        """Where the data lies."""
        return next(iter(self.items()))[1].device

    def rows(self, index: slice | Tensor) -> Data:
        """Return the chosen rows."""
        return self._map(lambda tensor: tensor[index])

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
        return Data(positional, {name: change(tensor) for name, tensor in self.named.items()})


def _size_hint(tensors: Iterator[tuple[str, Tensor]]) -> str:
    largest = max((float(tensor.double().abs().max()) for _, tensor in tensors), default=0.0)
    if not largest > HUGE:
        return ""
    return (
        f" The data reach {largest:.1g}, and their size is a likely cause: scale them first, "
        "for example x / x.std()."
    )


def _tensor(value: Any, name: str) -> Tensor:
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
