"""``pyrolvm study``, used as a user does."""

from __future__ import annotations

import pytest

from pyrolvm.cli import main
from pyrolvm.studies import Study, builtin_names

STUDY = """name = "mine"
[[grid]]
model = "linear-gaussian:1:obs_dim=2"
guide = ["exact", "moods_of_yours.make"]
data = "simulated:20"
steps = 2
test_size = 4
particles = 20
oracle_steps = 0
[sizes.smoke]
guide = "exact"
"""
FACTORY = """
def make(model):
    def guide(x=None, *, size=None):
        raise ArithmeticError("no guide today")
    return guide
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(STUDY, encoding="utf-8")
    (tmp_path / "moods_of_yours.py").write_text(FACTORY, encoding="utf-8")


def run(*arguments):
    """Run the command line in this process; returns the exit code."""
    try:
        main(["study", *arguments])
    except SystemExit as stop:
        return stop.code or 0
    return 0


def test_without_a_name_the_studies_and_the_keys_are_listed(capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in (*builtin_names(), "model_seed", "learning_rate"))


def test_an_unknown_name_is_refused_with_the_nearest(capsys):
    assert run("encoder-complexty") == 2
    assert "Did you mean 'encoder-complexity'?" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(capsys):
    assert run("nowhere.toml") == 2
    assert "no study file nowhere.toml" in capsys.readouterr().err


def test_a_study_has_a_folder_of_its_name_and_size_and_goes_on_there(capsys, tmp_path):
    assert run("mine.toml", "--size", "smoke") == 0
    assert "runs/study-mine-smoke/frame.csv" in capsys.readouterr().out
    assert run("mine.toml", "--size", "smoke") == 0
    assert run("mine.toml", "--size", "smoke", "--no-resume") == 2
    assert "fresh start" in capsys.readouterr().err


def test_failures_are_named_at_the_end(capsys):
    assert run("mine.toml", "--out", "out") == 1
    error = capsys.readouterr().err
    assert "Failed cells: 1" in error
    assert "moods_of_yours.make, seed 0): ArithmeticError: no guide today" in error
    assert "error.txt" in error


def test_the_page_of_a_study_comes_from_its_own_command(capsys):
    assert run("mine.toml", "--size", "smoke", "--out", "out") == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["report", "out"])
    error = capsys.readouterr().err
    assert "pyrolvm study mine.toml --out out" in error
    assert "not run again" in error


def test_help_has_examples(capsys):
    assert run("--help") == 0
    assert "Example: pyrolvm study encoder-complexity --size smoke" in capsys.readouterr().out


@pytest.mark.parametrize("name", builtin_names())
@pytest.mark.parametrize("size", ["smoke", "default", "full"])
def test_every_cell_of_the_built_in_studies_can_run(name, size):
    study = Study.builtin(name, size)
    assert study.cells
    assert study.description


@pytest.mark.slow
@pytest.mark.parametrize("name", builtin_names())
def test_the_built_in_studies_run_in_their_smallest_size(name, tmp_path):
    result = Study.builtin(name, "smoke").run(out=tmp_path / "out", progress=False)
    assert not result.failures
