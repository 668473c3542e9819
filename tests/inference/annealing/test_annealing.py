"""Annealing: unbiased both ways, close to the exact evidence, honest about its error."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.testing import assert_close

from pyrolvm import guides, models
from pyrolvm.core import SiteError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.latent_space import latent_space
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference import exact_log_evidence
from pyrolvm.inference.annealing import (
    AnnealingSettings,
    annealed_evidence,
    annealing_error,
    sandwich,
)
from pyrolvm.inference.annealing.moves import Stage, move
from pyrolvm.inference.annealing.path import PriorPath, evaluate
from pyrolvm.inference.annealing.runs import cool, heat
from pyrolvm.inference.annealing.tuning import tune

SHORT = AnnealingSettings(num_temperatures=150, num_chains=16)


def counts(x):
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", dist.Gamma(torch.full((len(x),), 3.0), 0.5))
        pyro.sample("x", dist.Poisson(rate), obs=x)


def mean_and_error(values):
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


@pytest.fixture
def line():
    """One latent, and 3,000 times the same observation: each row is a run of its own."""
    torch.manual_seed(0)
    model = models.LinearGaussian(1, 2, noise_scale=0.3).double()
    x = model(size=1).detach().expand(3000, 2).contiguous()
    return model, x, model.log_evidence(x[:1]).item()


class TestBothWays:
    few = AnnealingSettings(num_temperatures=8, num_chains=2)

    def test_weights_have_the_evidence_as_their_mean(self, line):
        model, x, truth = line
        found = annealed_evidence(model, x, self.few, seed=1)
        mean, error = mean_and_error((found.value - truth).exp())
        assert error < 0.05
        assert abs(mean - 1) < 5 * error
        assert (found.value.mean() - truth) < -0.01  # the log of it is a bound

    def test_inverse_weights_of_the_way_back_have_its_inverse(self, line):
        model, x, truth = line
        with own_randomness(2), latent_space(model, x) as space:
            path = PriorPath(space)
            schedule = tune(path, self.few.num_leapfrog).schedule
            exact = space.to_points({"z": model.posterior(x).sample((1,))})
            back = heat(path, schedule, self.few, exact)
        mean, error = mean_and_error((truth - back).exp().mean(0))
        assert error < 0.05
        assert abs(mean - 1) < 5 * error

    def test_a_move_leaves_the_posterior_as_it_is(self, line):
        model, x, _ = line
        posterior = model.posterior(x[:1])
        with own_randomness(3), latent_space(model, x[:1]) as space:
            path = PriorPath(space)
            state = evaluate(path, space.to_points({"z": posterior.sample((40_000,))}))
            stage = Stage(torch.ones(1), torch.full((1,), 1.5), posterior.stddev)
            for _ in range(3):
                state, accepted = move(path, state, stage, 2)
        assert 0.3 < accepted.mean() < 0.95  # rejections matter here
        standard = ((state.points[:, 0] - posterior.mean) / posterior.stddev)[:, 0]
        for values, truth in ((standard, 0.0), (standard.square(), 1.0)):
            mean, error = mean_and_error(values)
            assert abs(mean - truth) < 5 * error


class TestAgainstTheExactEvidence:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: models.LinearGaussian(2, 8, noise_scale=0.3),
            lambda: models.CPAGenerator(1, 8, (16,), 0.3),
            lambda: models.CPAGenerator(2, 8, (8,), 0.3, "abs"),
        ],
        ids=["linear", "cpa-1d", "cpa-2d-abs"],
    )
    def test_it_is_within_a_twentieth_of_a_nat(self, make):
        torch.manual_seed(1)
        model = make().double()
        x = model(size=100).detach()
        found = annealed_evidence(model, x, SHORT, seed=0)
        error = found.value - exact_log_evidence(model, x).detach()
        assert abs(error.mean()) < 0.05
        assert 0.7 < (error / found.standard_error).square().mean().sqrt() < 1.4
        assert 0.4 < found.acceptance.min() <= found.acceptance.max() <= 1
        assert 1 <= found.effective_chains.min() <= found.effective_chains.max() <= 16

    def test_twenty_latents(self):
        torch.manual_seed(2)
        model = models.LinearGaussian(20, 30, noise_scale=0.3, isotropic=False).double()
        x = model(size=20).detach()
        found = annealed_evidence(model, x, SHORT, seed=0)
        error = (found.value - model.log_evidence(x).detach()) / found.standard_error
        assert error.square().mean().sqrt() < 2
        assert found.standard_error.mean() < 1

    def test_a_constrained_site_of_a_plain_program(self):
        x = torch.tensor([0.0, 3.0, 20.0])
        found = annealed_evidence(counts, x, SHORT)
        truth = dist.NegativeBinomial(3.0, torch.tensor(2 / 3).double()).log_prob(x.double())
        assert ((found.value - truth).abs() < 5 * found.standard_error).all()
        assert found.standard_error.max() < 0.2

    @pytest.mark.parametrize("centred", [True, False])
    def test_eight_schools_are_one_datum(self, centred):
        y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
        sd = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])

        def schools(y):
            mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
            scale = pyro.sample("scale", dist.HalfCauchy(5.0))
            with pyro.plate("data", 8):
                law = dist.Normal(mean, scale) if centred else dist.Normal(0.0, 1.0)
                effect = pyro.sample("effect", law)
                effect = effect if centred else mean + scale * effect
                pyro.sample("y", dist.Normal(effect, sd), obs=y)

        found = annealed_evidence(schools, y, SHORT)
        assert found.value.shape == (1,)
        truth = -31.3113  # two-dimensional quadrature with the effects integrated out
        assert abs(found.value.item() - truth) < 5 * found.standard_error.item()
        assert found.standard_error.item() < 1.0

    def test_from_the_gaussian_of_a_guide_no_weight_varies_much(self):
        torch.manual_seed(3)
        model = models.LinearGaussian(3, 8, noise_scale=0.05).double()
        x = model(size=10).detach()
        settings = AnnealingSettings(20, 8, start="guide")
        found = annealed_evidence(model, x, settings, guide=guides.Exact(model))
        assert_close(found.value, model.log_evidence(x).detach(), rtol=0, atol=0.06)
        assert found.length.max() < 1


class TestSandwich:
    def test_it_encloses_the_evidence_and_closes_with_more_temperatures(self):
        torch.manual_seed(4)
        model = models.LinearGaussian(2, 8, noise_scale=0.3).double()
        widths = []
        for number in (3, 100):
            found = sandwich(model, torch.zeros(100, 8), AnnealingSettings(number, 8), seed=5)
            truth = model.log_evidence(found.data.only).detach()
            below, error = mean_and_error(truth - found.lower)
            assert below > -5 * error
            above, error = mean_and_error(found.upper - truth)
            assert above > -5 * error
            widths.append(found.width)
        assert widths[0] > 0.5
        assert abs(widths[1]) < 0.1
        assert found.findings()[0].level == "good"
        assert found.dataset()["upper"].dims == ("simulation",)

    def test_a_short_run_is_found_out(self):
        torch.manual_seed(5)
        model = models.LinearGaussian(5, 20, noise_scale=0.03).double()
        found = sandwich(model, torch.zeros(20, 20), AnnealingSettings(3, 4))
        assert found.width > 5
        finding = found.findings()[0]
        assert finding.level == "care"
        assert "more temperatures" in finding.advice


class TestError:
    def test_of_even_weights_it_is_the_delta_method(self):
        torch.manual_seed(6)
        log_weights = 0.05 * torch.randn(400, 3).double()
        expected = log_weights.exp().std(0) / log_weights.exp().mean(0) / 20
        assert_close(annealing_error(log_weights), expected, rtol=0.01, atol=0)

    def test_one_chain_far_above_the_others_is_no_small_error(self):
        log_weights = torch.tensor([[9.0], [0.0], [0.0], [0.0]]).double()
        assert annealing_error(log_weights).item() > 5

    def test_chains_without_weight_are_counted(self):
        half = torch.tensor([0.0, -math.inf]).repeat(50)[:, None].double()
        assert annealing_error(half).item() == pytest.approx(0.1, rel=0.05)
        assert annealing_error(half[:2]).isinf().all()


class TestRuns:
    @pytest.fixture
    def model(self):
        torch.manual_seed(7)
        return models.LinearGaussian(2, 4, noise_scale=0.3)

    @pytest.fixture
    def settings(self):
        return AnnealingSettings(20, 4)

    def test_memory_has_no_say(self, model, monkeypatch):
        x = model(size=6).detach()
        settings = AnnealingSettings(5, 3)
        together = annealed_evidence(model.forward, x, settings)
        monkeypatch.setattr("pyrolvm.inference.annealing.path.CHUNK_ELEMENTS", 1)
        parts = annealed_evidence(model.forward, x, settings)
        assert_close(together.log_weights, parts.log_weights)

    def test_rows_in_parts_come_back_in_order(self, model, monkeypatch):
        x = 4 * model(size=6).detach()
        monkeypatch.setattr("pyrolvm.inference.annealing.runs.CHUNK_ELEMENTS", 4 * 1000)
        found = annealed_evidence(model, x, AnnealingSettings(50, 4))
        truth = model.double().log_evidence(x.double()).detach()
        assert found.log_weights.shape == (4, 6)
        assert_close(found.value, truth, rtol=0, atol=2.0)
        assert truth.std() > 4

    def test_the_seed_decides_and_the_users_random_numbers_stay(self, model, settings):
        x = model(size=3).detach()
        before = torch.get_rng_state()
        first, again = (annealed_evidence(model, x, settings, seed=3) for _ in range(2))
        assert torch.equal(before, torch.get_rng_state())
        assert torch.equal(first.log_weights, again.log_weights)
        other = annealed_evidence(model, x, settings, seed=4)
        assert not torch.equal(first.log_weights, other.log_weights)

    def test_temperatures_rise_from_the_prior_to_the_posterior(self, model):
        x = model(size=5).detach()
        with own_randomness(0), latent_space(model, x) as space:
            path = PriorPath(space)
            schedule = tune(path, 2).schedule
            betas = torch.stack([schedule.at(step / 50).beta for step in range(51)])
            weights, _ = cool(path, schedule, AnnealingSettings(50, 4))
        assert (betas[0] == 0).all()
        assert (betas[-1] == 1).all()
        assert (betas.diff(dim=0) > 0).all()
        assert weights.isfinite().all()

    def test_refusals(self, model):
        x = model(size=3).detach()
        with pytest.raises(SettingError, match="needs the guide: pass guide="):
            annealed_evidence(model, x, AnnealingSettings(start="guide"))
        with pytest.raises(SettingError, match="num_chains should be at least 2"):
            AnnealingSettings(num_chains=1)
        with pytest.raises(SettingError, match="'prior' or 'guide', but it is 'x'"):
            AnnealingSettings(start="x")

        def infinite(x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", dist.Poisson(torch.ones(len(x))))
                pyro.sample("x", dist.Normal(k, 1.0), obs=x)

        with pytest.raises(SiteError, match="'k' is discrete"):
            annealed_evidence(infinite, torch.zeros(3))
