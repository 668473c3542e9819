"""The evidence: its routes, its refusals, its gradient, and the bound below it."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, EvidenceError, log_densities
from pyrolvm.inference import exact_evidence, has_exact_evidence, iwae_evidence


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
    value = lvm.log_evidence(model, x)
    assert value.shape == (5,)
    assert value.dtype == torch.float64
    assert_close(value, guide.log_evidence(x), rtol=1e-10, atol=1e-10)


def test_exact_weights_are_the_evidence(model, x):
    found = log_densities(model, guides.ExactCPA(model), x, num_particles=4)
    value = lvm.log_evidence(model, x).detach().expand(4, 5)
    assert_close(found.log_weights, value, rtol=0, atol=1e-8)


def test_its_gradient_is_that_of_finite_differences(model, x):
    lvm.log_evidence(model, x).sum().backward()
    step = 1e-5
    for parameter in model.parameters():
        flat, grad = parameter.data.view(-1), parameter.grad.view(-1)
        for place in range(0, len(flat), max(1, len(flat) // 3)):
            around = []
            for sign in (1, -1):
                flat[place] += sign * step
                with torch.no_grad():
                    around.append(lvm.log_evidence(model, x).sum().item())
                flat[place] -= sign * step
            assert grad[place].item() == pytest.approx(
                (around[0] - around[1]) / (2 * step), rel=1e-4, abs=1e-5
            )


def test_maximum_likelihood_by_any_optimizer(model, x):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = lvm.log_evidence(model, x).mean().item()
    for _ in range(5):
        optimizer.zero_grad()
        (-lvm.log_evidence(model, x).mean()).backward()
        optimizer.step()
    assert lvm.log_evidence(model, x).mean().item() > before


def test_iwae_is_a_bound_that_tightens(model, x):
    guide = guides.Amortized(model.float(), hidden=())
    value = lvm.log_evidence(model, x.float()).double().mean()
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
        wanted = lvm.log_evidence(model, x)
    found = exact_evidence(model, {"x": x})
    assert found.method == "exact"
    assert not found.is_bound
    assert_close(found.value, wanted)


class TestRefusals:
    def test_no_closed_form(self):
        model = models.VAE(3, 4, likelihood="bernoulli")
        assert not has_exact_evidence(model)
        assert exact_evidence(model, torch.zeros(2, 4)) is None
        with pytest.raises(EvidenceError, match=r"VAE has neither a closed form.*diagnose"):
            lvm.log_evidence(model, torch.zeros(2, 4))

    def test_too_many_dimensions(self):
        model = models.CPAGenerator(6, 4)
        with pytest.raises(EvidenceError, match="6 latent dimensions, and the exact engine"):
            lvm.log_evidence(model, torch.zeros(2, 4))

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
        assert_close(lvm.log_evidence(model, x.numpy()), lvm.log_evidence(model, x))
