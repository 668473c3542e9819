"""The command line, used as a user does: in a folder of its own, through its entry point."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pyrolvm.cli import app, main
from pyrolvm.diagnostics import arviz_export

SMALL = [
    "--model", "cpa-generator:1:6", "--data", "circle", "--steps", "30", "--particles", "40",
    "--guide", "amortized:diagonal:8", "--guide", "exact-cpa",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    """Run the command line in this process; returns the exit code."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refused(capsys, *arguments):
    """Run a command that must be refused; returns its sentence."""
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = captured.err.strip().splitlines()
    return sentence


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder in which a small comparison has run, and what the command printed."""
    folder = tmp_path_factory.mktemp("cli")
    command = [sys.executable, "-m", "pyrolvm.cli", "compare", *SMALL, "--out", "run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "run", done


def test_a_comparison_writes_a_whole_run_folder(finished):
    folder, done = finished
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    wanted = {
        "report.html",
        "comparison.nc",
        "table.csv",
        "config.json",
        "weights/model.safetensors",
    }
    assert wanted <= names
    pictures = {"figures/gap_bars.png", "figures/gap_bars.svg", "figures/posterior_contours.svg"}
    assert pictures <= names
    assert not [name for name in names if name.endswith(".part")]
    assert "amortized:diagonal:8" in done.stdout
    assert "Scored: circle" in done.stdout
    assert "step" in done.stderr  # progress bars


def test_files_have_the_modes_of_any_new_file(finished):
    folder, _ = finished
    (folder.parent / "any").touch()
    usual = (folder.parent / "any").stat().st_mode
    assert {path.stat().st_mode for path in folder.rglob("*") if path.is_file()} == {usual}


def test_a_finished_comparison_prints_its_stored_result(finished, capsys):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run("compare", *SMALL, "--out", str(folder)) == 0
    assert "stored result" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_folder_of_another_configuration_is_refused_and_untouched(finished, capsys):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    sentence = refused(capsys, "compare", *SMALL, "--seed", "1", "--out", str(folder))
    assert "another configuration" in sentence
    assert "seed is 0, not 1" in sentence
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_stored_config_repeats_the_run(finished, capsys):
    folder, _ = finished
    assert run("compare", "--config", str(folder / "config.json"), "--out", "again") == 0
    capsys.readouterr()
    first, second = (
        np.genfromtxt(place / "table.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
        for place in (folder, Path("again"))
    )
    for column in ("elbo", "gap", "log_evidence", "khat_share_above"):
        assert np.array_equal(first[column], second[column])


def test_the_report_is_rebuilt_from_the_stored_numbers(finished, capsys):
    folder, _ = finished
    page = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert run("report", str(folder)) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_bytes() == page


def test_an_interrupted_comparison_goes_on_to_the_same_result(finished, tmp_path):
    """Ctrl-C at some step; the same command then ends with the uninterrupted run's table."""
    folder, _ = finished
    command = [sys.executable, "-m", "pyrolvm.cli", "compare", *SMALL, "--out", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    checkpoints = tmp_path / "run" / "checkpoints"
    until = time.monotonic() + 60
    while not checkpoints.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on" in error.decode()
    assert not (tmp_path / "run" / "comparison.nc").exists()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps"] == 30
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (
        pd.read_csv(place / "table.csv").drop(columns=["ms_per_datum", "train_seconds"])
        for place in (folder, tmp_path / "run")
    )
    pd.testing.assert_frame_equal(first, second, rtol=1e-9, atol=1e-9)


def test_the_default_folder_is_named_by_the_configuration(capsys, tmp_path):
    assert run("fit", "--model", "vae:1:4", "--data", "circle", "--steps", "3") == 0
    assert run("fit", "--model", "vae:1:4", "--data", "circle", "--steps", "3", "--seed", "1") == 0
    folders = sorted((tmp_path / "runs").iterdir())
    assert len(folders) == 2
    assert all(re.fullmatch(r"fit-[0-9a-f]{12}", folder.name) for folder in folders)
    assert (folders[0] / "weights" / "pair.safetensors").exists()
    assert "nats a datum" in capsys.readouterr().out


def test_the_configuration_names_the_guides_that_were_chosen_for_the_user(tmp_path, capsys):
    arguments = ["compare", "--model", "linear-gaussian:1", "--data", "circle", "--steps", "2",
                 "--particles", "20", "--seed", str(2**63 - 1)]  # fmt: skip
    assert run(*arguments) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    chosen = json.loads((folder / "config.json").read_text())["guides"]
    assert {"full", "per-datum", "exact"} <= set(chosen)
    named = [part for name in chosen for part in ("--guide", name)]
    capsys.readouterr()
    assert run(*arguments, *named) == 0
    assert "stored result" in capsys.readouterr().out
    tree = arviz_export.load(folder / "comparison.nc")
    assert tree["per-datum/training"].sizes["step"] == 2
    assert tree.attrs["seed"] == 2**63 - 1


def test_a_file_of_ones_own_is_data_too(capsys, tmp_path):
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(40, 3)).astype("float32"))
    arguments = ["--model", "linear-gaussian:1", "--data", "mine.npy", "--steps", "5",
                 "--particles", "20", "--guide", "exact", "--out", "run"]  # fmt: skip
    assert run("compare", *arguments) == 0
    assert "held-out 20 % (8 of 40 rows)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["compare", "--guide", "fulll"], ["'fulll'", "Did you mean 'full'"]),
        (["compare", "--model", "vaee"], ["'vaee'", "Did you mean 'vae'"]),
        (["compare", "--data", "digit"], ["'digit'", "Did you mean 'digits'"]),
        (["compare", "--guide", "exact"], ["HasPosterior", "ExactCPA"]),
        (["compare", "--device", "nowhere"], ["--device nowhere", "--device cpu"]),
        (["compare", "--stepz", "3"], ["--stepz", "--steps"]),
        (["compare", "--steps", "many"], ["--steps", "many"]),
        (["compare", "--steps", "-1"], ["steps", "-1"]),
        (["compare", "--seed", "-1"], ["seed", "-1", "from 0 to 2**63 - 1"]),
        (["fit", "--seed", str(2**64)], ["seed", str(2**64), "from 0 to 2**63 - 1"]),
        (["compare", "--particles", "1"], ["particles", "2", "1"]),
        (["compare", "--data", "missing.npy"], ["missing.npy"]),
        (["compare", "--config", "nowhere"], ["config.json"]),
        (["report", "nowhere"], ["nowhere"]),
        (["data", "fetch", "digitz"], ["'digitz'", "'digits'"]),
        (["study", "rate-plan"], ["'rate-plan'", "Did you mean 'rate-plane'"]),
        (["study", "rate-plane", "--data", "digit"], ["'digit'", "Did you mean 'digits'"]),
        (["study", "rate-plane", "--data", "circle"], ["circle"]),
        (["study", "rate-plane", "--size", "tiny"], ["'tiny'", "smoke"]),
        (["study", "rate-plane", "--grid", "1"], ["grid", "2", "1"]),
        (["study", "rate-plane", "--jobs", "2"], ["--grid", "--network"]),
        (["study", "folding", "--grid", "3"], ["--grid", "rate-plane"]),
        (["study", "identifiable"], ["'identifiable'", "Did you mean 'identifiability'"]),
        (["study", "identifiability", "--data", "circle"], ["its own data", "'circle'"]),
        (["study", "identifiability", "--size", "tiny"], ["'tiny'", "smoke"]),
        (["study", "identifiability", "--jobs", "2"], ["--size and --out only"]),
        (["comparee"], ["comparee"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(capsys, tmp_path, arguments, parts):
    sentence = refused(capsys, *arguments)
    for part in parts:
        assert part in sentence
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_refused(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    assert "not a run" in refused(capsys, "compare", *SMALL, "--out", "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a place that nobody can write to")
def test_a_place_that_cannot_be_written_to_is_refused(capsys):
    assert "cannot be written" in refused(capsys, "compare", *SMALL, "--out", "/proc/run")


def test_a_file_as_folder_is_refused(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is a file" in refused(capsys, "compare", *SMALL, "--out", "file")


def test_a_truncated_checkpoint_is_refused_and_left_alone(capsys, tmp_path):
    place = tmp_path / "run" / "checkpoints" / "fit.safetensors"
    arguments = ["fit", "--model", "vae:1:4", "--data", "circle", "--steps", "3", "--out", "run"]
    assert run(*arguments) == 0
    capsys.readouterr()
    place.write_bytes(place.read_bytes()[:200])
    sentence = refused(capsys, *arguments)
    assert "truncated" in sentence
    assert place.stat().st_size == 200


def test_bad_data_names_the_row(capsys, tmp_path):
    values = np.zeros((10, 3), "float32")
    values[4, 1] = np.nan
    np.save(tmp_path / "bad.npy", values)
    assert "4" in refused(capsys, "compare", "--data", "bad.npy")


def examples():
    """Every example line of every command's help."""
    for name in (
        "compare",
        "fit",
        "report",
        "list",
        ("data", "list"),
        ("data", "fetch"),
        ("data", "where"),
    ):
        command = app[name] if isinstance(name, str) else app[name[0]][name[1]]
        text = str(command.default_command.__doc__)
        lines = re.findall(r"Example: (pyrolvm .*)", text)
        yield from ((name, line) for line in lines)


def test_every_command_shows_an_example():
    assert {name for name, _ in examples()} == {
        "compare", "fit", "report", "list", ("data", "list"), ("data", "fetch"), ("data", "where"),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["compare", "fit", "report", "list", "data list", "data fetch"])
def test_the_printed_help_shows_the_example(capsys, name):
    assert run(*name.split(), "--help") == 0
    assert f"Example: pyrolvm {name}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("line", [line for _, line in examples()])
def test_the_examples_of_the_help_are_valid_commands(line):
    command, bound, _ = app.parse_args(line.split()[1:], exit_on_error=False, print_error=False)
    assert callable(command)
    if "guide" in bound.arguments or "model" in bound.arguments:
        from pyrolvm.registry import make_guide, make_model

        model = make_model(bound.arguments.get("model", "cpa-generator:2:32"), obs_dim=2)
        chosen = bound.arguments.get("guide", ())
        for spec in [chosen] if isinstance(chosen, str) else chosen:
            make_guide(spec, model)


@pytest.mark.parametrize("arguments", [["list"], ["data", "list"], ["data", "where"], ["--help"]])
def test_the_short_commands_answer(capsys, arguments):
    assert run(*arguments) == 0
    assert len(capsys.readouterr().out) > 3


def test_the_list_says_which_guide_serves_which_model(capsys):
    run("list")
    text = " ".join(capsys.readouterr().out.split())
    assert "cpa-generator" in text
    assert "exact-cpa" in text
