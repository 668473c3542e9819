"""What both contract suites need: isolation from other tests, and views of traces."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from safetensors.torch import load, save
from torch import Tensor, nn

from pyrolvm.core import Data
from pyrolvm.core.randomness import own_randomness


class Contract:
    """Runs each test with seed 0, validation on and a parameter store of its own.

    Attributes:
        size: Number of data N that the tests use.
    """

    size: int = 6

    def setup_method(self) -> None:
        """Isolate random numbers and Pyro's parameter store; called by pytest."""
        self._isolation = ExitStack()
        self._isolation.enter_context(own_randomness(0))
        self._isolation.enter_context(pyro.get_param_store().scope())
        self._isolation.enter_context(pyro.validation_enabled())

    def teardown_method(self) -> None:
        """Put everything back; called by pytest."""
        self._isolation.close()


def trace_of(program: Callable[..., Any], data: Data, *, scored: bool = True) -> Trace:
    """Run a program and, unless ``scored`` is false, compute the log density of each site."""
    trace = data.call(poutine.trace(program).get_trace)
    if scored:
        trace.compute_log_prob()
    return trace


def sample_sites(trace: Trace, *, observed: bool) -> dict[str, dict[str, Any]]:
    """Observed or latent sample sites of a trace, by name."""
    return {
        name: dict(site)
        for name, site in trace.nodes.items()
        if site["type"] == "sample"
        and not site_is_subsample(site)
        and site["is_observed"] == observed
    }


def in_particles(program: Callable[..., Any], count: int, dim: int = -2) -> Callable[..., Any]:
    """Wrap a program in a plate of particles."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with pyro.plate("particles", count, dim=dim):
            return program(*args, **kwargs)

    return run


def held_at(program: Callable[..., Any], values: dict[str, Tensor]) -> Callable[..., Any]:
    """Fix the latent sites of a program at these values."""
    return poutine.condition(program, data=values)


def through_safetensors(source: nn.Module, target: nn.Module) -> None:
    """Save one module's state and load it into another, as run folders do."""
    target.load_state_dict(load(save({n: t.contiguous() for n, t in source.state_dict().items()})))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copy a module's state."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Names of the parameters that differ from a snapshot."""
    now = dict(module.named_parameters())
    return {name for name, value in now.items() if not torch.equal(value.detach(), before[name])}


def has_docstring(kind: type) -> bool:
    """Whether a class says what it is."""
    return len((kind.__doc__ or "").strip()) > 20
