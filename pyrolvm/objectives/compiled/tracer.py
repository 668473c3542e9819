"""Record the tensor operations of one run, those of differentiation included, as a graph.

The run takes place on real tensors, below autograd, so that whatever Python does around the
operations is left behind. A value that is read out of a tensor would be left behind with it, as a
constant: that is refused, unless the tensor is the same in every run.

``torch.fx``'s own tracer does the same with a symbolic copy of each tensor; without the copies it
takes a tenth of the time, and needs no compiler to be imported.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.unread_values import in_this_thread

READERS = ("numpy", "tolist", "__array__", "__dlpack__")
"""Ways to read a tensor that pass by its operations."""


def trace(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> GraphModule:
    """Run a function once and return what it did to tensors.

    Args:
        function: Takes the inputs, and returns tensors in a row.
        inputs: Tensors, each recognised by identity wherever it is met.

    Returns:
        A function of tensors in a row that returns a tuple.

    Raises:
        CaptureError: If a value is read that may differ from run to run.
    """
    recorder = _Recorder(inputs)
    with _readers_watched(recorder), recorder:
        outputs = function(*inputs)
    return recorder.finished(outputs)


class _Recorder(TorchDispatchMode):
    """Sees every operation below autograd."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self._root = nn.Module()
        self._graph = Graph()
        self._known: dict[int, Node] = {}
        self._alive: list[Tensor] = []
        self._fixed: set[Node] = set()
        for place, tensor in enumerate(inputs):
            self._remember(tensor, self._graph.placeholder(f"input_{place}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of the compiler, which has nothing to do here."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take the operation, and take note of it."""
        kwargs = kwargs or {}
        if any(isinstance(value, torch.Generator) for value in kwargs.values()):
            raise CaptureError("it draws random numbers from a generator of its own")
        tensors = [v for v in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(v, Tensor)]
        is_fixed = torch.Tag.nondeterministic_seeded not in func.tags and all(
            self.is_fixed(tensor) for tensor in tensors
        )
        if not is_fixed:
            _refuse_reading(func, args)
        if torch.Tag.data_dependent_output in func.tags:
            return func(*args, **kwargs)
        node = self._noted(func, args, kwargs)
        result = func(*args, **kwargs)
        self._note_outputs(node, result, is_fixed and not func._schema.is_mutable)
        return result

    def _noted(self, func: Any, args: Any, kwargs: Any) -> Node:
        def node_of(value: Any) -> Any:
            return self._node(value) if isinstance(value, Tensor) else value

        args, kwargs = pytree.tree_map(node_of, (args, kwargs))
        return self._graph.call_function(func, args, kwargs)

    def _note_outputs(self, node: Node, result: Any, is_fixed: bool) -> None:
        if isinstance(result, (tuple, list)):
            for place, value in enumerate(result):
                if isinstance(value, Tensor):
                    part = self._graph.call_function(operator.getitem, (node, place))
                    self._remember(value, part, is_fixed)
        elif isinstance(result, Tensor):
            self._remember(result, node, is_fixed)

    def _remember(self, tensor: Tensor, node: Node, is_fixed: bool = False) -> None:
        node.meta["like"] = (tensor.shape, tensor.dtype, tensor.device, tensor.is_contiguous())
        self._known[id(tensor)] = node
        self._alive.append(tensor)
        if is_fixed:
            self._fixed.add(node)

    def _node(self, tensor: Tensor) -> Node:
        """The node of a tensor; one that nobody made here is a constant."""
        node = self._known.get(id(tensor))
        if node is None:
            name = f"constant_{len(self._alive)}"
            self._root.register_buffer(name, tensor.detach())
            node = self._graph.get_attr(name)
            self._remember(tensor, node, is_fixed=True)
        return node

    def is_fixed(self, tensor: Tensor) -> bool:
        """Whether a tensor is the same in every run."""
        node = self._known.get(id(tensor))
        return node is None or node in self._fixed

    def finished(self, outputs: Sequence[Tensor]) -> GraphModule:
        """Return the graph with these outputs."""
        self._graph.output(tuple(self._node(output) for output in outputs))
        return GraphModule(self._root, self._graph)


def _refuse_reading(func: Any, args: Any) -> None:
    reads = torch.Tag.data_dependent_output in func.tags
    sizes = torch.Tag.dynamic_output_shape in func.tags
    if sizes and func.overloadpacket is torch.ops.aten.index:
        sizes = any(index is not None and index.dtype in _MASKS for index in args[1])
    if reads or sizes:
        raise CaptureError(
            f"what it does depends on the values of tensors ({func.overloadpacket.__name__})"
        )


_MASKS = (torch.bool, torch.uint8)


@contextmanager
def _readers_watched(recorder: _Recorder) -> Iterator[None]:
    """Refuse to give away the values of a tensor, unless they are the same in every run."""
    before = {name: getattr(Tensor, name) for name in READERS}

    def watched(name: str) -> Callable[..., Any]:
        def read(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not recorder.is_fixed(tensor):
                raise CaptureError(f"what it does depends on the values of tensors ({name})")
            return before[name](tensor, *args, **kwargs)

        return read

    own = {name for name in READERS if name in vars(Tensor)}
    try:
        for name in READERS:
            setattr(Tensor, name, in_this_thread(watched(name), before[name]))
        yield
    finally:
        for name in READERS:
            if name in own:
                setattr(Tensor, name, before[name])
            else:
                delattr(Tensor, name)
