"""A captured graph of tensor operations: tidied up, checked, and compared with another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.tracer import trace

aten = torch.ops.aten
SAME_TENSOR = (aten.detach.default, aten.alias.default, aten.lift_fresh.default)
"""Operations that return what they are given, once gradients have been taken."""
LARGEST_CONSTANT = 4096
"""Elements of a tensor that may be computed once for all steps."""


def program_of(step: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> GraphModule:
    """Return a step that changes its inputs in place as a tidy graph; these are not changed."""
    copies = [tensor.clone() for tensor in inputs]
    with own_randomness(), torch.no_grad():
        graph = trace(step, copies)
    tidy(graph)
    return graph


def tidy(graph: GraphModule) -> None:
    """Leave out what changes nothing, and compute constants once; in place."""
    for node in list(graph.graph.nodes):
        if node.target in SAME_TENSOR and node.args[0].op != "get_attr":
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    _draw_out_of_place(graph)
    _compare_with_uniforms(graph)
    _fold_constants(graph)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def _draw_out_of_place(graph: GraphModule) -> None:
    """Write random numbers into a new tensor as one operation; the numbers are the same."""
    for node in list(graph.graph.nodes):
        drawn = {
            aten.normal_.default: (aten.randn.default, (0.0, 1.0)),
            aten.uniform_.default: (aten.rand.default, (0.0, 1.0)),
        }.get(node.target)
        if drawn is None:
            continue
        operation, standard = drawn
        empty, given = node.args[0], tuple(map(float, node.args[1:]))
        given = given or tuple(map(float, node.kwargs.values()))
        is_new = empty.target in (aten.empty.memory_format, aten.empty_like.default)
        if not (is_new and given in ((), standard) and len(empty.users) == 1):
            continue
        if any(isinstance(value, torch.Generator) for value in node.kwargs.values()):
            continue
        shape, dtype, device, is_contiguous = empty.meta["like"]
        if not is_contiguous:
            continue
        with graph.graph.inserting_before(node):
            new = graph.graph.call_function(
                operation, (list(shape),), {"dtype": dtype, "device": device}
            )
        new.meta = dict(node.meta)
        node.replace_all_uses_with(new)
        graph.graph.erase_node(node)
        graph.graph.erase_node(empty)


def _compare_with_uniforms(graph: GraphModule) -> None:
    """Draw Bernoulli variables as u < p: on a CPU the same ones in a quarter of the time."""
    for node in list(graph.graph.nodes):
        if node.target is not aten.bernoulli.default or node.kwargs:
            continue
        shape, dtype, device, _ = node.meta["like"]
        if device.type != "cpu" or dtype not in (torch.float32, torch.float64):
            continue
        new = graph.graph.call_function
        with graph.graph.inserting_before(node):
            uniform = new(aten.rand.default, (list(shape),), {"dtype": dtype, "device": device})
            is_one = new(aten.lt.Tensor, (uniform, node.args[0]))
            drawn = new(aten._to_copy.default, (is_one,), {"dtype": dtype})
        uniform.meta = drawn.meta = dict(node.meta)
        is_one.meta["like"] = (shape, torch.bool, device, True)
        node.replace_all_uses_with(drawn)
        graph.graph.erase_node(node)


def _fold_constants(graph: GraphModule) -> None:
    """Compute once what only depends on constants."""
    written = {node.args[0] for node in graph.graph.nodes if _writes(node)}
    known: dict[Node, Tensor] = {}
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            known[node] = getattr(graph, str(node.target))
        elif _is_pure(node) and _folds(node, known, written):
            with torch.no_grad():
                arguments = map_arg((node.args, node.kwargs), known.__getitem__)
                value = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
            if isinstance(value, Tensor) and value.numel() <= LARGEST_CONSTANT:
                known[_put_constant(graph, node, value)] = value


def _folds(node: Node, known: dict[Node, Tensor], written: set[object]) -> bool:
    sources = node.all_input_nodes
    return bool(sources) and node not in written and known.keys() - written >= set(sources)


def _put_constant(graph: GraphModule, node: Node, value: Tensor) -> Node:
    """Put a constant in the place of a node."""
    name = f"folded_{node.name}"
    graph.register_buffer(name, value.clone())
    with graph.graph.inserting_before(node):
        constant = graph.graph.get_attr(name)
    constant.meta = dict(node.meta)
    node.replace_all_uses_with(constant)
    graph.graph.erase_node(node)
    return constant


def _is_pure(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and not (
        is_random(node) or _writes(node)
    )


def is_random(node: Node) -> bool:
    """Whether a node draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


def constants(graph: GraphModule) -> dict[str, Tensor]:
    """Tensors that stand in a graph itself, by name."""
    return {
        node.target: getattr(graph, node.target)
        for node in graph.graph.nodes
        if node.op == "get_attr"
    }


def refuse_writes(graph: GraphModule) -> None:
    """Refuse a program that changes what it is given, as running statistics are.

    Raises:
        CaptureError: Naming the operation.
    """
    for node in graph.graph.nodes:
        if not _writes(node):
            continue
        for source in _written(node):
            if _base(source).op in ("placeholder", "get_attr"):
                raise CaptureError(
                    "the program changes a tensor that outlives the step (running statistics, or "
                    f"a buffer), by {node.target}"
                )


def _written(node: Node) -> Iterator[Node]:
    arguments = node.target._schema.arguments  # type: ignore[union-attr]
    for argument, value in zip(arguments, node.args, strict=False):
        if argument.alias_info is not None and argument.alias_info.is_write:
            parts = value if isinstance(value, (list, tuple)) else [value]
            yield from (part for part in parts if isinstance(part, Node))


def _base(node: Node) -> Node:
    """The tensor that a view shows."""
    while node.op == "call_function":
        returns = getattr(getattr(node.target, "_schema", None), "returns", ())
        if not any(part.alias_info is not None for part in returns) or not node.all_input_nodes:
            return node
        node = node.all_input_nodes[0]
    return node


def difference(one: GraphModule, other: GraphModule) -> str | None:
    """Say where two graphs differ; None where they are the same program."""
    first, second = list(one.graph.nodes), list(other.graph.nodes)
    if len(first) != len(second):
        return f"{len(first)} operations in one run and {len(second)} in another"
    numbers = [{node: place for place, node in enumerate(nodes)} for nodes in (first, second)]
    for mine, theirs in zip(first, second, strict=True):
        if _described(one, mine, numbers[0]) != _described(other, theirs, numbers[1]):
            return f"the operation {mine.name} ({mine.target}) differs from run to run"
        if mine.op == "get_attr" and not _equal(
            getattr(one, mine.target), getattr(other, theirs.target)
        ):
            return "a tensor that was computed from values outside of the graph differs"
    return None


def _described(graph: GraphModule, node: Node, places: dict[Node, int]) -> str:
    what = "" if node.op in ("get_attr", "placeholder", "output") else str(node.target)
    numbered = map_arg((node.args, node.kwargs), lambda source: f"%{places[source]}")
    return f"{node.op} {what} {numbered!r}"


def _equal(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    return torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
