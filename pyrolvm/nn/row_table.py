"""One row of parameters for each row of a data set, found by content."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from pyrolvm.core.errors import DataError


class RowTable(nn.Module):
    """Parameters of each row of a data set, found by the row's content.

    A plain module inside the guide: Pyro would set parameters that stand directly in a
    ``PyroModule`` to ``requires_grad`` when it registers them, so that they could not be frozen.
    """

    variational_parameters: nn.Parameter | None
    rows: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("variational_parameters", None)
        self.register_buffer("rows", None)
        self._first_row: dict[bytes, int] = {}
        self._own_index: Tensor | None = None

    def fill(self, rows: Tensor, parameters: Tensor) -> None:
        """Replace rows and parameters."""
        self.rows = rows.clone()
        self.variational_parameters = nn.Parameter(parameters.detach().clone())
        self._first_row = {}

    def look_up(self, x: Tensor) -> Tensor:
        """Return the parameters of these rows; equal rows share those of the first."""
        assert self.rows is not None
        assert self.variational_parameters is not None
        if not self._first_row:
            keys = _keys(self.rows)
            self._first_row = {key: row for row, key in reversed(list(enumerate(keys)))}
            has_duplicates = len(self._first_row) < len(keys)
            self._own_index = self._find(self.rows) if has_duplicates else None
        alike = x.shape == self.rows.shape and x.device == self.rows.device
        if alike and torch.equal(x, self.rows.to(x.dtype)):
            index = self._own_index
        else:
            index = self._find(x)
        return self.variational_parameters if index is None else self.variational_parameters[index]

    def _fits(self, rows: Tensor, parameters: Tensor) -> bool:
        mine = (self.rows, self.variational_parameters)
        return all(
            own is not None and own.shape == other.shape
            for own, other in zip(mine, (rows, parameters), strict=True)
        )

    def _find(self, x: Tensor) -> Int[Tensor, " data"]:
        assert self.rows is not None
        found = [self._first_row.get(key, -1) for key in _keys(x)]
        if min(found, default=0) < 0:
            raise DataError(
                f"There are parameters for the {len(self.rows)} rows that the guide was "
                f"initialised with, but {found.count(-1)} of the {len(found)} given rows (the "
                f"first is row {found.index(-1)}) are not among them. Call initialise(x) with all "
                "rows first, or use Amortized for new data."
            )
        return torch.tensor(found, device=self.rows.device)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        rows = state_dict.get(f"{prefix}rows")
        parameters = state_dict.get(f"{prefix}variational_parameters")
        if rows is not None and parameters is not None and not self._fits(rows, parameters):
            device = rows.device if self.rows is None else self.rows.device
            self.fill(torch.empty_like(rows, device=device), parameters.to(device))
        self._first_row = {}
        super()._load_from_state_dict(state_dict, prefix, *args)


def _keys(x: Tensor) -> list[bytes]:
    """Content of each row in single precision; adding zero turns −0 into 0."""
    return [row.tobytes() for row in (x.detach().to("cpu", torch.float32) + 0.0).numpy()]
