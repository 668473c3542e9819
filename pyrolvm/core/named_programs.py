"""Programs of a person's own, named as ``module:attribute`` and imported as Python does."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pyrolvm.core.errors import SettingError

FACTORY = "()"


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Look for modules in a folder first, inside the block."""
    place = str(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        if place in sys.path:
            sys.path.remove(place)


def named_program(name: str, role: str) -> Callable[..., Any]:
    """The program that a name stands for.

    Args:
        name: ``"my_module:model"`` (a function or a module of torch), or
            ``"my_module:make_model()"``: the function is called without arguments, and what it
            returns is the program. A dot reaches inside: ``"my_module:pairs.model"``.
        role: ``"model"`` or ``"guide"``, for the error messages.

    Raises:
        SettingError: If the module or the attribute is missing, raises, or is no program.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise SettingError(f"The {role} should be named as module:attribute, but it is {name!r}.")
    is_made = attribute.endswith(FACTORY)
    value = _attribute(_module(module_name, role), attribute.removesuffix(FACTORY), name, role)
    if is_made:
        value = _made(value, name, role)
    if isinstance(value, type):
        raise SettingError(
            f"The {role} {name} is a class; name an instance of it, or write {name}() to make one."
        )
    if not callable(value):
        raise SettingError(
            f"The {role} {name} should be a Pyro program (a function or a module), but it is of "
            f"type {type(value).__name__}."
        )
    return value


def source_files(*names: str) -> Iterator[Path]:
    """The files of the modules in which programs were found, each once."""
    for name in dict.fromkeys(name.partition(":")[0] for name in names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None and Path(file).is_file():
            yield Path(file)


def _module(name: str, role: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise SettingError(
                f"The {role}'s module {name!r} was not found: there is no such file or package in "
                "the current folder or among the installed packages."
            ) from error
        raise _raised(f"The {role}'s module {name!r} cannot be imported", error) from error
    except Exception as error:
        raise _raised(f"The {role}'s module {name!r} cannot be imported", error) from error


def _attribute(module: ModuleType, path: str, name: str, role: str) -> Any:
    value: Any = module
    for part in path.split("."):
        if not hasattr(value, part):
            offered = sorted(n for n, v in vars(module).items() if _is_own(n, v, module))
            raise SettingError(
                f"The {role} {name} was not found: {module.__name__!r} has no {path!r}; of its "
                f"own it has {', '.join(offered) or 'nothing that could be called'}."
            )
        value = getattr(value, part)
    return value


def _is_own(name: str, value: Any, module: ModuleType) -> bool:
    """Whether a name of a module is a program that the module itself made."""
    home = getattr(value, "__module__", None)
    is_function = isinstance(value, type) or hasattr(value, "__code__")
    return (
        not name.startswith("_")
        and callable(value)
        and (not is_function or home == module.__name__)
    )


def _made(factory: Any, name: str, role: str) -> Any:
    if not callable(factory):
        raise SettingError(
            f"The {role} {name} cannot be called: it is of type {type(factory).__name__}. "
            f"Leave out {FACTORY}."
        )
    try:
        return factory()
    except Exception as error:
        raise _raised(f"The {role} {name} cannot be made", error) from error


def _raised(what: str, error: Exception) -> SettingError:
    """One sentence of what a person's own code raised, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    place = ""
    if isinstance(error, SyntaxError):
        place = f" ({error.filename}, line {error.lineno})"
        return SettingError(f"{what}: SyntaxError: {error.msg}{place}.")
    if frames and not frames[-1].filename.startswith("<frozen"):
        place = f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return SettingError(f"{what}: {type(error).__name__}: {error}{place}.")
