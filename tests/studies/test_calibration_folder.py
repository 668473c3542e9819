"""A calibration in a folder: as without, kept shard by shard, and taken up after a failure."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions as dist

from pyrolvm.core import RunFolderError
from pyrolvm.inference.calibration import calibrate
from pyrolvm.studies.calibration_folder import InFolder

X = torch.zeros(10)


def model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, math.sqrt(0.5)))


def ranks(run=None, refit=None, **settings):
    how = {} if run is None else {"run": run}
    return calibrate(
        model, guide, X, num_simulations=40, progress=False, refit=refit, **how, **settings
    ).ranks


class Refit:
    """Counts its calls, and fails at one of them."""

    def __init__(self, fails_at=None):
        self.calls, self._fails_at = 0, fails_at

    def __call__(self, model, data, seed):
        self.calls += 1
        if self.calls == self._fails_at:
            raise ArithmeticError("killed")
        return guide


def test_a_folder_changes_nothing(tmp_path):
    assert (ranks() == ranks(InFolder(tmp_path))).all()


def test_finished_shards_are_not_run_again_and_failed_ones_are(tmp_path):
    first, second, third = Refit(fails_at=3), Refit(), Refit()
    with pytest.raises(RunFolderError, match=r"1 of 4 shards .* ArithmeticError: killed"):
        ranks(InFolder(tmp_path), first)
    found = ranks(InFolder(tmp_path), second)
    assert (first.calls, second.calls) == (4, 1)
    assert (ranks(InFolder(tmp_path), third) == found).all()
    assert third.calls == 0
    assert {file.suffix for file in tmp_path.rglob("cells/*/*")} == {".json"}


def test_another_seed_and_more_simulations_share_the_folder(tmp_path):
    run, refit = InFolder(tmp_path), Refit()
    one, other = ranks(run, refit, seed=0), ranks(run, refit, seed=1)
    assert (one != other).any()
    more = calibrate(
        model, guide, X, num_simulations=60, run=run, refit=refit, progress=False
    ).ranks
    assert refit.calls == 4 + 4 + 2
    assert (more[:40] == one).all()


@pytest.mark.slow
def test_processes_give_the_same_ranks(tmp_path):
    assert (ranks() == ranks(InFolder(tmp_path, n_jobs=2))).all()
