"""Guides that belong to their data are fitted anew, and are themselves left alone."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal

from pyrolvm import fit, guides, models
from pyrolvm.core import Data, evaluating, log_densities
from pyrolvm.core.program_state import program_state
from pyrolvm.inference.calibration import FitAgain, calibrate
from pyrolvm.inference.calibration.held_guide import densities_at_truth
from pyrolvm.inference.calibration.refitting import given_back, reach_of


def mean_of_all(x):
    """One latent for the whole data set; its posterior is Gaussian."""
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("x", dist.Normal(mu, 2.0), obs=x)


def two_scales(x):
    tau = pyro.sample("tau", dist.LogNormal(0.0, 0.5))
    with pyro.plate("groups", 3):
        theta = pyro.sample("theta", dist.Normal(0.0, tau))
        pyro.sample("x", dist.Normal(theta, 1.0), obs=x)


def exact_guide(x, factor=1.0):
    """The posterior of `mean_of_all` given x, as a guide of these data alone."""
    precision = 1 + len(x) / 4
    loc, scale = x.double().sum() / 4 / precision, factor / math.sqrt(precision)

    def guide(x):
        pyro.sample("mu", dist.Normal(loc.to(x.dtype), scale))

    return guide


@pytest.mark.parametrize(("factor", "defect"), [(1.0, None), (0.5, "too narrow")])
def test_one_datum_posteriors_are_refitted_by_the_user_s_function(factor, defect):
    x = torch.randn(10)
    found = calibrate(
        mean_of_all, exact_guide(x), x, num_simulations=60, progress=False,
        refit=lambda model, data, seed: exact_guide(data.positional, factor),
    )  # fmt: skip
    assert (found.num_simulations, found.num_data_sets) == (60, 60)
    assert "lies outside the plate" in found.refitted
    assert found.findings()[0].defect == defect
    assert (found.coverage_p > 0.01) == (defect is None)


@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal])
def test_densities_of_an_autoguide_at_its_own_draw_are_those_of_the_draw(kind):
    x, guide = torch.randn(3), kind(two_scales)
    fit(two_scales, guide, x, steps=3, progress=False)
    with evaluating(two_scales, guide):
        drawn = log_densities(two_scales, guide, x, num_particles=1, keep_values=True)
        truth = {name: value[0] for name, value in drawn.values.items()}
        found = densities_at_truth(two_scales, guide, Data.of(x.double()), truth)
    assert not found.without_density
    assert torch.allclose(found.densities.log_guide, drawn.log_guide)
    assert torch.allclose(found.densities.log_joint, drawn.log_joint)
    assert all(torch.allclose(found.densities.values[n], v) for n, v in drawn.values.items())


def test_a_per_datum_guide_gives_a_rank_for_every_row_and_keeps_its_parameters():
    torch.manual_seed(0)
    model = models.LinearGaussian(1, 2, noise_scale=1.0)
    x = model(size=50)
    guide = guides.PerDatum(model, "full").initialise(x)
    before = program_state(model, guide)
    found = calibrate(
        model, guide, x, num_simulations=50, refit=FitAgain(guide, steps=150), progress=False
    )
    assert (found.num_simulations, found.num_data_sets) == (50, 1)
    assert {finding.level for finding in found.findings()} == {"good"}
    after = program_state(model, guide)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_parameters_of_the_store_come_back_after_a_refit():
    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.0))
        pyro.sample("mu", dist.Normal(loc, 0.5))

    x = torch.full((10,), 3.0)
    guide(x)
    with given_back(guide):
        FitAgain(guide, steps=60)(mean_of_all, Data.of(x), 0)
        assert pyro.param("loc").item() > 0.5
    assert pyro.param("loc").item() == 0


def per_place(x):
    loc = pyro.param("locs", torch.zeros(5))
    with pyro.plate("data", 5, dim=-1):
        pyro.sample("z", dist.Normal(loc, 1.0))


def local(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def amortized(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(x / 2, math.sqrt(0.5)))


@pytest.mark.parametrize(
    ("model", "guide", "reason", "factorises"),
    [
        (local, amortized, "", True),
        (local, per_place, "each place in the data", True),
        (local, AutoNormal(local), "AutoNormal belong", True),
        (mean_of_all, exact_guide(torch.zeros(5)), "'mu' lies outside the plate", False),
    ],
)
def test_which_guides_know_only_their_own_data(model, guide, reason, factorises):
    reach = reach_of(model, guide, Data.of(torch.randn(5)))
    assert reach.factorises == factorises
    assert reason in reach.own_data_only
    assert bool(reach.own_data_only) == bool(reason)
