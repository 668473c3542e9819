"""Run folders: named by their configuration, never mixed, never half written."""

from __future__ import annotations

import json

import pytest

from pyrolvm.core import RunFolderError
from pyrolvm.report.run_folder import (
    CONFIG,
    TREE,
    RunFolder,
    default_folder,
    read_config,
    repeated,
)

ASKED = {"command": "compare", "model": "vae", "guides": ["full"], "steps": 3}


def test_the_default_name_depends_on_the_configuration_alone():
    first = default_folder(ASKED)
    assert first == default_folder(dict(reversed(ASKED.items())))
    assert first != default_folder({**ASKED, "steps": 4})
    assert first.name.startswith("compare-")


def test_the_configuration_is_written_first_and_read_back(tmp_path):
    folder = RunFolder(tmp_path / "run", ASKED)
    assert read_config(folder.path) == ASKED
    assert not folder.is_finished


def test_a_folder_of_the_same_configuration_is_taken_again(tmp_path):
    RunFolder(tmp_path, ASKED)
    assert not RunFolder(tmp_path, dict(ASKED)).is_finished
    (tmp_path / TREE).touch()
    assert RunFolder(tmp_path, ASKED).is_finished


def test_another_configuration_is_refused_and_says_where_it_differs(tmp_path):
    RunFolder(tmp_path, ASKED)
    with pytest.raises(RunFolderError, match="steps is 3, not 9"):
        RunFolder(tmp_path, {**ASKED, "steps": 9})
    assert read_config(tmp_path) == ASKED


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not a run"):
        RunFolder(tmp_path, ASKED)
    assert not (tmp_path / CONFIG).exists()


def test_a_broken_configuration_is_refused(tmp_path):
    (tmp_path / CONFIG).write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        RunFolder(tmp_path, ASKED)


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_run_is_repeated_from_its_configuration(tmp_path, is_folder):
    (tmp_path / CONFIG).write_text(json.dumps({**ASKED, "data_digest": ""}))
    path = tmp_path if is_folder else tmp_path / CONFIG
    assert repeated(path, {**ASKED, "steps": 2000}, []) == ASKED


def test_a_repetition_takes_no_other_options(tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps(ASKED))
    with pytest.raises(RunFolderError, match="leave out steps"):
        repeated(tmp_path, ASKED, ["steps"])
    with pytest.raises(RunFolderError, match="not the configuration of a fit run"):
        repeated(tmp_path, {"command": "fit"}, [])
