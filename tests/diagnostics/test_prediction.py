import numpy as np
import pytest
import torch
from scipy.stats import norm

from pyrolvm.diagnostics.leave_one_out import (
    loo_log_weights,
    loo_of_guide,
    loo_of_posterior,
    predictive_pit,
)
from pyrolvm.diagnostics.prediction import Checks, LeaveOneOut, Prediction
from pyrolvm.diagnostics.predictive_checks import TestStatistics as Statistics
from pyrolvm.diagnostics.predictive_checks import predictive_p_values

RANDOM = np.random.default_rng(0)


class TestPValues:
    def test_uniform_for_data_from_the_same_source(self):
        statistics = RANDOM.normal(size=2000)
        p_values = np.array(
            [predictive_p_values(s, RANDOM.normal(size=400))[0] for s in statistics[:500]]
        )
        assert abs(p_values.mean() - 0.5) < 5 * p_values.std() / np.sqrt(500)
        assert abs((p_values < 0.1).mean() - 0.1) < 5 * np.sqrt(0.09 / 500)

    def test_both_tails_count(self):
        draws = RANDOM.normal(size=(20_000, 2))
        found, error = predictive_p_values(np.array([1.5, -1.5]), draws)
        assert (np.abs(found - 2 * norm.sf(1.5)) < 5 * error).all()

    def test_ties_count_one_half(self):
        draws = np.repeat([0.0, 1.0], 500)[:, None]
        assert predictive_p_values(np.array([0.0]), draws)[0].item() == pytest.approx(
            0.5, abs=0.01
        )
        assert predictive_p_values(np.array([3.0]), np.full((9, 1), 3.0))[0].item() == 1.0

    def test_beyond_all_draws_a_fitted_tail_goes_on(self):
        draws = RANDOM.normal(size=(1000, 3))
        found, _ = predictive_p_values(np.array([8.0, -8.0, 0.0]), draws)
        assert (found[:2] < 1e-5).all()
        assert found[2] > 0.5

    def test_heavy_tail_convicts_nobody_for_lying_just_beyond_it(self):
        heavy = RANDOM.standard_cauchy(size=(1000, 20))
        found, _ = predictive_p_values(heavy.max(0) * 1.01, heavy)
        assert (found > 1e-4).all()


class TestTestStatistics:
    def test_kinds_have_what_their_values_can_show(self):
        values = np.arange(12.0).reshape(3, 4)
        assert "95 % quantile" in Statistics(values, "real").names
        assert "share of zeros" in Statistics(values, "count").names
        assert Statistics(values > 5, "binary").names == ("mean", "sd of row means")
        labels = np.array([[0.0], [2.0], [2.0]])
        assert Statistics(labels, "category").names == ("share of 0", "share of 2")
        assert Statistics(labels, "category").pooled(labels[None])[0].tolist() == [1 / 3, 2 / 3]

    def test_masked_entries_do_not_count(self):
        values = np.array([[1.0, np.nan], [3.0, 5.0]])
        statistics = Statistics(values, "real", ~np.isnan(values))
        found = dict(zip(statistics.names, statistics.pooled(values[None])[0], strict=True))
        assert (found["mean"], found["min"], found["max"]) == (3.0, 1.0, 5.0)

    def test_long_rows_have_statistics_of_their_own(self):
        values = RANDOM.normal(size=(7, 3, 4))
        statistics = Statistics(values[0], "real")
        rows = statistics.of_rows(values)
        assert rows.shape == (7, 3, len(statistics.row_names))
        np.testing.assert_allclose(rows[..., 0], values.mean(-1))
        assert Statistics(values[0, :, :2], "real").row_names == ()


class TestLeaveOneOut:
    """Data x_i ~ N(m, 1), m ~ N(0, 2²): everything in closed form; the guide is off."""

    x = RANDOM.normal(0.5, 1.0, size=12)
    precision = 12 + 0.25
    mean, sd = x.sum() / precision, precision**-0.5

    def draws(self, number, shift=0.4, widen=1.2):
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(number, dtype=torch.float64, generator=generator)
        scale = self.sd * widen
        loc = self.mean + shift * self.sd + scale * noise
        x = torch.from_numpy(self.x)
        likelihood = -0.5 * (x - loc[:, None]) ** 2 - 0.5 * np.log(2 * np.pi)
        prior = -0.5 * (loc / 2) ** 2 - np.log(2) - 0.5 * np.log(2 * np.pi)
        guide = -0.5 * noise**2 - np.log(scale) - 0.5 * np.log(2 * np.pi)
        return loc, likelihood, likelihood.sum(1) + prior, guide

    def left_out(self):
        precision = self.precision - 1
        loc = (self.x.sum() - self.x) / precision
        return loc, np.sqrt(1 + 1 / precision)

    def test_corrected_figure_is_that_of_the_posterior(self):
        _, likelihood, joint, guide = self.draws(40_000)
        exact = norm.logpdf(self.x, *self.left_out())
        corrected, pareto_k = loo_of_posterior(likelihood, joint, guide)
        naive, _ = loo_of_guide(likelihood)
        assert (pareto_k < 0.5).all()
        np.testing.assert_allclose(corrected, exact, atol=0.02)
        assert np.abs(naive - exact).max() > 0.1

    def test_own_weights_are_arvizs(self):
        # 900 draws have a tail of whole length, which ArviZ and the paper then agree about.
        _, likelihood, joint, guide = self.draws(900)
        weights = loo_log_weights(likelihood, joint - guide)
        elpd = (weights + likelihood).logsumexp(0)
        theirs, _ = loo_of_posterior(likelihood, joint, guide)
        np.testing.assert_allclose(elpd, theirs, atol=1e-8)

    def test_pit_is_the_distribution_function_of_the_left_out_prediction(self):
        loc, likelihood, joint, guide = self.draws(40_000)
        new = loc[:, None] + torch.randn(40_000, 12, generator=torch.Generator().manual_seed(1))
        weights = loo_log_weights(likelihood, joint - guide).exp().numpy()
        found = predictive_pit(self.x, new.numpy(), weights)
        error = np.sqrt(0.25 * (weights**2).sum(0))
        assert (np.abs(found - norm.cdf(self.x, *self.left_out())) < 5 * error).all()

    def test_constant_likelihoods_need_no_smoothing(self):
        elpd, pareto_k = loo_of_guide(torch.full((100, 3), -1.5, dtype=torch.float64))
        np.testing.assert_allclose(elpd, -1.5)
        assert np.isneginf(pareto_k).all()


def test_pit_of_counts_is_uniform_among_ties():
    observed, new = RANDOM.poisson(1.0, 4000), RANDOM.poisson(1.0, (500, 4000))
    found = predictive_pit(observed * 1.0, new * 1.0, is_discrete=True)
    assert abs(found.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 4000)
    assert found.var() == pytest.approx(1 / 12, rel=0.05)


def prediction(guide_off=0.0, posterior_off=0.0, prior_off=0.0, **changes):
    """Two statistics, standard normal in new data; the data lie at 0 off by so many deviations."""
    draws = RANDOM.normal(size=(1000, 2))
    data = np.zeros(2)
    given = {
        "statistics": ("mean", "sd"),
        "guide": Checks(data, draws + guide_off, 1000),
        "posterior": Checks(data, draws + posterior_off, 1000),
        "prior": Checks(data, draws + prior_off, 1000),
        "loo": None, "pit": None, "row_statistics": (), "row_p_values": np.empty((0, 0)),
        "factorises": False, "reliable": True, "num_draws": 1000,
    }  # fmt: skip
    return Prediction(**{**given, **changes})


class TestFindings:
    def test_model_is_at_fault_where_the_posterior_misses_too(self):
        finding = prediction(guide_off=9.0, posterior_off=9.0).findings()[0]
        assert (finding.level, finding.defect) == ("bad", "model misfit")

    def test_guide_is_at_fault_where_the_posterior_does_not_miss(self):
        finding = prediction(guide_off=9.0).findings()[0]
        assert (finding.level, finding.defect) == ("care", None)
        assert "guide, not the model" in finding.sentence

    def test_nobody_is_convicted_by_weights_that_cannot_be_relied_on(self):
        finding = prediction(guide_off=9.0, posterior_off=9.0, reliable=False).findings()[0]
        assert (finding.level, finding.defect) == ("care", None)

    def test_prior_check_convicts_a_model_of_local_latents_only(self):
        local = prediction(prior_off=9.0, factorises=True).findings()[1]
        wide = prediction(prior_off=9.0).findings()[1]
        assert (local.level, local.defect) == ("bad", "model misfit")
        assert (wide.level, wide.defect) == ("care", None)

    def test_everything_right_is_good(self):
        pit = RANDOM.random(200)
        assert {finding.level for finding in prediction(pit=pit).findings()} == {"good"}

    @pytest.mark.parametrize(("spread", "word"), [(2.0, "ends"), (0.5, "middle")])
    def test_shape_of_the_pit_is_named(self, spread, word):
        pit = norm.cdf(spread * norm.ppf(RANDOM.random(400)))
        finding = prediction(pit=pit).findings()[-1]
        assert finding.defect == "model misfit"
        assert word in finding.sentence

    def test_difference_from_the_common_figure_is_told(self):
        elpd, k = np.full(30, -1.0), np.full(30, 0.1)
        loo = LeaveOneOut(elpd, np.full(30, np.nan), k, elpd + 0.5, k, "corrected")
        finding = prediction(loo=loo).findings()[-1]
        assert finding.level == "care"
        assert "15.0 nats higher" in finding.sentence

    def test_what_is_missing_is_unknown_with_its_reason(self):
        finding = prediction(missing={"prior predictive check": "No prior."}).findings()[-1]
        assert (finding.level, finding.sentence) == ("unknown", "No prior.")


def test_dataset_holds_what_figures_need():
    found = prediction(pit=RANDOM.random(20), missing={"loo": "None."}).dataset()
    assert found["guide_p_value"].dims == ("statistic",)
    assert found["posterior_statistic"].shape == (1000, 2)
    assert found.attrs["missing_loo"] == "None."
    assert found["pit"].size == 20
