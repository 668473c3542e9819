"""Run Pyro's losses without reading numbers out of tensors, so that a tracer can follow them.

On the way to a loss Pyro turns tensors into numbers, to add them up and to warn of NaN, and leaves
gradients in the parameters; where it sums over enumerated sites it looks for zeros, and torch
reads the largest of the classes that it marks. Inside the context of this file the numbers stay
tensors, the warnings are silent, and the gradients are collected as tensors that depend on the
inputs.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.nn import functional

_plain_one_hot = functional.one_hot


class CollectedGradients:
    """What ``backward`` would have added to the gradients of parameters.

    Args:
        parameters: Leaf tensors.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)

    def add(self, value: Tensor, retain_graph: bool | None = None) -> None:
        """Differentiate a value and add up the gradients; None for what it does not depend on."""
        found = torch.autograd.grad(
            value, self.parameters, retain_graph=retain_graph, allow_unused=True
        )
        self.gradients = [
            new if old is None else old if new is None else old + new
            for old, new in zip(self.gradients, found, strict=True)
        ]


@contextmanager
def unread_values(parameters: Sequence[Tensor]) -> Iterator[CollectedGradients]:
    """Let Pyro's objectives run as functions of tensors.

    Args:
        parameters: What gradients are collected for.
    """
    collected = CollectedGradients(parameters)

    def backward(
        value: Tensor, gradient: Any = None, retain_graph: bool | None = None, *_: Any, **__: Any
    ) -> None:
        if gradient is not None:
            raise RuntimeError("a loss that calls backward with a gradient of its own")
        collected.add(value, retain_graph)

    with ExitStack() as stack:
        for name, stand_in in _STAND_INS.items():
            stack.enter_context(_everywhere_in_pyro(name, stand_in))
        stack.enter_context(_attribute(Tensor, "backward", backward))
        stack.enter_context(_attribute(functional, "one_hot", _one_hot))
        stack.enter_context(_attribute(Tensor, "masked_select", _with_zeros_elsewhere))
        stack.enter_context(_attribute(pyro.infer.util, "torch", _TorchWhileTracing()))
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield collected


def _kept(value: Any) -> Any:
    """Keep a tensor where Pyro reads its number; double precision adds up as Python does."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    doubles = value.is_floating_point() and value.device.type in ("cpu", "cuda")
    return value.double() if doubles else value


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """Mark classes without reading the largest one; one that is too large is still an error."""
    if num_classes < 1:
        return _plain_one_hot(tensor, num_classes)
    zeros = tensor.new_zeros(*tensor.shape, num_classes)
    return zeros.scatter_(-1, tensor.unsqueeze(-1), 1)


def _with_zeros_elsewhere(tensor: Tensor, mask: Tensor) -> Tensor:
    """What is selected, where it stands: it adds up to the same."""
    return torch.where(mask, tensor, 0)


class _TorchWhileTracing:
    """``torch`` as Pyro's sums over enumerated sites see it: they select without looking first."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        is_here = threading.get_ident() == self._thread
        return _TRACING if name == "_C" and is_here else getattr(torch, name)


_TRACING = SimpleNamespace(_get_tracing_state=lambda: True)


def _silent(value: Any, *_: Any, **__: Any) -> Any:
    return value


_STAND_INS: dict[str, Callable[..., Any]] = {
    "torch_item": _kept,
    "warn_if_nan": _silent,
    "warn_if_inf": _silent,
}


def in_this_thread(stand_in: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is the stand-in here, and the plain one in other threads."""
    here = threading.get_ident()

    def chosen(*args: Any, **kwargs: Any) -> Any:
        return (stand_in if threading.get_ident() == here else plain)(*args, **kwargs)

    return chosen


@contextmanager
def _everywhere_in_pyro(name: str, stand_in: Callable[..., Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for module_name, module in list(sys.modules.items()):
            if module_name.startswith("pyro.") and name in vars(module):
                stack.enter_context(_attribute(module, name, stand_in))
        yield


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    is_own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, in_this_thread(value, before) if callable(value) else value)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
