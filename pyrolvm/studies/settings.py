"""What a cell of a study can be told: every key, its default, its meaning.

This table is the documentation too: ``pyrolvm study`` prints it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.studies.ensembles import CHOICES as ENSEMBLES
from pyrolvm.studies.learners import LEARNERS
from pyrolvm.studies.objectives import OBJECTIVES

REQUIRED = object()


@dataclass(frozen=True)
class Setting:
    """One key of a cell.

    Args:
        default: Its value where the study does not say; :data:`REQUIRED` where it has to.
        meaning: One line for the user.
        kind: Type of the value; None for a specification, which is read elsewhere.
        least: The smallest number that makes sense.
        below: A number that it has to stay below.
        choices: The words that it takes.
    """

    default: Any
    meaning: str
    kind: type[int] | type[float] | type[str] | None = None
    least: float = -math.inf
    choices: tuple[str, ...] = ()
    below: float = math.inf


SETTINGS: dict[str, Setting] = {
    "model": Setting(REQUIRED, 'the generator: "vae:2:64", a table {name = …}, or my.module.make'),
    "guide": Setting(REQUIRED, 'the guide: "full:64x64", a table {name = …}, or my.module.make'),
    "objective": Setting(
        "elbo", "what training the guide maximises or matches", str, choices=tuple(OBJECTIVES)
    ),
    "data": Setting(
        "simulated:1000",
        'rows drawn from the generator, or a data set ("circle", "digits:0-4") or file by name',
        str,
    ),
    "truth": Setting("", 'another generator that the simulated rows come from, like "model"'),
    "information": Setting(
        0.0, "nats that x tells of z; the noise is chosen so; 0: noise as given", float, 0.0
    ),
    "seed": Setting(0, "the attempt: simulated rows, first weights, minibatches, draws", int, 0),
    "model_seed": Setting(
        0, "the problem: the generator's weights, the split of a data set", int, 0
    ),
    "steps": Setting(2000, "training steps of the guide", int, 0),
    "batch_size": Setting(128, "rows in a minibatch; 0 takes all", int, 0),
    "learning_rate": Setting(3e-3, "step size of Adam at the start", float, 0.0),
    "num_particles": Setting(1, "draws for each datum and training step", int, 1),
    "restarts": Setting(1, "attempts from other first weights; the lowest loss is kept", int, 1),
    "train": Setting("guide", "what learns", str, choices=("guide", "both")),
    "model_steps": Setting(0, "steps that the generator is fitted to the data beforehand", int, 0),
    "model_learner": Setting(
        "svi",
        "how those steps are taken: with a helping encoder, or by the exact likelihood",
        str,
        choices=tuple(LEARNERS),
    ),
    "test_size": Setting(200, "rows that are scored", int, 2),
    "particles": Setting(1000, "draws of the guide for each scored datum", int, 20),
    "oracle_steps": Setting(800, "steps of the best member for each datum; 0: none", int, 0),
    "missing": Setting(
        0.0,
        "share of the entries of scored rows that are hidden, to be imputed",
        float,
        0.0,
        below=1.0,
    ),
    "outliers": Setting("", "a data set whose rows are to be told from those of data", str),
    "ensemble": Setting(
        "none",
        "whether cells that differ in their seeds only are trained as one program",
        str,
        choices=ENSEMBLES,
    ),
}


def check_keys(keys: Mapping[str, Any], where: str) -> None:
    """Refuse a key that cells do not have.

    Args:
        keys: Keys and values of a block.
        where: What it is a key of, for the message.

    Raises:
        UnknownNameError: Naming the nearest key.
    """
    for key in keys:
        if key not in SETTINGS:
            raise UnknownNameError(f"key of {where}", key, SETTINGS)


def checked(key: str, value: Any) -> Any:
    """Return one value of one key in its own type.

    Args:
        key: One of :data:`SETTINGS` that is no specification.
        value: What the study says.

    Raises:
        SettingError: If the value has another type, is too small, or is not one of the choices.
    """
    setting = SETTINGS[key]
    kind = setting.kind
    assert kind is not None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = number and (kind is float or value == int(value)) if kind is not str else True
    if not fits or (kind is str and not isinstance(value, str)):
        wanted = {int: "a whole number", float: "a number", str: "a word"}[kind]
        raise SettingError(f"{key} should be {wanted}, but it is {value!r}.")
    if kind is not str and not setting.least <= value < math.inf:
        raise SettingError(f"{key} should be at least {setting.least:g}, but it is {value!r}.")
    if kind is not str and value >= setting.below:
        raise SettingError(f"{key} should be below {setting.below:g}, but it is {value!r}.")
    if setting.choices and value not in setting.choices:
        raise UnknownNameError(key, value, setting.choices)
    return kind(value)


def table() -> list[tuple[str, str, str]]:
    """Key, default and meaning of every setting, for people."""
    return [
        (
            key,
            "required" if setting.default is REQUIRED else str(setting.default),
            setting.meaning + (f" ({', '.join(setting.choices)})" if setting.choices else ""),
        )
        for key, setting in SETTINGS.items()
    ]
