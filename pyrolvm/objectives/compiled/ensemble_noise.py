"""Random numbers of a captured step as inputs of it, drawn for each member from its own generator.

Each operation that fills a tensor with random numbers is done beforehand, in the order and with
the shapes of the step: a member sees the numbers that it would see alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.graph import is_random

aten = torch.ops.aten
NEW = {
    aten.rand: "uniform_", aten.rand_like: "uniform_",
    aten.randn: "normal_", aten.randn_like: "normal_",
}  # fmt: skip
"""Operations that return new random numbers, and how the same ones are written into a tensor."""
FILLS = (
    "normal_",
    "uniform_",
    "exponential_",
    "bernoulli_",
    "log_normal_",
    "cauchy_",
    "geometric_",
)
"""Operations that write random numbers into a tensor, whatever stands in it."""


@dataclass(frozen=True)
class Draw:
    """Random numbers that one step of a member draws at once.

    Args:
        fill: Name of the operation that writes them into a tensor.
        args: Its settings.
        kwargs: Likewise.
        shape: Shape of the tensor.
        dtype: Its type.
        device: Where it lies.
    """

    fill: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def draws_as_inputs(graph: GraphModule, place: int) -> list[Draw]:
    """Make the random numbers of a captured step inputs of it; in place.

    Args:
        graph: Takes and gives tensors in a row.
        place: How many inputs stand before them.

    Returns:
        What each of these inputs holds.

    Raises:
        CaptureError: If random numbers are drawn whose distribution depends on tensors.
    """
    draws: list[Draw] = []
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][place - 1]
    for node in [node for node in graph.graph.nodes if is_random(node)]:
        draws.append(_draw(node))
        with graph.graph.inserting_after(last):
            last = graph.graph.placeholder(f"noise_{len(draws)}")
        last.meta = dict(node.meta)
        if node.target._schema.is_mutable:
            node.args[0].replace_all_uses_with(last)
        node.replace_all_uses_with(last)
        graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()
    return draws


def _draw(node: Node) -> Draw:
    operation: Any = node.target
    packet, args = operation.overloadpacket, tuple(node.args[1:])
    like = shape, dtype, device, is_contiguous = node.meta["like"]
    kwargs = {name: value for name, value in node.kwargs.items() if name != "generator"}
    if packet in NEW:
        fill, args, kwargs = NEW[packet], (), {}
        usable = True
    else:
        fill = packet.__name__
        usable = fill in FILLS and not node.all_input_nodes[1:] and _is_new(node.args[0], like)
    if not usable or not is_contiguous:
        raise CaptureError(f"the random numbers of {fill} depend on tensors")
    return Draw(fill, args, kwargs, shape, dtype, device)


def _is_new(base: Any, like: Any) -> bool:
    names = ("empty", "empty_like", "new_empty", "zeros", "zeros_like", "new_zeros")
    is_made = base.op == "call_function" and base.target.overloadpacket.__name__ in names
    return is_made and base.meta["like"] == like


class MemberNoise:
    """Random numbers of all members for a block of steps.

    Args:
        draws: What one step of a member draws.
        generators: Of the members.
        block: Steps in a block.
    """

    def __init__(
        self, draws: Sequence[Draw], generators: Sequence[torch.Generator], block: int
    ) -> None:
        tensors = [
            torch.empty(
                (block, len(generators), *draw.shape), dtype=draw.dtype, device=draw.device
            )
            for draw in draws
        ]
        self._steps = [[tensor[place] for tensor in tensors] for place in range(block)]
        self._fills = [
            [
                (getattr(tensor[member], draw.fill), draw.args, {**draw.kwargs, "generator": own})
                for member, own in enumerate(generators)
                for draw, tensor in zip(draws, step, strict=True)
            ]
            for step in self._steps
        ]

    def draw(self, num_steps: int) -> None:
        """Draw for the first steps of a block."""
        for fills in self._fills[:num_steps]:
            for fill, args, kwargs in fills:
                fill(*args, **kwargs)

    def at(self, place: int) -> list[Tensor]:
        """Return the random numbers of a step of the block, members first."""
        return self._steps[place]
