"""``pyrolvm diagnose``, used as a user does: a pair of one's own, found in the current folder."""

from __future__ import annotations

import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyro
import pytest
import torch

import pyrolvm as lvm
from pyrolvm.cli import main
from pyrolvm.core.named_programs import importing_from
from pyrolvm.diagnostics import arviz_export

ROOT = Path(__file__).parent
made = runpy.run_path(str(ROOT / "report" / "synthetic_diagnosis.py"))

PAIR = """
import pyro
import pyro.distributions as dist
import torch

def model(y):
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

def guide(y):
    slope = pyro.param("slope", torch.tensor(0.0))
    with pyro.plate("data", len(y)):
        pyro.sample("z", dist.Normal(slope * y, 0.5**0.5))
"""
"""The exact guide, once its slope is 0.5."""
NAMES = ("g_pair:model", "g_pair:guide", "data.npz")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pyro.clear_param_store()
    Path("g_pair.py").write_text(PAIR, encoding="utf-8")
    np.savez("data.npz", y=np.linspace(-2, 2, 20))
    yield
    pyro.clear_param_store()
    sys.modules.pop("g_pair", None)


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of ``lvm.diagnose``, which answers with made-up numbers."""
    calls = []

    def diagnose(model, guide, data, **settings):
        slope = dict(pyro.get_param_store().items()).get("slope")
        calls.append({"data": data, "slope": slope, **settings})
        return SimpleNamespace(tree=made["small_tree"]())

    monkeypatch.setattr("pyrolvm.runs_diagnose.diagnose", diagnose)
    return calls


@pytest.fixture
def weights():
    """Weights of the trained pair, in a file."""
    with importing_from(Path.cwd()):
        pair = __import__("g_pair")
    pair.guide(torch.zeros(1))
    pyro.get_param_store()["slope"] = torch.tensor(0.5)
    lvm.save_weights(pair.model, pair.guide, "weights.safetensors")
    pyro.clear_param_store()
    return "weights.safetensors"


def run(*arguments):
    """Run the command line in this process; returns the exit code."""
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code or 0
    return 0


def refused(capsys, *arguments):
    """Run a command that must be refused; returns its sentence."""
    assert run("diagnose", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (sentence,) = captured.err.strip().splitlines()
    return sentence


def test_the_verdict_is_printed_and_the_folder_is_whole(asked, weights, capsys):
    options = ["--state", weights, "--particles", "300", "--effort", "quick", "--seed", "3"]
    assert run("diagnose", *NAMES, *options, "--out", "run") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("NOT TRUSTED: the guide is too narrow, ignores correlation")
    assert "What to try next:" in printed
    assert "Report: run/report.html" in printed
    names = {path.name for path in Path("run").rglob("*")}
    assert names == {"report.html", "diagnosis.nc", "findings.csv", "config.json"}
    assert list(pd.read_csv("run/findings.csv")["sentence"]) == [f.sentence for f in made["BAD"]]
    assert arviz_export.load("run/diagnosis.nc").attrs["model"] == "g_pair:model"
    assert "g_pair:guide" in Path("run/report.html").read_text(encoding="utf-8")
    (call,) = asked
    assert call["data"].shape == (20,)
    assert call["slope"].item() == 0.5
    assert (call["num_particles"], call["effort"], call["seed"]) == (300, "quick", 3)


def test_a_finished_diagnosis_prints_its_stored_result(asked, capsys):
    assert run("diagnose", *NAMES, "--out", "run") == 0
    first = capsys.readouterr().out
    assert run("diagnose", *NAMES, "--out", "run") == 0
    assert capsys.readouterr().out == f"run is finished; this is its stored result.\n{first}"
    assert len(asked) == 1


def test_other_programs_under_the_same_name_are_another_diagnosis(asked, capsys):
    assert run("diagnose", *NAMES, "--out", "run") == 0
    capsys.readouterr()
    Path("g_pair.py").write_text(PAIR.replace("0.5**0.5", "0.1"), encoding="utf-8")
    assert "another configuration" in refused(capsys, *NAMES, "--out", "run")


def test_the_page_is_rebuilt_from_the_stored_numbers(asked, capsys):
    assert run("diagnose", *NAMES, "--out", "run") == 0
    page = Path("run/report.html").read_bytes()
    Path("run/report.html").unlink()
    capsys.readouterr()
    assert run("report", "run") == 0
    assert capsys.readouterr().out == "run/report.html\n"
    assert Path("run/report.html").read_bytes() == page


def test_an_interrupted_run_leaves_nothing_half_written(asked, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyrolvm.runs_diagnose.diagnose", interrupt)
        assert run("diagnose", *NAMES, "--out", "run") == 130
    assert [path.name for path in Path("run").iterdir()] == ["config.json"]
    assert run("report", "run") == 2
    assert "is not finished" in capsys.readouterr().err
    assert run("diagnose", *NAMES, "--out", "run") == 0
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("g_nowhere:model", *NAMES[1:]), "module 'g_nowhere' was not found"),
        ((NAMES[0], "g_pair:gide", NAMES[2]), "'g_pair' has no 'gide'"),
        ((NAMES[0], "g_pair:torch", NAMES[2]), "should be a Pyro program"),
        ((*NAMES[:2], "nowhere.npz"), "nowhere.npz is no file"),
    ],
)
def test_what_cannot_be_found_is_one_sentence(asked, capsys, names, message):
    assert message in refused(capsys, *names, "--out", "run")
    assert not Path("run").exists()
    assert not asked


def test_weights_of_another_pair_are_one_sentence(asked, weights, capsys):
    Path("g_pair.py").write_text(PAIR.replace('"slope"', '"weight"'), encoding="utf-8")
    sys.modules.pop("g_pair")
    assert "'store.slope' is of shape () in the file, but absent in the programs" in refused(
        capsys, *NAMES, "--state", weights, "--out", "run"
    )
    assert not Path("run").exists()


def test_a_pickle_is_one_sentence_and_runs_nothing(asked, capsys):
    class Payload:
        def __reduce__(self):
            return os.mkdir, ("it_ran",)

    Path("weights.pt").write_bytes(pickle.dumps(Payload()))
    assert "pyrolvm.save_weights" in refused(capsys, *NAMES, "--state", "weights.pt")
    assert not Path("it_ran").exists()


def test_a_folder_with_other_files_is_refused_and_untouched(asked, capsys):
    Path("run").mkdir()
    Path("run/thesis.tex").touch()
    assert "files that are not a run" in refused(capsys, *NAMES, "--out", "run")
    assert [path.name for path in Path("run").iterdir()] == ["thesis.tex"]


def test_the_whole_way_in_a_process_of_its_own(weights):
    command = [sys.executable, "-m", "pyrolvm.cli", "diagnose", *NAMES, "--state", weights,
               "--effort", "quick", "--out", "run"]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("TRUSTED")
    tree = arviz_export.load("run/diagnosis.nc")
    assert np.all(tree["importance"]["khat"].values < 0.3)
    assert "Trusted" in Path("run/report.html").read_text(encoding="utf-8")


def test_help_shows_an_example(capsys):
    assert run("diagnose", "--help") == 0
    assert "pyrolvm diagnose my_module:model my_module:guide data.npz" in capsys.readouterr().out
