"""A guide fitted anew to other data, where its parameters belong to the data it was fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import nn

from pyrolvm.core import Data, evaluating
from pyrolvm.core.copying import copied
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.reachable import reachable_modules
from pyrolvm.core.sites import data_dim
from pyrolvm.core.summed_out import is_marked
from pyrolvm.fit import fit
from pyrolvm.guides import PerDatum
from pyrolvm.inference.rows import acts_on_rows_alone

Refit: TypeAlias = Callable[[Any, Data, int], Any]
"""``refit(model, data, seed)`` returns a guide fitted to these data; the model stays as it is."""

PROBED_ROWS = 3
LEARNING_RATE = 0.03
PARTICLES = 8


@dataclass(frozen=True)
class Reach:
    """Which data a guide can be asked about.

    Args:
        factorises: Whether each datum is one simulation.
        own_data_only: Why the guide has to be fitted anew to other data; empty where it has not.
    """

    factorises: bool
    own_data_only: str


def reach_of(model: Callable[..., Any], guide: Callable[..., Any], data: Data) -> Reach:
    """Find out whether a guide knows only the data that it was fitted to.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: What both take.
    """
    with own_randomness(0), evaluating(model, guide):
        rows = data.to(dtype=torch.float64)
        pair = run_once(model, guide, rows, is_marked)
        outside = [name for name, site in pair.all_sites() if data_dim(site) is None]
        some = torch.arange(min(PROBED_ROWS, rows.num_rows))
        if isinstance(guide, AutoGuide) or getattr(guide, "per_datum", False):
            why = f"the parameters of {type(guide).__name__} belong to the data it was fitted to"
        elif outside:
            why = (
                f"the site {outside[0]!r} lies outside the plate 'data', so that the guide is "
                "fitted to the data set as a whole"
            )
        elif not acts_on_rows_alone(model, guide, rows, some):
            why = "the guide has parameters for each place in the data"
        else:
            why = ""
    return Reach(not outside, why)


@dataclass(frozen=True)
class FitAgain:
    """Fits a copy of a guide to other data, from where it is; the model is frozen.

    A :class:`~pyrolvm.guides.PerDatum` guide starts anew.

    Args:
        guide: The guide; it stays as it is. A plain function has its parameters in Pyro's store.
        steps: Of the optimisation.
        learning_rate: Of Adam at the start.
        num_particles: Draws for each datum and step.
    """

    guide: Any
    steps: int = 1000
    learning_rate: float = LEARNING_RATE
    num_particles: int = PARTICLES

    def __call__(self, model: Any, data: Data, seed: int) -> Any:
        """Return the guide fitted to data."""
        guide = copied(self.guide)[0] if isinstance(self.guide, nn.Module) else self.guide
        if isinstance(guide, PerDatum) and data.only is not None:
            guide.initialise(data.only)
        fit(
            model, guide, data, steps=self.steps, learning_rate=self.learning_rate,
            num_particles=self.num_particles, train="guide", seed=seed, num_threads=None,
            progress=False,
        )  # fmt: skip
        return guide


@contextmanager
def given_back(guide: Any) -> Iterator[None]:
    """Let a guide be trained inside, and have its parameters again afterwards."""
    modules = reachable_modules(guide)
    before = [{n: v.clone() for n, v in module.state_dict().items()} for module in modules]
    store = pyro.get_param_store()
    state = store.get_state()
    params = {n: p.detach().clone().requires_grad_() for n, p in state["params"].items()}
    inside: Any = {"params": params, "constraints": dict(state["constraints"])}
    try:
        with store.scope(inside):
            yield
    finally:
        for module, values in zip(modules, before, strict=True):
            module.load_state_dict(values)
