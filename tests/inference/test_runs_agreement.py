"""Codes of several runs: which class of maps sets them apart, and which runs do not count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core.errors import DataError, IncompatiblePairError, SettingError, SiteError
from pyrolvm.identifiability import compare_runs, raw_r2

TURNS = {
    "identified": torch.eye(2),
    "signs": torch.diag(torch.tensor([1.0, -1.0])),
    "permutation, sign and scale": torch.tensor([[0.0, 1.0], [-1.0, 0.0]]),
    "orthogonal": torch.tensor([[0.6, -0.8], [0.8, 0.6]]),
}
FAST = {"num_resamples": 20, "num_distances": 8, "num_draws": 50}


def linear_run(turn, stretch=1.0):
    """A factor model whose codes are turned; its law of x is that without the turn."""
    loading = torch.tensor([[1.0, 0.3], [0.2, 1.1], [0.7, -0.6], [-0.4, 0.8]])
    model = models.LinearGaussian(2, 4, noise_scale=0.1, learn_noise=False)
    with torch.no_grad():
        model.get_parameter("decoder.0.weight").copy_(stretch * loading @ turn)
        model.get_parameter("decoder.0.bias").zero_()
    return model, guides.Exact(model)


@pytest.fixture(scope="module")
def x():
    torch.manual_seed(0)
    return linear_run(torch.eye(2))[0](size=300).detach()


@pytest.mark.parametrize("kind", TURNS)
def test_equal_likelihood_and_turned_codes(x, kind):
    report = compare_runs([linear_run(torch.eye(2)), linear_run(TURNS[kind])], x, **FAST)
    assert report.kind == kind
    one, two = report.runs
    assert abs(one.elbo.value - two.elbo.value) < 1e-4
    assert one.used
    assert two.used
    lowest = report.lowest
    assert lowest["orthogonal_r2"] > 0.98
    assert lowest["euclidean_distances"] > 0.95
    assert lowest["pullback_distances"] > 0.95


def test_figures_are_those_of_the_codes(x):
    runs = [linear_run(torch.eye(2)), linear_run(TURNS["orthogonal"])]
    report = compare_runs(runs, x, **FAST | {"num_draws": 1000})
    means = [model.posterior(x).mean for model, _ in runs]
    exact = min(raw_r2(*means), raw_r2(*means[::-1]))
    assert abs(report.pairs["raw_r2"].item() - exact) < 0.01
    row = report.frame[report.frame["metric"] == "raw_r2"].iloc[0]
    assert row["low"] < row["value"] < row["high"]
    assert row["value"] == report.lowest["raw_r2"]


def test_a_run_that_failed_is_named_and_left_out(x):
    runs = {
        "good": linear_run(torch.eye(2)),
        "same": linear_run(torch.eye(2)),
        "bad": linear_run(TURNS["orthogonal"], stretch=0.3),
    }
    report = compare_runs(runs, x, **FAST)
    assert report.runs[-1].name == "bad"
    assert report.runs[-1].failed
    assert report.runs[-1].behind.value > 0.5
    assert report.kind == "identified"
    assert "bad by" in report.sentence
    assert "failed to optimise" in report.sentence
    assert report.pairs.shape == (3, 10)
    used = report.frame.groupby(["run_a", "run_b"])["used"].first()
    assert used.to_dict() == {
        ("good", "same"): True, ("good", "bad"): False, ("same", "bad"): False,
    }  # fmt: skip
    lenient = compare_runs(runs, x, slack=1000.0, **FAST)
    assert lenient.kind != "identified"
    assert "failed" not in lenient.sentence


def test_a_good_run_alone_says_nothing(x):
    runs = [linear_run(torch.eye(2)), linear_run(torch.eye(2), stretch=0.3)]
    report = compare_runs(runs, x, **FAST)
    assert report.kind == "unknown"
    assert "Only run 1 is left" in report.sentence


def test_the_best_runs_by_bound_are_used(x):
    near = [linear_run(torch.eye(2), stretch=1 + 0.05 * k) for k in range(4)]
    report = compare_runs(near, x, best=2, **FAST)
    order = [run.name for run in report.runs]
    assert sorted(order[:2]) == sorted(run.name for run in report.runs if run.used)
    assert [run.rank for run in report.runs] == [1, 2, 3, 4]
    values = [run.elbo.value for run in report.runs]
    assert values == sorted(values, reverse=True)
    assert not any(run.failed for run in report.runs)
    assert report.frame["used"].sum() == 10


def test_the_truth_is_a_reference_and_not_a_run(x):
    truth = linear_run(torch.eye(2))[0].posterior(x).mean
    runs = [linear_run(TURNS["signs"]), linear_run(TURNS["signs"])]
    report = compare_runs(runs, x, truth, **FAST)
    assert report.kind == "identified"
    against = report.pairs.loc["truth"]
    assert list(against.index) == ["run 1", "run 2"]
    assert (against["raw_r2"] < 0.5).all()
    assert (against["sign_r2"] > 0.98).all()
    assert "against the truth" in str(report)
    with pytest.raises(DataError, match="truth"):
        compare_runs(runs, x, truth[:10], **FAST)


def test_rhat_is_refused_unless_the_model_is_strong(x):
    report = compare_runs([linear_run(torch.eye(2))] * 2, x, **FAST)
    assert report.rhat is None
    assert "means nothing here" in report.rhat_reason
    assert "'up to orthogonal' only" in report.sentence


def anchored_run(sign):
    torch.manual_seed(1)
    prior = models.EnvironmentPrior(torch.tensor([[0.0], [4.0]]), 1.0)
    model = models.AnchoredIVAE(prior, obs_dim=2, hidden=(), noise_scale=0.3)
    with torch.no_grad():
        model.get_parameter("decoder.0.weight").copy_(sign * torch.ones(2, 1))
        model.get_parameter("decoder.0.bias").zero_()
    return model


def exact_guide(model):
    """The posterior of a linear decoder under the prior of the environment."""
    import pyro
    from pyro.distributions import Normal

    def guide(x=None, u=None, *, size=None):
        prior = model.conditional_prior(u).base_dist
        weight = model.get_parameter("decoder.0.weight")[:, 0]
        precision = 1 / prior.scale**2 + weight @ weight / 0.3**2
        loc = (prior.loc / prior.scale**2 + (x @ weight)[:, None] / 0.3**2) / precision
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", Normal(loc, precision**-0.5).to_event(1))

    return guide


def test_rhat_of_a_strongly_identified_model_is_that_of_equal_chains():
    model, other = anchored_run(1.0), anchored_run(1.0)
    u = torch.arange(120) % 2
    data = {"x": model(u=u).detach(), "u": u}
    runs = [(m, exact_guide(m)) for m in (model, other)]
    report = compare_runs(runs, data, **FAST | {"num_draws": 400})
    assert report.check.is_strong
    assert report.kind == "identified"
    assert report.rhat.shape == (100, 1)
    assert report.rhat.median() < 1.01
    assert "R-hat over runs" in str(report)


def flow(sign, scale=1.0):
    """A noiseless model of one latent; the code is exact."""
    normal = torch.distributions.Normal(0.0, 1.0)
    return SimpleNamespace(
        latent_dim=1,
        obs_dim=1,
        signature=(1,),
        prior_is_fixed=True,
        encode=lambda x: sign * x / scale,
        decode=lambda z: sign * z * scale,
        log_evidence=lambda x: normal.log_prob(x[:, 0] / scale) - np.log(scale),
    )


def test_exact_codes_are_compared_without_a_guide():
    x = torch.randn(200, 1)
    report = compare_runs([flow(1.0), (flow(-1.0), None)], {"x": x}, **FAST)
    assert report.kind == "signs"
    assert report.pairs["raw_r2"].item() == pytest.approx(-3.0, abs=0.05)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).mean().item()
    assert report.runs[0].elbo.value == pytest.approx(expected, abs=1e-6)
    assert "not reached its optimum" in report.sentence
    assert "no spread" in report.rhat_reason
    assert report.lowest["pullback_distances"] == pytest.approx(1.0)


def test_what_fit_returns_is_a_run(x):
    fits = [lvm.fit_exact(linear_run(TURNS["orthogonal"])[0], x, steps=2, progress=False)] * 2
    assert compare_runs(fits, x, **FAST).kind == "identified"


def test_a_seed_fixes_the_report_and_leaves_random_numbers_alone(x):
    runs = [linear_run(torch.eye(2)), linear_run(TURNS["signs"])]
    state = torch.get_rng_state()
    one, two = (compare_runs(runs, x, seed=5, **FAST) for _ in range(2))
    assert one.frame.equals(two.frame)
    assert torch.equal(state, torch.get_rng_state())


def test_bad_input_is_refused(x):
    run = linear_run(torch.eye(2))
    with pytest.raises(DataError, match="at least two runs"):
        compare_runs([run], x)
    with pytest.raises(IncompatiblePairError, match="fits, pairs"):
        compare_runs([run[0], run[0]], x)
    with pytest.raises(SettingError, match="slack"):
        compare_runs([run, run], x, slack=0.0)
    with pytest.raises(SettingError, match="num_distances should be 0"):
        compare_runs([run, run], x, num_distances=7)
    with pytest.raises(DataError, match="sequence of runs"):
        compare_runs(run[0], x)
    with pytest.raises(SettingError, match="another name"):
        compare_runs({"truth": run, "a": run}, x)
    with pytest.raises(SiteError, match="'w' is none of them"):
        compare_runs([run, run], x, site="w", **FAST)
    other = models.LinearGaussian(3, 4)
    with pytest.raises(DataError, match=r"run 1 \(z\) and run 2"):
        compare_runs([run, (other, guides.Exact(other))], x, **FAST)
