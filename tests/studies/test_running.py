"""Running a study: resuming, failing, retrying, sharing a folder."""

from __future__ import annotations

import json
import sys

import pandas as pd
import pytest

from pyrolvm.core import RunFolderError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import Study, worker
from pyrolvm.studies.backends import BackendError
from pyrolvm.studies.frame import SECONDS
from pyrolvm.studies.store import Store

FACTORY = """
import os
import signal
from pathlib import Path
from pyrolvm.guides import Amortized

class Moody(Amortized):
    def __init__(self, model, breaks_at=-1, width=0):
        super().__init__(model, family="full", hidden=())
        self.breaks_at = breaks_at

    def forward(self, x=None, *, size=None):
        if self.breaks_at == 1 and Path(BROKEN).exists():
            raise ArithmeticError("the guide is in a bad mood")
        if self.breaks_at == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x, size=size)
"""


@pytest.fixture
def moody(tmp_path, monkeypatch, tiny):
    """A study of two cells, the second of which fails as long as the file "broken" exists."""
    monkeypatch.chdir(tmp_path)
    broken = f"BROKEN = {str(tmp_path / 'broken')!r}\n"
    (tmp_path / "moods_of_mine.py").write_text(broken + FACTORY)
    (tmp_path / "broken").touch()
    yield tiny(guide={"name": "moods_of_mine.Moody", "breaks_at": [0, 1]})
    sys.modules.pop("moods_of_mine", None)


def run(study, out, **options):
    return study.run(out=out, progress=False, **options)


def result_files(out):
    """Everything that must not depend on when and where a study ran."""
    return {
        path.relative_to(out): path.read_bytes()
        for pattern in ("cells/*/result.json", "cells/*/config.json", "cells/*/per_datum.json")
        for path in out.glob(pattern)
    }


def test_a_finished_cell_is_a_whole_folder(tiny, tmp_path):
    study = tiny()
    run(study, tmp_path)
    folder = tmp_path / "cells" / study.cells[0].key
    names = {"config.json", "result.json", "per_datum.json", "provenance.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "config.json").read_text()) == study.cells[0].configuration


def test_the_same_call_runs_nothing_again(tiny, tmp_path, monkeypatch):
    first = run(tiny(seed=[0, 1]), tmp_path)
    monkeypatch.setattr(worker, "measure_cell", None)
    again = run(tiny(seed=[0, 1]), tmp_path)
    pd.testing.assert_frame_equal(again.frame, first.frame)


def test_two_processes_and_a_resumed_study_give_the_same_files(tiny, tmp_path):
    study = tiny(seed=[0, 1, 2, 3], guide=["full:affine", "exact"], oracle_steps=2)
    whole = run(study, tmp_path / "whole")
    parallel = run(study, tmp_path / "parallel", n_jobs=2)
    run(tiny(seed=[2, 0]), tmp_path / "resumed")
    resumed = run(study, tmp_path / "resumed")
    wanted = result_files(tmp_path / "whole")
    assert len(wanted) == 24
    assert result_files(tmp_path / "parallel") == wanted
    for other in (parallel, resumed):
        frames = [each.frame.drop(columns=SECONDS) for each in (other, whole)]
        pd.testing.assert_frame_equal(*frames)


def test_a_larger_grid_of_the_same_name_shares_the_folder(tiny, tmp_path):
    run(tiny(seed=[0, 1]), tmp_path)
    smaller = run(tiny(seed=[1]), tmp_path)
    assert list(smaller.frame["seed"]) == [1]


def test_a_cell_that_fails_stops_no_other(moody, tmp_path):
    result = run(moody, tmp_path / "out", n_jobs=2)
    ((key, error),) = result.failures.items()
    assert key == moody.cells[1].key
    assert "ArithmeticError: the guide is in a bad mood" in error
    assert list(result.frame["guide.breaks_at"]) == [0]
    names = {path.name for path in (tmp_path / "out" / "failed" / key).iterdir()}
    assert names == {"config.json", "error.txt"}


def test_a_failed_cell_is_repeated_only_when_asked(moody, tmp_path):
    run(moody, tmp_path / "out")
    (tmp_path / "broken").unlink()
    assert run(moody, tmp_path / "out").failures
    mended = run(moody, tmp_path / "out", retry_failed=True)
    assert not mended.failures
    assert len(mended.frame) == 2
    assert not list((tmp_path / "out" / "failed").iterdir())


def test_a_process_that_dies_is_named_and_the_rest_is_kept(moody, tiny, tmp_path):
    guides = {"name": "moods_of_mine.Moody", "breaks_at": [0, 2]}
    deadly = tiny(guide=guides, steps=[1, 2])
    with pytest.raises(BackendError, match="has died, most likely for want of memory"):
        run(deadly, tmp_path / "out", n_jobs=2)
    assert not list((tmp_path / "out" / "failed").iterdir())


def test_a_cell_that_fails_again_keeps_the_latest_error(moody, tmp_path):
    run(moody, tmp_path / "out")
    (error,) = (tmp_path / "out").glob("failed/*/error.txt")
    error.write_text("an older error")
    run(moody, tmp_path / "out", retry_failed=True)
    assert "bad mood" in error.read_text()


def test_another_study_does_not_get_the_folder(tiny, tmp_path):
    run(tiny(), tmp_path)
    with pytest.raises(RunFolderError, match="belongs to the study 'tiny', not to 'other'"):
        run(tiny("other"), tmp_path)


def test_a_folder_with_other_files_is_left_alone(tiny, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match="not a study"):
        run(tiny(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_fresh_start_is_refused_where_cells_are(tiny, tmp_path):
    run(tiny(), tmp_path, resume=False)
    with pytest.raises(RunFolderError, match="fresh start"):
        run(tiny(), tmp_path, resume=False)


def test_a_damaged_result_is_named(tiny, tmp_path):
    study = tiny()
    run(study, tmp_path)
    (tmp_path / "cells" / study.cells[0].key / "result.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"result\.json cannot be read.*Delete the folder"):
        run(study, tmp_path)


def test_a_folder_that_was_renamed_by_hand_is_named(tiny, tmp_path):
    run(tiny(seed=0), tmp_path)
    other = tiny(seed=1)
    (cell,) = (tmp_path / "cells").iterdir()
    cell.rename(cell.with_name(other.cells[0].key))
    with pytest.raises(RunFolderError, match="another cell than its name says"):
        run(other, tmp_path)


def test_half_a_cell_is_swept_away_and_never_taken_for_one(tiny, tmp_path):
    study = tiny()
    Store(tmp_path).claim("tiny", {})
    part = tmp_path / "cells" / f".{study.cells[0].key}.12345.part"
    part.mkdir()
    (part / "result.json").write_text("{}")
    assert study.read(tmp_path).frame.empty
    assert len(run(study, tmp_path).frame) == 1
    assert not part.exists()


def test_what_cannot_be_written_leaves_no_half(tiny, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyrolvm.studies.store.os.fsync", full)
    with pytest.raises(RunFolderError, match=r"No space left.*the same command goes on"):
        run(tiny(), tmp_path)
    assert not list((tmp_path / "cells").iterdir())


def test_ctrl_c_leaves_the_lock_free_and_the_rest_to_come(tiny, tmp_path, monkeypatch):
    real = worker.measure_cell

    def interrupted(configuration):
        if configuration["seed"] == 1:
            raise KeyboardInterrupt
        return real(configuration)

    study = tiny(seed=[0, 1, 2])
    monkeypatch.setattr(worker, "measure_cell", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(study, tmp_path)
    assert len(list((tmp_path / "cells").iterdir())) == 1
    monkeypatch.setattr(worker, "measure_cell", real)
    assert len(run(study, tmp_path).frame) == 3


def test_provenance_says_where_and_how_long(tiny, tmp_path):
    study = tiny()
    row = run(study, tmp_path).provenance().loc[study.cells[0].key]
    assert row["versions.python"] == ".".join(map(str, sys.version_info[:3]))
    assert row["seconds.total"] >= row["seconds.training"] > 0
    assert row["seconds.training_cpu"] > 0


def test_a_figure_that_no_file_can_hold_fails_its_cell_only(tiny, tmp_path, monkeypatch):
    real = worker.measure_cell

    def broken(configuration):
        found = real(configuration)
        if configuration["seed"] == 0:
            found.results["gap"] = float("nan")
        return found

    monkeypatch.setattr(worker, "measure_cell", broken)
    result = run(tiny(seed=[0, 1]), tmp_path)
    assert list(result.frame["seed"]) == [1]
    assert "not JSON compliant" in next(iter(result.failures.values()))


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"backend": "dusk"}, "Did you mean 'dask'"),
        ({"backend": "dask"}, "needs the address of a scheduler"),
        ({"scheduler": "tcp://127.0.0.1:8786"}, "A scheduler is Dask's"),
    ],
)
def test_a_backend_that_cannot_be_is_refused(tiny, tmp_path, options, wanted):
    with pytest.raises((BackendError, ValueError), match=wanted):
        run(tiny(), tmp_path, **options)


def test_no_processes_at_all_are_refused(tiny, tmp_path):
    with pytest.raises(SettingError, match="n_jobs should be at least 1"):
        run(tiny(), tmp_path, n_jobs=0)


def test_ray_is_named_where_it_is_missing(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install \"ray\[default\]\""):
        run(tiny(), tmp_path, backend="ray")


def test_dask_is_named_where_it_is_missing(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BackendError, match=r"pyrolvm\[cluster\]"):
        run(tiny(), tmp_path, backend="dask", scheduler="tcp://127.0.0.1:1")


def test_an_empty_study_is_refused():
    with pytest.raises(SettingError, match="at least one block"):
        Study("empty", [])
