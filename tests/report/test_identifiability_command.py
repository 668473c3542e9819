"""The command that runs the study of identifiability, in its smallest size."""

from __future__ import annotations

import pytest

from pyrolvm.core.errors import UnknownNameError
from pyrolvm.report.identifiability_command import SIZES, run
from pyrolvm.studies.identifiability import CELLS


def test_it_leaves_a_page_figures_and_all_runs(tmp_path):
    study, page = run("smoke", tmp_path)
    assert page.parent == tmp_path
    assert list(study.frame["cell"]) == [cell.key for cell in CELLS]
    assert len(list(tmp_path.glob("cells/*/run-*.safetensors"))) == 2 * len(CELLS)
    assert len(list(tmp_path.glob("figures/*.svg"))) == 2
    assert {"frame.csv", "runs.csv", "identifiability.json"} <= {
        each.name for each in tmp_path.iterdir()
    }


def test_sizes_grow():
    runs = [SIZES[size].runs * SIZES[size].elbo_steps for size in ("smoke", "default", "full")]
    assert runs == sorted(runs)


def test_an_unknown_size_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'tiny'.*smoke"):
        run("tiny", tmp_path)
    assert not list(tmp_path.iterdir())
