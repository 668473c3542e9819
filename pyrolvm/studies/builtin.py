"""The studies that come with PyroLVM: one TOML file each, beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path

from pyrolvm.core import UnknownNameError
from pyrolvm.studies.toml_file import DEFAULT_SIZE, StudyFile, read_study_file

SUFFIX = ".toml"


def builtin_names() -> tuple[str, ...]:
    """Names of the built-in studies, sorted."""
    found = (each.name for each in files("pyrolvm.studies").iterdir())
    return tuple(sorted(name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX)))


def descriptions() -> Mapping[str, str]:
    """What each built-in study asks, by name."""
    folder = files("pyrolvm.studies")
    texts = {name: (folder / f"{name}{SUFFIX}").read_text("utf-8") for name in builtin_names()}
    return {name: str(tomllib.loads(t).get("description", "")) for name, t in texts.items()}


def read_builtin(name: str, size: str = DEFAULT_SIZE) -> StudyFile:
    """Read a built-in study.

    Args:
        name: One of :func:`builtin_names`.
        size: One of its sizes.

    Raises:
        UnknownNameError: If there is no such study, or not in this size.
    """
    if name not in builtin_names():
        raise UnknownNameError("study", name, builtin_names())
    with as_file(files("pyrolvm.studies") / f"{name}{SUFFIX}") as path:
        return read_study_file(Path(path), size)
