"""Minibatches of the members of an ensemble, each in its own order, as ``fit`` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyrolvm.core import Data
from pyrolvm.objectives.row_order import RowOrder


@dataclass(frozen=True)
class MemberBatches:
    """Minibatches of all members.

    Args:
        rows: The data: the same for all members, or those of the members one after another.
        size: Rows in a minibatch, at most those of a member.
        seeds: Of the orders of the members.
        own_rows: Whether each member has rows of its own, as many as the others.
    """

    rows: Data
    size: int
    seeds: tuple[int, ...]
    own_rows: bool = False
    orders: list[RowOrder] = field(init=False)

    def __post_init__(self) -> None:
        orders = [RowOrder(self.num_rows, self.num_taken, seed) for seed in self.seeds]
        object.__setattr__(self, "orders", orders)

    @classmethod
    def of_members(cls, rows: Sequence[Data], size: int, seeds: Sequence[int]) -> MemberBatches:
        """Return the minibatches of members that may have rows of their own.

        Args:
            rows: Of each member, the same number.
            size: Rows in a minibatch.
            seeds: Of the members.
        """
        if all(_equal(rows[0], other) for other in rows[1:]):
            return cls(rows[0], size, tuple(seeds))
        return cls(_joined(rows), size, tuple(seeds), own_rows=True)

    @property
    def num_rows(self) -> int:
        """Number of data of a member."""
        return self.rows.num_rows // (len(self.seeds) if self.own_rows else 1)

    @property
    def num_taken(self) -> int:
        """Number of data of a member in a step."""
        return min(self.size, self.num_rows)

    @property
    def shared(self) -> bool:
        """Whether a step takes all rows, the same for all members."""
        return self.size >= self.num_rows and not self.own_rows

    def at(self, step: int) -> Data:
        """Return the data of a step: members first, or all rows where they are shared."""
        chosen = self.block(step, 1)
        return self.rows if chosen is None else self.rows.rows(chosen[0])

    def of_member(self, member: int, step: int) -> Data:
        """Return the data of one member alone."""
        chosen = self.block(step, 1)
        return self.rows if chosen is None else self.rows.rows(chosen[0, member])

    def block(self, start: int, count: int) -> Tensor | None:
        """Return the rows of several steps, shape ``(count, members, N)``; None where shared."""
        if self.shared:
            return None
        an_epoch = self.num_rows // self.num_taken
        first, last = start // an_epoch, (start + count - 1) // an_epoch
        epochs = torch.cat([self._epoch(number) for number in range(first, last + 1)])
        start -= first * an_epoch
        return epochs[start : start + count].to(self.rows.device)

    def _epoch(self, number: int) -> Tensor:
        """Rows of all steps of an epoch."""
        an_epoch = self.num_rows // self.num_taken
        if self.num_taken == self.num_rows:
            orders = torch.arange(self.num_rows).repeat(len(self.seeds), 1)
        else:
            orders = torch.stack([order.epoch(number) for order in self.orders])
        if self.own_rows:
            orders += torch.arange(len(orders))[:, None] * self.num_rows
        used = orders[:, : an_epoch * self.num_taken]
        return used.reshape(len(orders), an_epoch, self.num_taken).transpose(0, 1).contiguous()


def _equal(one: Data, other: Data) -> bool:
    return one is other or all(
        name == their_name and torch.equal(mine, theirs)
        for (name, mine), (their_name, theirs) in zip(one.items(), other.items(), strict=True)
    )


def _joined(rows: Sequence[Data]) -> Data:
    names = [name for name, _ in rows[0].items()]
    tables = {name: torch.cat([dict(each.items())[name] for each in rows]) for name in names}
    positional = None if rows[0].positional is None else tables.pop("x")
    return Data(positional, tables)
