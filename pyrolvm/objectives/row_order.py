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
        return self.epoch(epoch)[position * self.size : (position + 1) * self.size]

    def epoch(self, number: int) -> Tensor:
        """Return all rows in the order of an epoch, shape ``(num_rows,)``."""
        if self._epoch != number:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            self._epoch = number
            self._order = torch.randperm(self.num_rows, generator=generator)
        return self._order
