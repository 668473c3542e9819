import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from scipy.stats import norm

from pyrolvm import guides
from pyrolvm.core.errors import SettingError, SiteError
from pyrolvm.inference.evidence import exact_evidence
from pyrolvm.inference.prediction import predict

SIZE = 60


@pytest.fixture
def x():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(0)) + 0.5


def known_scale(x):
    """One latent for all data: x_i ~ N(m, 1), m ~ N(0, 2²)."""
    loc = pyro.sample("m", dist.Normal(0.0, 2.0))
    with pyro.plate("data", len(x)):
        pyro.sample("x", dist.Normal(loc, 1.0), obs=x)


def posterior_of(x):
    precision = len(x) + 0.25
    return x.sum() / precision, torch.as_tensor(precision, dtype=x.dtype) ** -0.5


def exact(x):
    pyro.sample("m", dist.Normal(*posterior_of(x)))


def off(x):
    loc, scale = posterior_of(x)
    pyro.sample("m", dist.Normal(loc + 0.8 * scale, 1.3 * scale))


def left_out(x):
    values = x.double().numpy()
    precision = SIZE - 1 + 0.25
    return (values.sum() - values) / precision, math.sqrt(1 + 1 / precision)


def levels(found):
    return {finding.name: (finding.level, finding.defect) for finding in found.findings()}


class TestOneLatentForAllData:
    def test_leave_one_out_is_the_closed_form_for_a_guide_that_is_off_too(self, x):
        truth = norm.logpdf(x.double().numpy(), *left_out(x))
        for guide in (exact, off):
            found = predict(known_scale, guide, x, num_draws=4000).loo
            np.testing.assert_allclose(found.elpd, truth, atol=0.03)
            assert found.total == pytest.approx(truth.sum(), abs=0.1)
        assert abs(found.excess) > 0.5  # what the guide's draws as they are would have said

    def test_p_value_of_the_mean_is_the_closed_form(self, x):
        found = predict(known_scale, exact, x, num_draws=4000)
        index = found.statistics.index("mean")
        loc, scale = (float(each) for each in posterior_of(x.double()))
        distance = abs(float(x.double().mean()) - loc) / math.hypot(scale, 1 / math.sqrt(SIZE))
        for checks in (found.guide, found.posterior):
            p_value, error = checks.p_values[index], checks.errors[index]
            assert abs(p_value - 2 * norm.sf(distance)) < 5 * error
        spread = math.hypot(2, 1 / math.sqrt(SIZE))
        prior = 2 * norm.sf(abs(float(x.double().mean())) / spread)
        assert abs(found.prior.p_values[index] - prior) < 5 * found.prior.errors[index]

    def test_pit_is_the_closed_form(self, x):
        truth = norm.cdf(x.double().numpy(), *left_out(x))
        found = predict(known_scale, off, x, num_draws=4000).pit
        assert np.abs(found - truth).max() < 5 * 0.5 / math.sqrt(1000)

    def test_right_model_with_the_right_guide_is_good(self, x):
        assert set(levels(predict(known_scale, exact, x)).values()) == {("good", None)}

    def test_model_that_misses_the_tails_is_at_fault(self):
        heavy = dist.StudentT(1.5, 0.0, 1.0).sample((SIZE,))
        found = levels(predict(known_scale, exact, heavy))
        assert found["posterior predictive p-value, smallest"] == ("bad", "model misfit")

    def test_same_seed_gives_the_same_figures(self, x):
        first, second = (predict(known_scale, off, x, num_draws=200, seed=4) for _ in range(2))
        np.testing.assert_array_equal(first.guide.replicated, second.guide.replicated)
        np.testing.assert_array_equal(first.loo.elpd, second.loo.elpd)

    def test_observations_with_one_joint_density_cannot_be_left_out(self, x):
        def joint(x):
            loc = pyro.sample("m", dist.Normal(0.0, 2.0))
            law = dist.MultivariateNormal(loc[..., None].expand(*loc.shape, SIZE), torch.eye(SIZE))
            pyro.sample("x", law, obs=x)

        found = predict(joint, exact, x, num_draws=200)
        assert found.loo is None
        assert "one joint density" in found.missing["elpd, leave-one-out"]
        assert levels(found)["elpd, leave-one-out"] == ("unknown", None)

    def test_improper_prior_leaves_out_the_prior_check_only(self, x):
        def improper(x):
            loc = pyro.sample("m", dist.ImproperUniform(dist.constraints.real, (), ()))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(loc, 1.0), obs=x)

        found = predict(improper, exact, x, num_draws=200)
        assert found.prior is None
        assert "prior predictive check" in found.missing
        assert found.loo is not None


class TestLatentOfEachDatum:
    @pytest.fixture
    def pair(self, linear):
        model, data = linear
        return model, guides.ExactCPA(model), data[:40]

    def test_leaving_a_datum_out_leaves_its_evidence(self, pair):
        model, guide, data = pair
        truth = exact_evidence(model, data)
        for evidence in (None, truth):
            found = predict(model, guide, data, evidence=evidence, num_draws=400)
            np.testing.assert_allclose(found.loo.elpd, truth.value, atol=1e-8)
        assert found.loo.method == "evidence of each datum: exact"
        assert (found.loo.guide_pareto_k > 0.7).mean() > 0.5  # what loo on the draws would do
        assert set(levels(found).values()) == {("good", None)}

    def test_prior_check_finds_data_that_the_model_cannot_make(self, pair):
        model, guide, data = pair
        found = levels(predict(model, guide, data + 4.0, num_draws=400))
        assert found["prior predictive p-value, smallest"] == ("bad", "model misfit")

    def test_rows_have_p_values_of_their_own(self, pair):
        model, guide, data = pair
        strange = data.clone()
        strange[7] += torch.tensor([30.0, -30.0, 30.0, -30.0])
        found = predict(model, guide, strange, num_draws=400)
        row = found.row_p_values[found.row_statistics.index("sd")]
        assert row.shape == (40,)
        assert row.argmin() == 7
        assert row[7] < 1e-3 < row[:7].min()


class TestKinds:
    def test_counts_under_a_mask(self):
        counts = torch.poisson(torch.full((80,), 3.0), generator=torch.Generator().manual_seed(0))
        counts[:5] = 1000.0

        def model(x):
            rate = pyro.sample("rate", dist.Gamma(2.0, 1.0))
            with pyro.plate("data", len(x)), poutine.mask(mask=x < 1000):
                pyro.sample("x", dist.Poisson(rate), obs=x)

        def guide(x):
            kept = x[x < 1000]
            pyro.sample("rate", dist.Gamma(2.0 + kept.sum(), 1.0 + len(kept)))

        found = predict(model, guide, counts, num_draws=400)
        assert "share of zeros" in found.statistics
        assert found.guide.observed[found.statistics.index("max")] < 1000
        assert levels(found)["posterior predictive p-value, smallest"] == ("good", None)

    def test_labels_are_counted(self):
        labels = torch.eye(3)[torch.tensor([0, 0, 1, 0, 0, 0, 1, 0])]

        def model(x):
            shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.OneHotCategorical(shares), obs=x)

        def guide(x):
            pyro.sample("shares", dist.Dirichlet(1.0 + x.sum(0)))

        found = predict(model, guide, labels, num_draws=400)
        assert found.statistics == ("share of 0", "share of 1")
        assert found.guide.observed.tolist() == [0.75, 0.25]
        assert found.pit is None


def test_model_that_only_has_factors_cannot_be_checked(x):
    def factor(x):
        loc = pyro.sample("m", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.factor("fit", -((x - loc) ** 2))

    with pytest.raises(SiteError, match="only has factors"):
        predict(factor, exact, x, num_draws=200)


def test_too_few_draws_are_refused(x):
    with pytest.raises(SettingError, match="num_draws should be at least 100"):
        predict(known_scale, exact, x, num_draws=20)
