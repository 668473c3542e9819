"""Models and guides of a study: specifications and tables in one canonical form, and back.

The canonical form is a table with the name and every argument, defaults included, as JSON can hold
it; two ways to write the same thing give the same form and so the same cell.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.families import FAMILIES
from pyrolvm.registry import (
    GUIDES,
    MODELS,
    guide_arguments,
    model_arguments,
    with_default_encoder,
)

NAME, STANDARDISE = "name", "standardise"


def resolved_model(given: str | Mapping[str, Any], obs_dim: int | None) -> dict[str, Any]:
    """Canonical form of a model.

    Args:
        given: A specification, a table with a ``name``, or the import path of a factory.
        obs_dim: Width of the data; None where the model makes them.

    Raises:
        UnknownNameError: If the name or an argument is not known.
        SettingError: If an argument is missing, or no list where it should be one.
    """
    name, arguments = _name_and_arguments("model", given, model_arguments)
    if not is_import_path(name):
        takes = inspect.signature(MODELS[name]).parameters
        if "obs_dim" in takes and obs_dim is not None:
            arguments.setdefault("obs_dim", obs_dim)
        if "latent_dim" in takes and takes["latent_dim"].default is inspect.Parameter.empty:
            square = "obs_dim" not in takes and obs_dim is not None
            arguments.setdefault("latent_dim", obs_dim if square else 2)
        if "dim" in takes:
            arguments.setdefault("dim", 2 if obs_dim is None else obs_dim)
    factory = import_factory(name) if is_import_path(name) else MODELS[name]
    return {NAME: name, **_filled(name, factory, arguments)}


def resolved_guide(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Canonical form of a guide; see :func:`resolved_model`.

    Encoders of the registry that can be given the units of the training data have the key
    ``standardise``, which is true where it is not given.
    """
    name, arguments = _name_and_arguments("guide", given, guide_arguments)
    if is_import_path(name):
        return {NAME: name, **_filled(name, import_factory(name), arguments, skip=1)}
    kind = GUIDES[name]
    standardise = {}
    if callable(getattr(kind, "standardise_by", None)):
        standardise = {STANDARDISE: bool(arguments.pop(STANDARDISE, True))}
    filled = _filled(name, kind, with_default_encoder(kind, arguments), skip=1)
    return {NAME: name, **filled, **standardise}


def is_import_path(name: str) -> bool:
    """Whether a name is the import path of a user's own factory."""
    return "." in name and ":" not in name


def import_factory(path: str) -> Callable[..., Any]:
    """Import a user's own factory; modules of the working folder are found too.

    Args:
        path: For example ``"my_package.my_module.make_model"``.

    Raises:
        SettingError: If it cannot be imported, or cannot be called.
    """
    module, _, name = path.rpartition(".")
    here = os.getcwd()
    sys.path.append(here)
    try:
        factory = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SettingError(
            f"{path!r} is taken as the import path of your own factory, but it cannot be imported "
            f"({error}). Run from the folder of that module, or install its package."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(factory):
        raise SettingError(f"{path!r} should be a function or a class, but is {factory!r}.")
    return factory


def _name_and_arguments(
    what: str, given: Any, read: Callable[[str], tuple[str, dict[str, Any]]]
) -> tuple[str, dict[str, Any]]:
    table = {NAME: given} if isinstance(given, str) else dict(given)
    text = table.pop(NAME, None)
    if not isinstance(text, str):
        raise SettingError(f'A {what} needs a name: {{name = "…", …}}, but it is {given!r}.')
    if is_import_path(text):
        return text, table
    name, arguments = read(text)
    return name, {**arguments, **table}


def _filled(
    name: str, factory: Callable[..., Any], arguments: Mapping[str, Any], skip: int = 0
) -> dict[str, Any]:
    """All arguments of a factory with its defaults, in the order of its signature, as JSON."""
    parameters = dict(list(inspect.signature(factory).parameters.items())[skip:])
    parameters |= _family_options(parameters, arguments)
    open_ended = "family" not in parameters and any(
        p.kind is p.VAR_KEYWORD for p in parameters.values()
    )
    named = {
        n: p for n, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    for key in arguments:
        if key not in named and not open_ended:
            raise UnknownNameError(f"option of {name!r}", key, named)
    missing = [n for n, p in named.items() if p.default is p.empty and n not in arguments]
    if missing:
        shown = ", ".join(f"{n} = …" for n in missing)
        raise SettingError(
            f"{name} needs {', '.join(missing)}, which nothing tells: write "
            f'{{name = "{name}", {shown}}}.'
        )
    defaults = {n: p.default for n, p in named.items() if p.default is not p.empty}
    filled = {n: arguments.get(n, defaults.get(n)) for n in [*named, *arguments]}
    return {n: _as_json(name, n, value, defaults.get(n)) for n, value in filled.items()}


def _family_options(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the family of an encoder, which its own signature does not list."""
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if "family" not in parameters or not open_ended:
        return {}
    family = given.get("family", parameters["family"].default)
    if family not in FAMILIES:
        raise UnknownNameError("guide family", str(family), FAMILIES)
    options = inspect.signature(FAMILIES[family]).parameters
    return {n: p for n, p in options.items() if n != "dim"}


def _as_json(owner: str, key: str, value: Any, default: Any) -> Any:
    if isinstance(default, (tuple, list)) and not isinstance(value, (tuple, list)):
        raise SettingError(
            f"{key} of {owner!r} is a list, but here it is {value!r}. A list in a study is an "
            f"axis; one that is meant as a value is written {key} = [[…]]."
        )
    if isinstance(default, float) and isinstance(value, int):
        return float(value)
    if isinstance(value, (tuple, list)):
        return list(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise SettingError(
        f"{key} of {owner!r} is {value!r}, which a study cannot record: it takes numbers, words, "
        "truth values and lists of them."
    )
