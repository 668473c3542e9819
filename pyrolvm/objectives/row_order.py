"""The order of rows in minibatches: it follows from a seed, so that any step can be redone."""

from __future__ import annotations

import torch
from torch import Tensor


class RowOrder:
    """Rows of each step; an epoch is a permutation of its own seed, without its incomplete rest.

    Args:
        num_rows: Number of data.
        size: Rows in a minibatch.
        seed: Of the order.
    """

    def __init__(self, num_rows: int, size: int, seed: int) -> None:
        self.num_rows, self.size, self.seed = num_rows, size, seed
        self._epoch = -1
        self._order = torch.empty(0)

    def chosen(self, step: int) -> Tensor:
        """Return the rows of a step, shape ``(size,)``."""
        epoch, position = divmod(step, self.num_rows // self.size)
        if self._epoch != epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch = epoch
            self._order = torch.randperm(self.num_rows, generator=generator)
        return self._order[position * self.size : (position + 1) * self.size]
