"""What ``pyrolvm study`` does: find the study, run it, and say what failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyrolvm.core import RunFolderError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies.builtin import SUFFIX, builtin_names
from pyrolvm.studies.store import STUDY
from pyrolvm.studies.study import Study, StudyResult


def run_study(
    study: Study, size: str, out: Path | None, **options: Any
) -> tuple[StudyResult, list[str]]:
    """Run a study in its folder.

    Args:
        study: What to run.
        size: Which of its sizes it is, for the name of the folder.
        out: Folder; by default named by study and size, so that the same command goes on.
        **options: Of :meth:`pyrolvm.studies.Study.run`.

    Returns:
        The result, and one line for each failed cell.
    """
    result = study.run(out=out or Path(f"{study.default_folder}-{size}"), **options)
    cells = {cell.key: cell for cell in study.cells}
    lines = [
        f"{cells[key].label}: {error.strip().splitlines()[-1]} "
        f"({result.folder / 'failed' / key / 'error.txt'})"
        for key, error in result.failures.items()
    ]
    return result, lines


def find_study(given: str, size: str, others: Sequence[str] = ()) -> Study:
    """Take a built-in study by name, or read a study file.

    Args:
        given: Name or path.
        size: One of the study's sizes.
        others: Further names that the message about an unknown one should offer.

    Raises:
        UnknownNameError: If it is neither, naming the nearest built-in study.
        SettingError: If a file of that name is not there.
    """
    if given in builtin_names():
        return Study.builtin(given, size)
    path = Path(given)
    if path.suffix == SUFFIX or len(path.parts) > 1:
        if not path.is_file():
            raise SettingError(f"There is no study file {path}.")
        return Study.from_toml(path, size)
    raise UnknownNameError("study", given, (*builtin_names(), *others))


def refuse_study_folder(folder: Path) -> None:
    """Say how the page of a study is built anew, where a folder is a study's.

    Raises:
        RunFolderError: If it is; finished cells are only read, so that the command is quick.
    """
    file = folder / STUDY
    if not file.is_file():
        return
    try:
        name = json.loads(file.read_text(encoding="utf-8")).get("name", "")
    except (OSError, ValueError, AttributeError):
        name = ""
    given = name if name in builtin_names() else f"{name or 'my_study'}{SUFFIX}"
    raise RunFolderError(
        f"{folder} is the folder of the study {name or '?'}: its page comes from its own command, "
        f"pyrolvm study {given} --out {folder} (with the --size that it had). Finished cells are "
        "read, not run again."
    )
