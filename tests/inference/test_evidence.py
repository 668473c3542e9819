"""The evidence: its routes, its refusals, its gradient, and the bound below it."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, EvidenceError, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.inference import (
    Evidence,
    exact_evidence,
    exact_log_evidence,
    has_exact_evidence,
    iwae_evidence,
)
from pyrolvm.inference.annealing import AnnealingSettings


@pytest.fixture(params=["linear", "cpa-1d", "cpa-2d", "vae"])
def model(request):
    torch.manual_seed(4)
    return {
        "linear": lambda: models.LinearGaussian(2, 4),
        "cpa-1d": lambda: models.CPAGenerator(1, 4, (5,), 0.3, learn_noise=True),
        "cpa-2d": lambda: models.CPAGenerator(2, 4, (5,), 0.3, "abs", learn_noise=True),
        "vae": lambda: models.VAE(2, 4, (5,)),
    }[request.param]().double()


@pytest.fixture
def x(model):
    return model(size=5).detach().double()


def test_it_agrees_with_the_exact_guide(model, x):
    guide = guides.Exact(model) if isinstance(model, models.LinearGaussian) else None
    guide = guide or guides.ExactCPA(model)
    value = lvm.log_evidence(model, x).value
    assert value.shape == (5,)
    assert value.dtype == torch.float64
    assert_close(value, guide.log_evidence(x), rtol=1e-10, atol=1e-10)


def test_exact_weights_are_the_evidence(model, x):
    found = log_densities(model, guides.ExactCPA(model), x, num_particles=4)
    value = lvm.log_evidence(model, x).value.detach().expand(4, 5)
    assert_close(found.log_weights, value, rtol=0, atol=1e-8)


def test_its_gradient_is_that_of_finite_differences(model, x):
    lvm.log_evidence(model, x).value.sum().backward()
    step = 1e-5
    for parameter in model.parameters():
        flat, grad = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 3)):
            around = []
            for sign in (1, -1):
                flat[place] += sign * step
                with torch.no_grad():
                    around.append(lvm.log_evidence(model, x).value.sum().item())
                flat[place] -= sign * step
            assert grad[place].item() == pytest.approx(
                (around[0] - around[1]) / (2 * step), rel=1e-4, abs=1e-5
            )


def test_maximum_likelihood_by_any_optimizer(model, x):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = lvm.log_evidence(model, x).value.mean().item()
    for _ in range(5):
        optimizer.zero_grad()
        (-lvm.log_evidence(model, x).value.mean()).backward()
        optimizer.step()
    assert lvm.log_evidence(model, x).value.mean().item() > before


def test_iwae_is_a_bound_that_tightens(model, x):
    guide = guides.Amortized(model.float(), hidden=())
    value = lvm.log_evidence(model, x.float()).value.double().mean()
    bounds = []
    for num_particles in (1, 20, 500):
        weights = log_densities(model, guide, x, num_particles=num_particles * 40).log_weights
        groups = weights.reshape(40, num_particles, 5)
        found = torch.stack([iwae_evidence(group, "g").value for group in groups]).mean(1)
        assert found.mean() <= value + 3 * found.std() / 40**0.5
        bounds.append(found.mean().item())
    assert bounds == sorted(bounds)
    assert iwae_evidence(groups[0], "g").is_bound
    assert iwae_evidence(groups[0], "wide").method == "iwae (K=500, wide)"


def test_in_a_comparison_it_is_double_whatever_the_model(model, x):
    with torch.no_grad():
        wanted = lvm.log_evidence(model, x).value
    found = exact_evidence(model, {"x": x})
    assert found.method == "exact"
    assert not found.is_bound
    assert_close(found.value, wanted)


SHORT = AnnealingSettings(num_temperatures=100)


def plain_linear(x):
    """A plain program: z ~ N(0, 1), x ~ N(2 z, 1) twice."""
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
        pyro.sample("x", dist.Normal(2 * z[..., None].expand(*z.shape, 2), 1.0).to_event(1), obs=x)


def plain_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(0.4 * x.mean(-1), 0.5))


def plain_mixture(x):
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.8])))
        pyro.sample("x", dist.Normal(torch.tensor([-2.0, 2.0])[k], 1.0), obs=x)


def plain_counts(x):
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", dist.Poisson(torch.full((len(x),), 2.0)))
        pyro.sample("x", dist.Normal(k, 1.0), obs=x)


def plain_counts_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("k", dist.Poisson(x.clamp_min(0.0) + 1.0))


class TestRoutes:
    @pytest.mark.parametrize("method", ["auto", "quadrature", "ais", "iwae"])
    def test_all_agree_on_a_plain_program(self, method):
        x = torch.tensor([[1.0, 2.0], [-3.0, 0.0], [0.1, 0.2]])
        covariance = torch.eye(2) + 4 * torch.ones(2, 2)
        truth = dist.MultivariateNormal(torch.zeros(2), covariance).log_prob(x).double()
        found = lvm.log_evidence(plain_linear, x, method, guide=plain_guide, annealing=SHORT)
        error = (found.value - truth).abs()
        assert (error < 5 * found.standard_error + 1e-6).all()
        assert error.max() < 0.5
        names = {"auto": "quadrature", "iwae": "iwae (K=1000, plain_guide)"}
        assert found.method.startswith(names.get(method, method))
        assert found.is_bound == (method == "iwae")

    def test_discrete_latents_are_summed(self):
        x = torch.tensor([0.0, 1.0])
        found = lvm.log_evidence(plain_mixture, x)
        laws = dist.Normal(torch.tensor([-2.0, 2.0]), 1.0)
        truth = (laws.log_prob(x[:, None]) + torch.tensor([0.2, 0.8]).log()).logsumexp(1)
        assert_close(found.value, truth.double(), rtol=0, atol=1e-6)
        assert found.method == "enumerated"

    def test_only_a_guide_bounds_what_cannot_be_summed(self):
        x = torch.tensor([0.0, 3.0])
        k = torch.arange(60.0)
        truth = (dist.Poisson(2.0).log_prob(k) + dist.Normal(k, 1.0).log_prob(x[:, None])).double()
        found = lvm.log_evidence(plain_counts, x, guide=plain_counts_guide)
        assert found.method == "iwae (K=1000, plain_counts_guide)"
        assert ((found.value - truth.logsumexp(1)).abs() < 5 * found.standard_error).all()
        with pytest.raises(EvidenceError, match=r"no method for plain_counts.*'k'.*guide=guide"):
            lvm.log_evidence(plain_counts, x)

    def test_four_latents_of_a_piecewise_affine_model_carry_an_error(self):
        torch.manual_seed(0)
        model = models.CPAGenerator(4, 5, (4,), 0.5)
        x = model(size=3).detach()
        found = lvm.log_evidence(model, x)
        assert found.method == "lattice"
        assert (found.standard_error > 0).all()
        wanted = exact_evidence(model, x)
        assert_close(found.value.detach().double(), wanted.value, rtol=0, atol=1e-3)

    def test_the_data_set_as_one_datum(self):
        def model(x):
            mean = pyro.sample("mean", dist.Normal(0.0, 2.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(mean, 1.0), obs=x)

        def guide(x):
            pyro.sample("mean", dist.Normal(x.sum() / (len(x) + 0.25), (len(x) + 0.25) ** -0.5))

        x = torch.tensor([0.3, 1.5, -0.7])
        law = dist.MultivariateNormal(torch.zeros(3), torch.eye(3) + 4 * torch.ones(3, 3))
        truth = law.log_prob(x).item()
        for method in ("quadrature", "ais", "iwae"):
            found = lvm.log_evidence(model, x, method, guide=guide, annealing=SHORT)
            assert found.value.shape == (1,)
            error = 5 * found.standard_error.item() + 1e-5
            assert found.value.item() == pytest.approx(truth, abs=error)

    def test_methods_that_do_not_serve_name_those_that_do(self):
        model = models.VAE(5, 6, (4,), likelihood="bernoulli")
        x = torch.zeros(2, 6)
        for method, sentence in (
            ("exact", r"neither a closed form.*method='ais' would do"),
            ("enumerated", r"cannot all be summed over.*method='ais' would do"),
            ("quadrature", r"5 continuous coordinates.*method='ais' would do"),
            ("iwae", r"needs a guide.*method='ais' would do"),
        ):
            with pytest.raises(EvidenceError, match=sentence):
                lvm.log_evidence(model, x, method)
        with pytest.raises(SettingError, match=r"method should be one of.*'quad'"):
            lvm.log_evidence(model, x, "quad")


class TestReport:
    def test_it_reads_as_a_sentence(self):
        settings = AnnealingSettings(500, 16)
        value, error = torch.tensor([-123.0, -124.0]), torch.tensor([0.3, 0.2])
        found = Evidence(value, error, settings.method, is_bound=True)
        assert str(found) == "-123.50 ± 0.18 nats a datum (ais: 500 temperatures, 16 chains)"
        exact = Evidence(value[:1], torch.zeros(1), "exact", is_bound=False)
        assert str(exact) == "-123.0000 nats (exact)"
        assert str(iwae_evidence(torch.zeros(5, 2), "g")).startswith(
            "at least 0.0000 nats a datum"
        )

    def test_annealing_that_was_too_short_asks_for_more(self):
        torch.manual_seed(1)
        model = models.LinearGaussian(10, 30, noise_scale=0.03)
        x = model(size=4).detach()
        short = AnnealingSettings(5, 4)
        found = lvm.log_evidence(model, x, "ais", annealing=short)
        (finding,) = found.findings()
        assert finding.level == "care"
        assert found.is_bound
        assert "num_temperatures=" in finding.advice
        tree = found.dataset()
        assert tree["log_evidence"].dims == ("datum",)
        assert tree.attrs["method"] == "ais: 5 temperatures, 4 chains"
        assert tree["effective_chains"].min() < 2

    def test_a_bound_by_the_guide_itself_is_no_yardstick_for_it(self):
        (finding,) = iwae_evidence(torch.zeros(5, 2), "g").findings()
        assert finding.level == "unknown"
        assert "lower bounds" in finding.sentence


class TestRefusals:
    def test_no_closed_form(self):
        model = models.VAE(3, 4, likelihood="bernoulli")
        assert not has_exact_evidence(model)
        assert exact_evidence(model, torch.zeros(2, 4)) is None
        with pytest.raises(EvidenceError, match=r"VAE has neither a closed form.*log_evidence"):
            exact_log_evidence(model, torch.zeros(2, 4))

    def test_too_many_dimensions(self):
        model = models.CPAGenerator(6, 4)
        with pytest.raises(EvidenceError, match="6 latent dimensions, and the exact engine"):
            lvm.log_evidence(model, torch.zeros(2, 4), "exact")

    @pytest.mark.parametrize(
        ("bad", "sentence"),
        [
            (torch.full((2, 4), torch.nan), "finite"),
            (torch.zeros(2, 3), r"\(N, 4\), but got \(2, 3\)"),
            (torch.zeros(2, 2, 4), r"\(N, obs_dim\), but got"),
            (torch.zeros(4), r"\(N, obs_dim\), but got"),
            (torch.zeros(0, 4), "no rows"),
            ({"x": torch.zeros(2, 4), "u": torch.zeros(2)}, "one tensor"),
        ],
    )
    def test_bad_data(self, bad, sentence):
        with pytest.raises(DataError, match=sentence):
            lvm.log_evidence(models.LinearGaussian(2, 4), bad)

    def test_arrays_are_read(self):
        model = models.LinearGaussian(2, 4)
        x = model(size=3).detach()
        assert_close(lvm.log_evidence(model, x.numpy()).value, lvm.log_evidence(model, x).value)
