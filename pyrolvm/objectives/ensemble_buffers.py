"""Tensors that a captured program makes and then writes into: one for each member.

Distributions fill an empty tensor with random numbers in place, or write a triangle into zeros;
``vmap`` refuses both where the tensor would be shared by all members.
"""

from __future__ import annotations

import torch
from torch.fx import GraphModule, Node

from pyrolvm.objectives.ensemble_draws import is_random


def own_buffers(graph: GraphModule, num_shared: int) -> None:
    """Give each member of a captured program tensors of its own to write into.

    Args:
        graph: The program of one member, still to be mapped over members; changed in place.
        num_shared: How many of its inputs, the last ones, all members share.
    """
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    private = set(inputs[: len(inputs) - num_shared])
    anchor = inputs[0]
    for node in list(graph.graph.nodes):
        if _writes(node):
            base = _base(node.args[0])
            if base not in private:
                private |= _replace(graph, base, anchor)
        if is_random(node) or private.intersection(node.all_input_nodes):
            private.add(node)
    graph.recompile()


def _writes(node: Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


def _base(node: Node) -> Node:
    """The tensor that a view shows."""
    while node.op == "call_function":
        returns = getattr(getattr(node.target, "_schema", None), "returns", ())
        if not any(part.alias_info is not None for part in returns):
            return node
        node = node.all_input_nodes[0]
    return node


def _replace(graph: GraphModule, base: Node, anchor: Node) -> set[Node]:
    """Put a tensor in the image of an input in the place of one that all members would share."""
    shape, dtype, device, _ = base.meta["like"]
    last = base if base.op != "placeholder" else _last_input(graph)
    with graph.graph.inserting_after(last):
        own = graph.graph.call_function(
            torch.ops.aten.new_empty.default,
            (anchor, list(shape)),
            {"dtype": dtype, "device": device},
        )
    own.meta = dict(base.meta)
    base.replace_all_uses_with(own)
    if base.target is not torch.ops.aten.empty.memory_format:
        with graph.graph.inserting_after(own):
            graph.graph.call_function(torch.ops.aten.copy_.default, (own, base))
    views = {node for node in graph.graph.nodes if _base(node) is own}
    return {own} | views


def _last_input(graph: GraphModule) -> Node:
    return [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
