"""Which kind of step ``fit`` takes: a plain one, or a captured one that is compiled where it pays.

The choice follows from the size of the program and the number of steps, not from a clock: the same
fit takes the same kind of step every time, as long as the cache of compiled programs is the same.
"""

from __future__ import annotations

from typing import Any, Literal

from pyro.infer import SVI
from pyro.optim import PyroOptim

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives.compiled.compiled_svi import CompiledSVI
from pyrolvm.objectives.objective import Objective

Compile = Literal["auto"] | bool
FEWEST_STEPS = 3000
"""Steps below which a capture takes longer than it saves."""


def checked_choice(choice: Compile) -> Compile:
    """Refuse what is not a choice.

    Raises:
        SettingError: If it is neither "auto", nor True, nor False.
    """
    if not (choice == "auto" or choice is True or choice is False):
        raise SettingError(f"compile should be 'auto', True or False, but it is {choice!r}.")
    return choice


def svi_for(
    choice: Compile, model: Any, guide: Any, optim: PyroOptim, objective: Objective, steps: int
) -> SVI:
    """Return what takes the steps of a fit.

    Args:
        choice: Whether to compile.
        model: A Pyro program.
        guide: A Pyro program.
        optim: The optimizer.
        objective: What is minimised.
        steps: Number of steps to come.
    """
    if choice is False or (choice == "auto" and steps < FEWEST_STEPS):
        return SVI(model, guide, optim, objective.loss, objective.loss_and_grads)
    is_auto = choice == "auto"
    return CompiledSVI(
        model, guide, optim, objective.unchecked,
        num_steps=steps if is_auto else None, plain=objective, quiet=is_auto,
    )  # fmt: skip


def choice_in_words(choice: Compile, svi: SVI) -> str:
    """Say what was done with the steps of a fit, and why."""
    if isinstance(svi, CompiledSVI):
        return svi.how
    if choice is False:
        return "plain steps, as compile=False asks for"
    return f"plain steps: for fewer than {FEWEST_STEPS} a capture takes longer than it saves"
