"""Restarts: each is the fit of its seed, and they are ranked by the ELBO."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, SiteError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.program_state import program_state
from pyrolvm.core.randomness import own_randomness

QUIET = {"steps": 8, "progress": False}
LOC = torch.tensor([[0.0], [3.0]])


def make(seed):
    model = models.AnchoredIVAE(models.EnvironmentPrior(LOC, 1.0), 2, hidden=(6,), noise_scale=1.0)
    return model, guides.ConditionalProduct(model, hidden=(6,))


def observations(seed=0):
    with own_randomness(seed):
        u = torch.arange(2).repeat_interleave(15)
        return {"x": torch.randn(30, 2) + LOC[u], "u": u}


def test_fits_come_by_falling_elbo_and_each_is_that_of_its_seed():
    data = observations()
    found = lvm.fit_restarts(make, data, seeds=(3, 0, 5), num_particles=400, **QUIET)
    assert sorted(fit.seed for fit in found.fits) == [0, 3, 5]
    assert (found.elbos.diff() <= 0).all()
    assert found.best is found.fits[0]
    for fit, elbo in zip(found.fits, found.elbos, strict=True):
        with own_randomness(fit.seed):
            pair = make(fit.seed)
        lvm.fit(*pair, data, seed=fit.seed, **QUIET)
        ours = program_state(fit.model, fit.guide)
        assert all(torch.equal(ours[name], value) for name, value in program_state(*pair).items())
        weights = lvm.log_densities(*pair, data, num_particles=400).log_weights
        error = weights.mean(1).std() / 400**0.5
        assert_close(elbo, weights.mean(), rtol=0, atol=5 * 2**0.5 * error.item())


def test_the_rank_is_that_on_validation_data_where_there_are_any():
    training, other = (
        observations(),
        {"x": torch.full((4, 2), 9.0), "u": torch.tensor([0, 0, 1, 1])},
    )
    found = lvm.fit_restarts(make, training, seeds=range(2), validation=other, **QUIET)
    assert (found.elbos < -50).all()
    assert (lvm.fit_restarts(make, training, seeds=range(2), **QUIET).elbos > -50).all()


def test_options_reach_every_fit(tmp_path):
    found = lvm.fit_restarts(
        make, observations(), seeds=range(2), folder=tmp_path,
        warm_start=lvm.AnchoredWarmStart(steps=2), **QUIET,
    )  # fmt: skip
    assert [fit.steps for fit in found.fits] == [8, 8]
    assert {path.name for path in tmp_path.iterdir()} == {
        "restart-0.safetensors", "restart-1.safetensors",
    }  # fmt: skip
    again = lvm.fit_restarts(
        make, observations(), seeds=range(2), folder=tmp_path,
        warm_start=lvm.AnchoredWarmStart(steps=2), **QUIET,
    )  # fmt: skip
    assert torch.equal(again.elbos, found.elbos)


def test_the_top_ones_can_be_asked_for():
    found = lvm.fit_restarts(make, observations(), seeds=range(3), **QUIET)
    assert found.top(2) == found.fits[:2]
    for number in (0, 4):
        with pytest.raises(SettingError, match=f"top 1 to 3 .* but not {number}"):
            found.top(number)


def test_the_users_random_numbers_stay():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    lvm.fit_restarts(make, observations(), seeds=range(1), **QUIET)
    assert torch.equal(torch.rand(3), wanted)


def test_what_makes_no_sense_is_refused():
    for seeds in ((), (1, 1)):
        with pytest.raises(SettingError, match="different whole numbers"):
            lvm.fit_restarts(make, observations(), seeds=seeds, **QUIET)
    with pytest.raises(SettingError, match="num_particles"):
        lvm.fit_restarts(make, observations(), num_particles=0, **QUIET)
    with pytest.raises(TypeError, match="stepps"):
        lvm.fit_restarts(make, observations(), stepps=3)
    wrong = {**observations(), "u": torch.full((30,), 2)}
    with pytest.raises(DataError, match="label 2"):
        lvm.fit_restarts(make, wrong, **QUIET)


@pytest.mark.parametrize(("name", "instead"), [("seed", "seeds="), ("checkpoint", "folder=")])
def test_what_every_start_has_of_its_own_is_refused(name, instead):
    with pytest.raises(SettingError, match=instead):
        lvm.fit_restarts(lambda seed: None, torch.zeros(4, 2), **{name: 3})


def test_a_start_that_fails_is_left_out_with_a_warning():
    def fragile(seed):
        model, guide = make(seed)
        if seed == 1:
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
        return model, guide

    with pytest.warns(UserWarning, match="seed 1 is left out"):
        found = lvm.fit_restarts(fragile, observations(), seeds=range(3), **QUIET)
    assert sorted(run.seed for run in found.fits) == [0, 2]
    with pytest.raises(SiteError, match="NaN"):
        lvm.fit_restarts(fragile, observations(), seeds=(1,), **QUIET)
