"""Everything that programs look up when they run, and whether it still stands where it stood.

A captured program is right as long as what the plain one would look up is what it was: globals and
variables of enclosing functions that its code names, attributes of its objects and their classes,
entries of lists and dictionaries. Looked at before every step, so by identity, and a whole
dictionary at once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import chain
from typing import Any

import numpy as np
from torch import Tensor

from pyrolvm.objectives.compiled.walk import PLAIN, Walk

_ABSENT = object()


class Places:
    """What programs look up, as it is now.

    Args:
        *programs: Modules, functions, bound methods, handlers, and other objects they use.
        settings: An object whose own plain values count, too.
        left_out: Entries that do not count, as :meth:`rebound` gives them.
    """

    def __init__(
        self, *programs: Any, settings: Any = None, left_out: Set[tuple[int, Any]] = frozenset()
    ) -> None:
        walk = Walk(programs, settings, left_out)
        self._of_library = walk.of_library
        self.tensors = walk.tensors
        self._entries = [_Entries(holder, list(keys)) for holder, keys in walk.holders.values()]
        self._looks = [(entries.get, entries.holder) for entries in self._entries]
        self._values = [
            value for entries in self._entries for value in entries.get(entries.holder)
        ]
        self._lists = [(row, tuple(row)) for row in walk.lists]
        self._sized = list(walk.sized.values())
        self._sizes = list(map(len, self._sized))
        self._arrays = [(array, array.copy()) for array in walk.arrays]

    def change(self) -> str | None:
        """Name what has changed; None where everything is as it was."""
        if not self._entries_are_same():
            for entries in self._entries:
                found = entries.changed()
                if found is not None:
                    return found
        for row, items in self._lists:
            if len(row) != len(items) or any(map(_differ, row, items)):
                return f"a list of {len(items)} items was changed"
        if list(map(len, self._sized)) != self._sizes:
            return "a dictionary, an object or the hooks of a module grew or shrank"
        for array, values in self._arrays:
            if array.shape != values.shape or not np.array_equal(array, values, equal_nan=True):
                return f"a NumPy array of shape {values.shape} was changed"
        return None

    def _entries_are_same(self) -> bool:
        """Whether every entry holds the very object that it held."""
        try:
            now = list(chain.from_iterable([get(holder) for get, holder in self._looks]))
        except (KeyError, ValueError):  # the latter of a variable that has no value any more
            return False
        return all(map(operator.is_, now, self._values))

    def rebound(self) -> set[tuple[int, Any]]:
        """Put back tensors that a library's module replaces whenever it runs; say which."""
        found = set()
        for entries in self._entries:
            if id(entries.holder) in self._of_library:
                found |= {(id(entries.holder), key) for key in entries.put_back(Tensor)}
        return found

    def restore(self) -> None:
        """Put back what was replaced, where that is possible."""
        for entries in self._entries:
            entries.put_back()
        for row, items in self._lists:
            row[:] = items
        for array, values in self._arrays:
            if array.flags.writeable and array.shape == values.shape:
                array[...] = values


class _Entries:
    """Some entries of a dictionary."""

    def __init__(self, holder: Mapping[Any, Any], keys: Sequence[Any]) -> None:
        self.holder, self.keys = holder, keys
        several = keys if len(keys) > 1 else [*keys, *keys]  # for it to return a tuple
        self.get: Callable[[Any], tuple[Any, ...]] = operator.itemgetter(*several)
        self.values = tuple(holder[key] for key in keys)

    def changed(self) -> str | None:
        """Name the first entry that differs, and how."""
        for key, value in zip(self.keys, self.values, strict=True):
            now = _looked_up(self.holder, key)
            if _differ(now, value):
                if type(value) in PLAIN and type(now) in PLAIN:
                    return f"{key!r} was {value!r} and is {now!r}"
                return f"{key!r} was replaced"
        return None

    def put_back(self, kind: type = object) -> list[Any]:
        """Put back entries that hold something of a kind and were replaced; returns their keys."""
        if not hasattr(self.holder, "__setitem__"):
            return []
        replaced = {
            key: value
            for key, value in zip(self.keys, self.values, strict=True)
            if isinstance(value, kind) and _differ(_looked_up(self.holder, key), value)
        }
        for key, value in replaced.items():
            self.holder[key] = value  # type: ignore[index]
        return list(replaced)


def _looked_up(holder: Mapping[Any, Any], key: Any) -> Any:
    try:
        return holder[key]
    except (KeyError, ValueError):
        return _ABSENT


def _differ(now: Any, value: Any) -> bool:
    """Whether something else stands in a place than did; numbers and strings count by value."""
    if now is value:
        return False
    if type(now) is not type(value) or not isinstance(value, (*PLAIN, np.generic)):
        return True
    both_nan = now != now and value != value  # noqa: PLR0124 - this is what NaN does
    return bool(now != value) and not both_nan
