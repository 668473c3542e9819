"""Random numbers of a batched program, drawn for each member from a generator of its own.

A member then sees the numbers that it would see alone, whoever is trained beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pyrolvm.core.errors import SettingError

NOT_SPLIT = (torch.ops.aten.randperm,)
"""Random operations of which a batched graph holds one for each member."""


def is_random(node: Node) -> bool:
    """Whether a node of a graph draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def own_draws(graph: GraphModule, generators: Sequence[torch.Generator]) -> None:
    """Let each random operation of a batched graph draw from the members' generators.

    Args:
        graph: Operations on tensors with members first; changed in place.
        generators: One for each member.

    Raises:
        SettingError: If an operation cannot be split into one for each member.
    """
    for node in graph.graph.nodes:
        if node.op != "call_function" or not is_random(node):
            continue
        if node.target.overloadpacket in NOT_SPLIT:
            raise SettingError(
                f"fit_ensemble cannot give each member random numbers of its own for {node.name} "
                "(a subsampled plate inside the programs?). Pass batch_size instead, or train "
                "with lvm.fit, one after another."
            )
        node.target = MemberDraws(node.target, generators)
    graph.recompile()


class MemberDraws:
    """A random operation that runs once for each member, on its part of the arguments.

    Args:
        operation: The operation on all members.
        generators: One for each member.
    """

    def __init__(self, operation: Any, generators: Sequence[torch.Generator]) -> None:
        self.generators = generators
        self.in_place = operation._schema.is_mutable
        self.__name__ = self.__qualname__ = operation.overloadpacket.__name__
        self.__module__ = __name__
        self.operation, self.takes_generator = _with_generator(operation)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Draw for all members."""
        kwargs.pop("generator", None)
        drawn = [self._draw(member, args, kwargs) for member in range(len(self.generators))]
        return args[0] if self.in_place else torch.cat(drawn)

    def _draw(self, member: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        own = tuple(self._part(value, member) for value in args)
        generator = self.generators[member]
        if self.takes_generator:
            return self.operation(*own, **kwargs, generator=generator)
        before = torch.get_rng_state()
        torch.set_rng_state(generator.get_state())
        try:
            return self.operation(*own, **kwargs)
        finally:
            generator.set_state(torch.get_rng_state())
            torch.set_rng_state(before)

    def _part(self, value: Any, member: int) -> Any:
        """One member's part of a tensor, or of the shape of a new one."""
        num_members = len(self.generators)
        if isinstance(value, Tensor) and value.dim():
            size = len(value) // num_members
            return value[member * size : (member + 1) * size]
        if isinstance(value, (list, tuple)):
            return [value[0] // num_members, *value[1:]]
        return value


def _with_generator(operation: Any) -> tuple[Any, bool]:
    """The form of an operation that takes a generator, and whether there is one."""
    if any(argument.name == "generator" for argument in operation._schema.arguments):
        return operation, True
    packet = operation.overloadpacket
    if "generator" in packet.overloads():
        return packet.generator, True
    return operation, False
