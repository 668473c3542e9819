"""The command that trains belief networks by several objectives, in its smallest size."""

from __future__ import annotations

import pytest

from pyrolvm.cli import main


def test_it_leaves_a_page_figures_a_table_and_the_trained_models(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["study", "helmholtz", "--size", "smoke", "--data", "bars", "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "reweighted wake-sleep" in said
    assert "figures mean nothing yet" in said
    assert {path.name for path in tmp_path.iterdir()} == {
        "cells", "cells.csv", "differences.csv", "figures", "helmholtz.html",
    }  # fmt: skip
    assert len(list(tmp_path.glob("cells/*/weights.safetensors"))) == 2
    assert {path.name for path in tmp_path.glob("figures/*.svg")} == {
        "ess_against_likelihood.svg", "overlap_by_objective.svg", "validation_curves.svg",
        "draws_bars.svg", "completed_bars.svg",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "bas"], ["'bas'", "Did you mean 'bars'"]),
        (["--data", "circle"], ["'circle'", "zeros and ones"]),
        (["--data", ","], ["--data needs names"]),
        (["--objectives", "rw"], ["'rw'", "Did you mean 'rws'"]),
        (["--size", "tiny"], ["'tiny'", "smoke"]),
        (["--depths", "two"], ["--depths", "'two'", "1,2,4,6"]),
        (["--depths", "0"], ["depth", "at least 1"]),
        (["--seeds", "one"], ["--seeds", "0,1,2", "'one'"]),
        (["--rates", "0"], ["--rates", "above 0"]),
        (["--device", "abacus"], ["'abacus'", "--device"]),
        (["--jobs", "2"], ["--objectives", "--depths"]),
        (["--grid", "3"], ["--grid", "rate-plane"]),
    ],
)
def test_bad_input_is_one_sentence(options, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["study", "helmholtz", *options, "--out", str(tmp_path / "new")])
    said = capsys.readouterr().err
    assert raised.value.code == 2
    assert said.startswith("pyrolvm: ")
    assert said.count("\n") == 1
    for word in words:
        assert word in said
    assert not (tmp_path / "new").exists()


def test_its_options_are_refused_elsewhere(capsys):
    with pytest.raises(SystemExit):
        main(["study", "rate-plane", "--depths", "1,2"])
    assert "--seeds, --rates, --device are for helmholtz only" in capsys.readouterr().err
