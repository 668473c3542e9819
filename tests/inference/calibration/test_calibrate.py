"""Calibration tells exact guides from wrong ones, and names what is wrong."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions as dist

from pyrolvm import guides, models
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.calibration import LOG_JOINT, calibrate


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return models.LinearGaussian(2, 4, noise_scale=0.5)


@pytest.fixture(scope="module")
def x(model):
    torch.manual_seed(4)
    return model(size=100)


def changed(model, factor=1.0, shift=0.0):
    """The exact guide, its scale times a factor, its mean shifted by posterior deviations."""

    def guide(x):
        exact = model.posterior(x)
        scale_tril = torch.linalg.cholesky(exact.covariance_matrix)
        loc = exact.mean + shift * exact.variance.sqrt()
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=factor * scale_tril))

    return guide


def ignores_data(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))


@pytest.fixture(scope="module")
def narrow(model, x):
    return calibrate(model, changed(model, 0.8), x, progress=False)


def of_coordinates(found):
    return [each for each in found.quantities if each.name != LOG_JOINT]


def test_the_exact_guide_of_a_linear_model_passes(model, x):
    found = calibrate(model, guides.Exact(model), x, num_simulations=1000, progress=False)
    assert found.ranks.shape == (1000, 3)
    assert found.names == ("z[0]", "z[1]", LOG_JOINT)
    assert {finding.level for finding in found.findings()} == {"good"}
    for each in of_coordinates(found):
        assert abs(each.shape.sd_ratio - 1) < 5 * each.shape.sd_ratio_error < 0.2


def test_the_exact_guide_of_a_piecewise_affine_generator_passes():
    torch.manual_seed(0)
    model = models.CPAGenerator(latent_dim=1, obs_dim=3, hidden=(6,), noise_scale=0.3)
    found = calibrate(model, guides.ExactCPA(model), model(size=1000), progress=False)
    assert found.num_simulations == 1000
    assert {finding.level for finding in found.findings()} == {"good"}


@pytest.mark.parametrize(
    ("factor", "shift", "defect"),
    [(0.8, 0.0, "too narrow"), (1.25, 0.0, "too wide"), (1.0, 0.3, "shifted")],
)
def test_a_wrong_guide_fails_and_its_defect_is_named_and_measured(model, x, factor, shift, defect):
    found = calibrate(model, changed(model, factor, shift), x, progress=False)
    first = found.findings()[0]
    assert first.defect == defect
    assert first.level in ("care", "bad")
    assert first.value < 1e-6
    for each in of_coordinates(found):
        assert abs(each.shape.sd_ratio - factor) < 5 * each.shape.sd_ratio_error
        assert abs(each.shape.shift - shift) < 5 * each.shape.shift_error
    assert found.coverage_p < 1e-4


def test_coverage_of_a_narrow_guide_is_the_closed_form(narrow):
    share, _ = narrow.coverage(0.9)
    truth = 1 - 0.1 ** (0.8**2)  # chi squared with two degrees of freedom
    assert abs(share - truth) < 5 * math.sqrt(truth * (1 - truth) / 1000) + 1 / 200


def test_the_prior_as_a_guide_is_seen_by_the_log_joint_alone(model, x):
    found = calibrate(model, ignores_data, x, progress=False)
    by_name = {each.name: each.adjusted for each in found.quantities}
    assert by_name.pop(LOG_JOINT) < 1e-9
    assert min(by_name.values()) > 0.01
    first = found.findings()[0]
    assert (first.level, first.defect) == ("bad", "wrong shape")
    assert "ignores part of the data" in first.sentence


def test_the_same_seed_gives_the_same_ranks(model, x):
    one, two, other = (
        calibrate(model, ignores_data, x, num_simulations=30, seed=seed, progress=False).ranks
        for seed in (1, 1, 2)
    )
    assert (one == two).all()
    assert (one != other).any()


def test_rows_are_taken_again_until_there_are_enough(model, x):
    found = calibrate(model, guides.Exact(model), x[:7], num_simulations=40, progress=False)
    assert (found.num_simulations, found.num_data_sets) == (40, 6)


def test_summed_out_and_sampled_discrete_sites_are_ranked_where_they_are_sampled():
    def mixture(x):
        with pyro.plate("data", len(x), dim=-1):
            k = pyro.sample("k", dist.Bernoulli(0.3), infer={"enumerate": "parallel"})
            pyro.sample("x", dist.Normal(4.0 * k, 1.0), obs=x)

    def exact(x):
        ratio = dist.Normal(4.0, 1.0).log_prob(x) - dist.Normal(0.0, 1.0).log_prob(x)
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("k", dist.Bernoulli(logits=ratio + math.log(0.3 / 0.7)))

    found = calibrate(mixture, exact, torch.randn(50), num_simulations=500, seed=1, progress=False)
    assert found.names == ("k", LOG_JOINT)
    assert {finding.level for finding in found.findings()} == {"good"}


def test_too_few_simulations_are_refused(model, x):
    with pytest.raises(SettingError, match="num_simulations should be at least 20"):
        calibrate(model, guides.Exact(model), x, num_simulations=5)


def test_the_data_set_holds_ranks_bands_and_curves(narrow):
    data = narrow.dataset()
    assert data["rank"].shape == (1000, 3)
    assert list(data["coordinate"].values) == ["z[0]", "z[1]", LOG_JOINT]
    assert (data["band_low"] <= data["alpha"]).all()
    assert (data["alpha"] <= data["band_high"]).all()
    assert (data["ecp_low"] <= data["ecp"]).mean() > 0.9
    assert data.attrs["num_draws"] == 199
    outside = (data["covered"] < data["band_low"]) | (data["covered"] > data["band_high"])
    assert outside.any()


def test_the_summary_reads_like_sentences(narrow):
    assert str(narrow).startswith("Calibration: 1,000 simulations, 199 draws")
    assert "the guide is too narrow, as if its standard deviation were 0." in str(narrow)
