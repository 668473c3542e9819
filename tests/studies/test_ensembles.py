"""Cells that are trained together: which they are, and that they come out as alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.studies import training_together, worker
from pyrolvm.studies.ensembles import MOST_MEMBERS, STEPS_TO_COMPILE, members_of
from pyrolvm.studies.training import train_pair

FIGURES = ("elbo", "log_evidence", "gap")


def run(study, out, **options):
    return study.run(out=out, progress=False, **options)


def result_files(out):
    """Everything that must not depend on when and where a study ran."""
    return {
        path.relative_to(out): path.read_bytes()
        for pattern in ("cells/*/result.json", "cells/*/config.json", "cells/*/per_datum.json")
        for path in out.glob(pattern)
    }


@pytest.fixture
def seeds(tiny):
    """A study of two ensembles of four cells."""

    def make(**changes):
        axes = {"seed": [0, 1], "model_seed": [0, 1], "guide": ["full:affine", "diagonal:affine"]}
        return tiny(**({"ensemble": "batched", "steps": 30, "batch_size": 8} | axes | changes))

    return make


def test_cells_that_differ_in_their_seeds_only_are_one_ensemble(seeds):
    cells = seeds().cells
    assert len(cells) == 8
    assert len({cell.ensemble for cell in cells}) == 2
    for cell in cells:
        members = members_of(cell.configuration)
        assert cell in members
        assert {each.ensemble for each in members} == {cell.ensemble}
        assert {each.key for each in members} <= {each.key for each in cells}


def test_cells_that_do_not_ask_are_what_they_were(seeds):
    before = seeds(ensemble="none").cells[0]
    assert "ensemble" not in before.configuration
    assert before.ensemble is None
    assert seeds(ensemble="batched", seed=0, model_seed=0).cells[0] == before  # nobody beside it


def test_a_large_ensemble_is_split_into_equal_parts(seeds):
    cells = seeds(seed=list(range(MOST_MEMBERS + 2)), model_seed=0, guide="full:affine").cells
    sizes = [len(members_of(cell.configuration)) for cell in cells]
    assert sizes == [MOST_MEMBERS // 2 + 1] * (MOST_MEMBERS + 2)


@pytest.mark.parametrize(
    ("steps", "kind"), [(STEPS_TO_COMPILE - 1, "batched"), (STEPS_TO_COMPILE, "compiled")]
)
def test_the_number_of_steps_decides_whether_to_compile(seeds, steps, kind):
    cells = seeds(ensemble="auto", steps=steps).cells
    assert {cell.configuration["ensemble"] for cell in cells} == {kind}


def test_another_choice_is_refused(seeds):
    with pytest.raises(UnknownNameError, match="Did you mean 'compiled'"):
        seeds(ensemble="compile").cells  # noqa: B018 - reading them checks them


@pytest.mark.parametrize("changes", [{}, {"train": "both", "restarts": 2}, {"batch_size": 0}])
def test_a_cell_is_trained_as_it_is_alone(seeds, changes):
    cells = seeds(guide="full:affine", **changes).cells
    found, how = training_together.train_together(cells)
    assert how == "batched steps"
    assert len({trained.losses[0].item() for trained in found.values()}) == 4
    for cell in cells[1:3]:
        alone, together = train_pair(cell.configuration), found[cell.key]
        assert together.loss == pytest.approx(alone.loss, rel=1e-5)
        assert together.restart == alone.restart
        assert together.learns_generator == alone.learns_generator
        mine, theirs = (pair.guide.state_dict() for pair in (together, alone))
        for name, value in theirs.items():
            torch.testing.assert_close(mine[name], value, rtol=1e-3, atol=1e-4)


def test_whichever_cells_are_left_the_files_are_the_same(seeds, tmp_path):
    study = seeds()
    whole = run(study, tmp_path / "whole")
    assert len(whole.frame) == 8
    assert set(whole.provenance()["trained"]) == {"batched steps"}
    killed = tmp_path / "killed"
    wanted = result_files(tmp_path / "whole")
    assert len(wanted) == 24
    shutil.copytree(tmp_path / "whole", killed)
    for cell in study.cells[::3]:
        shutil.rmtree(killed / "cells" / cell.key)
    run(study, killed)
    assert result_files(killed) == wanted


def test_figures_are_those_of_cells_alone(seeds, tmp_path):
    together = run(seeds(guide="full:affine"), tmp_path / "together").frame
    alone = run(seeds(guide="full:affine", ensemble="none"), tmp_path / "alone").frame
    for figure in FIGURES:
        assert together[figure].tolist() == pytest.approx(alone[figure].tolist(), rel=1e-4)


def test_an_interrupted_ensemble_keeps_the_cells_that_are_written(seeds, tmp_path, monkeypatch):
    study, real, measured = seeds(guide="full:affine"), worker.measure_cell, []

    def interrupted(*arguments):
        measured.append(arguments)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(worker, "measure_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path / "out")
    assert len(result_files(tmp_path / "out")) == 6
    run(study, tmp_path / "out")
    monkeypatch.setattr(worker, "measure_cell", real)
    run(study, tmp_path / "whole")
    assert result_files(tmp_path / "out") == result_files(tmp_path / "whole")


def test_cells_that_cannot_be_trained_together_are_trained_alone(seeds, tmp_path):
    study = seeds(guide="exact")
    result = run(study, tmp_path)
    assert len(result.frame) == 4
    assert all(how.startswith("alone: ") for how in result.provenance()["trained"])


def test_a_member_that_diverges_fails_alone(seeds, tmp_path, monkeypatch):
    study = seeds(guide="full:affine")
    real = training_together._best
    diverging = study.cells[2].configuration

    def best(attempts, settings, *spent):
        if attempts[0].configuration == diverging:
            attempts[0].member.stopped_at = 7
        return real(attempts, settings, *spent)

    monkeypatch.setattr(training_together, "_best", best)
    result = run(study, tmp_path)
    assert len(result.frame) == 3
    assert "NonFiniteLossError: Training stopped at step 7" in result.failures[study.cells[2].key]


def test_the_ensemble_of_a_cell_is_in_its_folder(seeds, tmp_path):
    study = seeds(guide="full:affine")
    run(study, tmp_path)
    for cell in study.cells:
        stored = json.loads((tmp_path / "cells" / cell.key / "config.json").read_text())
        assert stored["ensemble"] == "batched"
        assert stored["ensemble_members"] == "0:0 1:0 0:1 1:1"
