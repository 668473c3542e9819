r"""One run of model, guide and objective as a graph of tensor operations.

.. math:: (\theta, \text{buffers}, \beta, x) \mapsto
          (\mathcal L, \nabla_\theta \mathcal L, \text{terms})

The ordinary Pyro step is run once while its tensor operations are recorded, with the parameters,
recognised where Pyro meets them, as inputs, and with the gradient taken inside. Random numbers
stay operations of the graph: it draws the same ones as the step itself does from the same seed. It
is captured twice, the second time from other data, parameters and random numbers; where the graphs
differ, the step is not one fixed program and is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives.compiled.call import Call
from pyrolvm.objectives.compiled.errors import CaptureError
from pyrolvm.objectives.compiled.graph import difference, refuse_writes, tidy
from pyrolvm.objectives.compiled.guard import has_hooks
from pyrolvm.objectives.compiled.losses import (
    KNOWN_ELBOS,
    StepValues,
    evaluate,
    step_numbers,
    step_values,
    unvectorised,
)
from pyrolvm.objectives.compiled.state import ProgramState
from pyrolvm.objectives.compiled.tracer import trace
from pyrolvm.objectives.compiled.trial import nudged, unchanged

_ONE_AT_A_TIME = threading.RLock()
"""Captures put stand-ins in Pyro's functions, one after another."""


@dataclass(frozen=True)
class Captured:
    """A step up to its gradients, as a function of tensors.

    Args:
        graph: Takes parameters, fixed tensors, numbers (0-dimensional, double) and the tensors of
            the call, all in one row; gives the loss, one gradient for each parameter, and terms.
        parameters: What learns, and has a gradient.
        fixed: Buffers, frozen parameters and other tensors that the graph reads.
        numbers: Names of what the objective changes from step to step.
        terms: Names of what the objective remembers of a step.
        call: The form of the call.
        state: What the programs hold.
    """

    graph: GraphModule
    parameters: tuple[Tensor, ...]
    fixed: tuple[Tensor, ...]
    numbers: tuple[str, ...]
    terms: tuple[str, ...]
    call: Call
    state: ProgramState

    @torch.no_grad()
    def __call__(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
        numbers: Mapping[str, float] | None = None,
    ) -> StepValues:
        """Run the graph with the parameters as they stand.

        Raises:
            CaptureError: If the call has another form than the one that was captured.
        """
        tensors = self.call.tensors(args, kwargs or {})
        if tensors is None:
            raise CaptureError("the call has another form than the one that was captured")
        given = [torch.tensor((numbers or {})[name], dtype=torch.float64) for name in self.numbers]
        loss, *rest = self.graph(*self.parameters, *self.fixed, *given, *tensors)
        count = len(self.parameters)
        return StepValues(loss, rest[:count], dict(zip(self.terms, rest[count:], strict=True)))


def capture(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    loss: ELBO | Callable[..., Tensor],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    parameters: Sequence[Tensor] | None = None,
) -> Captured:
    """Capture a step of SVI up to its gradients, and leave everything else as it was.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        loss: An objective of PyroLVM or of Pyro, or ``loss(model, guide, *args) -> Tensor``.
        args: Positional arguments of a step.
        kwargs: Its arguments by name.
        parameters: Leaf tensors that learn; None for all that Pyro meets and that require
            gradients.

    Raises:
        CaptureError: If a step is not one fixed program of tensors; says why.
    """
    kwargs = dict(kwargs or {})
    _refuse_objective(loss)
    programs = [model, guide] if isinstance(loss, ELBO) else [model, guide, loss]
    objects = [leaf for leaf in tree_leaves((args, kwargs)) if not isinstance(leaf, Tensor)]
    state = ProgramState(*programs, *objects, settings=loss)
    hooked = state.hooked()
    if hooked is not None:
        raise CaptureError(f"{type(hooked).__name__} has hooks")
    with _ONE_AT_A_TIME, own_randomness(), unchanged(state), pyro.validation_enabled(False):
        with poutine.trace(param_only=True) as met, poutine.block(hide_types=["sample"]):
            evaluate(loss, model, guide, args, kwargs)
        learning = _learning(met.trace, parameters)
        if unvectorised(loss, model, guide, args, kwargs):
            raise CaptureError("its particles run one after another")
        call = Call(args, kwargs)
        tensors = call.tensors(args, kwargs)
        if tensors is None:
            raise CaptureError(
                "an argument is a tensor that requires gradients, is sparse, or of a subclass"
            )
        tracer = _Tracer(model, guide, loss, call, learning, state, step_numbers(loss))
        captured = tracer.capture(tensors)
        with nudged(learning):
            again = tracer.capture([_rolled(tensor) for tensor in tensors])
    found = difference(captured.graph, again.graph)
    if found is not None:
        raise CaptureError(f"what it computes depends on values: {found}")
    return captured


def _refuse_objective(loss: Any) -> None:
    if isinstance(loss, ELBO) and type(loss) not in KNOWN_ELBOS:
        raise CaptureError(f"{type(loss).__name__} is not an objective that can be captured")


def _learning(trace: poutine.Trace, parameters: Sequence[Tensor] | None) -> list[Tensor]:
    values: list[Any] = [site["value"] for site in trace.nodes.values()]
    met = {id(p): p for p in (value.unconstrained() for value in values)}
    if parameters is not None:
        met = {id(p): p for p in parameters if id(p) in met}
    learning = [p for p in met.values() if p.requires_grad]
    if not learning:
        raise CaptureError("nothing learns")
    if any(map(has_hooks, learning)):
        raise CaptureError("a parameter has hooks")
    return learning


@dataclass(frozen=True)
class _Tracer:
    model: Any
    guide: Any
    loss: Any
    call: Call
    learning: list[Tensor]
    state: ProgramState
    numbers: dict[str, float]

    def capture(self, tensors: list[Tensor]) -> Captured:
        """Run the step once under the tracer."""
        given = {id(tensor) for tensor in (*self.learning, *tensors)}
        fixed = [tensor for tensor in self.state.tensors() if id(tensor) not in given]
        numbers = [torch.tensor(value, dtype=torch.float64) for value in self.numbers.values()]
        counts = [len(self.learning), len(fixed), len(numbers), len(tensors)]
        has_gradient: list[bool] = []
        terms: list[str] = []

        def step(*flat: Tensor) -> tuple[Tensor, ...]:
            learning, _, given, batch = _split(flat, counts)
            args, kwargs = self.call.rebuilt(batch)
            values = step_values(
                self.loss, self.model, self.guide, args, kwargs, learning,
                dict(zip(self.numbers, given, strict=True)),
            )  # fmt: skip
            has_gradient[:] = [gradient is not None for gradient in values.gradients]
            terms[:] = values.terms
            found = [gradient for gradient in values.gradients if gradient is not None]
            return (values.loss, *found, *values.terms.values())

        try:
            graph = trace(step, [*self.learning, *fixed, *numbers, *tensors])
        except CaptureError as error:  # to which Pyro adds the shapes of its trace
            raise CaptureError(str(error).splitlines()[0]) from error
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            raise CaptureError(f"it cannot be traced: {reason}") from error
        tidy(graph)
        refuse_writes(graph)
        own = (*self.learning, *fixed)
        kept = _ordered_inputs(graph, has_gradient, len(own))
        count = sum(has_gradient)
        return Captured(
            graph,
            tuple(own[place] for place in kept[:count]),
            tuple(own[place] for place in kept[count:]),
            tuple(self.numbers),
            tuple(terms),
            self.call,
            self.state,
        )


def _split(flat: Sequence[Tensor], counts: Sequence[int]) -> list[list[Tensor]]:
    parts, start = [], 0
    for count in counts:
        parts.append(list(flat[start : start + count]))
        start += count
    return parts


def _ordered_inputs(graph: GraphModule, has_gradient: Sequence[bool], num_own: int) -> list[int]:
    """Put inputs with a gradient first, drop unused ones of the programs, and say which stay."""
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    learning = [place for place, has in enumerate(has_gradient) if has]
    fixed = [p for p in range(num_own) if p not in learning and inputs[p].users]
    kept = [*learning, *fixed]
    anchor = next(node for node in graph.graph.nodes if node.op != "placeholder")
    for node in (*[inputs[place] for place in kept], *inputs[num_own:]):
        anchor.prepend(node)
    for place in set(range(num_own)) - set(kept):
        graph.graph.erase_node(inputs[place])
    graph.recompile()
    return kept


def _rolled(tensor: Tensor) -> Tensor:
    """Return other data of the same kind: the rows in another order."""
    return tensor.roll(1, 0) if tensor.dim() else tensor.clone()
