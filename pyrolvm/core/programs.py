"""What a user hands over as model and guide: programs, not names, numbers or classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyrolvm.core.errors import NoDensityError, SettingError
from pyrolvm.core.guide import Guide


def require_pair(model: Any, guide: Any) -> None:
    """Refuse a model or a guide that is no Pyro program, and a guide that only draws.

    Raises:
        SettingError: Saying how to make a program of it.
        NoDensityError: If the guide has no log q(z | x).
    """
    _require_program("The model", model, "models.CPAGenerator(latent_dim=2, obs_dim=64)")
    family = repr(guide) if isinstance(guide, str) else '"full"'
    _require_program("The guide", guide, f"guides.Amortized(model, family={family})")
    if isinstance(guide, Guide) and not guide.has_density:
        raise NoDensityError(type(guide).__name__)


def require_guides(model: Any, guides: Any) -> None:
    """Refuse a model, or guides, that do not come as Pyro programs, the guides by name.

    Raises:
        SettingError: Naming the first that is none.
    """
    if not isinstance(guides, Mapping):
        raise SettingError(
            "compare needs guides by the names of their rows, but got a "
            f'{type(guides).__name__}. Pass a mapping such as {{"full": guide}}.'
        )
    if not guides:
        raise SettingError("compare needs at least one guide, but the mapping is empty.")
    for name, guide in guides.items():
        if not isinstance(name, str):
            raise SettingError(f"The name of a guide should be a text, but one is {name!r}.")
        require_pair(model, guide)


def _require_program(role: str, program: Any, example: str) -> None:
    if callable(program) and not isinstance(program, type):
        return
    came = repr(program)
    if isinstance(program, type):
        came, example = f"the class {program.__name__}", f"{program.__name__}(...)"
    raise SettingError(
        f"{role} should be a Pyro program (a function or a module), but it is {came}. "
        f"Build one first, for example {example}."
    )
