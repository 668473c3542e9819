"""How a pair is called: which of its arguments are tensors, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class TensorKind:
    """What a compiled program knows of a tensor beforehand.

    Args:
        shape: Its shape.
        dtype: Its type.
        device: Where it is.
        strides: Of a tensor that is not contiguous, whose random numbers may come in another
            order; None for one that is.
    """

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    strides: tuple[int, ...] | None = None

    @classmethod
    def of(cls, tensor: Tensor) -> TensorKind:
        """Read it off a tensor."""
        is_dense = tensor.layout is not torch.strided or tensor.is_contiguous()
        strides = None if is_dense else tensor.stride()
        return cls(tensor.shape, tensor.dtype, tensor.device, strides)

    def fits(self, value: Any) -> bool:
        """Whether something is a tensor of this kind, strided and without a gradient."""
        return (
            type(value) is Tensor
            and value.layout is torch.strided
            and value.shape == self.shape
            and value.dtype is self.dtype
            and value.device == self.device
            and not value.requires_grad
            and (None if value.is_contiguous() else value.stride()) == self.strides
        )

    def example(self) -> Tensor:
        """Return a contiguous tensor of this shape and type."""
        return torch.zeros(self.shape, dtype=self.dtype, device=self.device)


class Call:
    """The form of a call: tensors by their kinds, everything else by its value.

    Args:
        args: Positional arguments; tensors may stand in lists and dictionaries.
        kwargs: Arguments by name.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        leaves, self._structure = pytree.tree_flatten((args, dict(kwargs)))
        self._is_plain = not kwargs and all(isinstance(value, Tensor) for value in args)
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._others = sorted(set(range(len(leaves))) - set(self._places))
        self.kinds = [TensorKind.of(leaves[place]) for place in self._places]

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor] | None:
        """Return the tensors of another call, contiguous, or None if it has another form."""
        if self._is_plain and not kwargs:
            found: Sequence[Any] = args
        else:
            leaves, structure = pytree.tree_flatten((args, dict(kwargs)))
            if structure != self._structure:
                return None
            if not all(_same(self._leaves[place], leaves[place]) for place in self._others):
                return None
            found = [leaves[place] for place in self._places]
        if len(found) != len(self.kinds):
            return None
        for value, kind in zip(found, self.kinds, strict=True):
            if not kind.fits(value):
                return None
        return [value.contiguous() for value in found]

    def rebuilt(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return arguments of this form that hold given tensors."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._structure)
        return args, kwargs


def _same(known: Any, other: Any) -> bool:
    if known is other:
        return True
    plain = isinstance(known, (bool, int, float, str, bytes, torch.Size, torch.dtype))
    return plain and type(known) is type(other) and known == other
