"""Quadrature of any program: against scipy, closed forms, and spikes that a grid would miss."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import EvidenceError
from pyrolvm.core.latent_space import latent_space
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.adaptive_quadrature import adaptive_quadrature


def integrate(model, x, draws=None):
    with own_randomness(0), latent_space(model, x) as space:
        return adaptive_quadrature(space, draws)


def scales(x):
    with pyro.plate("data", len(x)):
        scale = pyro.sample("scale", dist.HalfCauchy(torch.ones(len(x))))
        pyro.sample("x", dist.Normal(0.0, scale), obs=x)


def test_a_heavy_tail_on_half_the_line_agrees_with_scipy():
    x = torch.tensor([0.5, -1.0, 2.5, 1e-3])
    value, error = integrate(scales, x)

    def joint(scale: float, at: float) -> float:
        normal = math.exp(-0.5 * (at / scale) ** 2) / (scale * math.sqrt(2 * math.pi))
        return 2 / math.pi / (1 + scale**2) * normal

    truth = [math.log(quad(joint, 0, math.inf, args=(at,), limit=500)[0]) for at in x.tolist()]
    assert_close(value, torch.tensor(truth).double(), rtol=0, atol=1e-7)
    assert error.max() < 1e-5


@pytest.mark.parametrize("noise", [1.0, 2e-3])
def test_two_latents_of_each_datum_agree_with_the_closed_form(noise):
    torch.manual_seed(0)
    model = models.LinearGaussian(2, 4, noise_scale=noise, isotropic=False).double()
    x = model(size=10).detach()
    value, error = integrate(model.forward, x)
    assert_close(value, model.log_evidence(x).detach(), rtol=0, atol=1e-8)
    assert error.max() < 1e-5


def test_mean_and_precision_of_one_data_set_agree_with_the_conjugate_prior():
    x = torch.tensor([0.3, -1.2, 2.0, 0.7])

    def model(x):
        precision = pyro.sample("precision", dist.Gamma(2.0, 3.0))
        mean = pyro.sample("mean", dist.Normal(0.5, (precision * 0.4) ** -0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(mean, precision**-0.5), obs=x)

    value, _ = integrate(model, x)
    number, centre = len(x), x.double().mean().item()
    rate = 3.0 + 0.5 * ((x.double() - centre) ** 2).sum().item()
    rate += 0.5 * 0.4 * number / (0.4 + number) * (centre - 0.5) ** 2
    shape = 2.0 + 0.5 * number
    truth = math.lgamma(shape) - math.lgamma(2.0) + 2.0 * math.log(3.0) - shape * math.log(rate)
    truth += 0.5 * math.log(0.4 / (0.4 + number)) - 0.5 * number * math.log(2 * math.pi)
    assert value.shape == (1,)
    assert value.item() == pytest.approx(truth, abs=1e-8)


def test_two_modes_a_thousand_widths_apart_are_both_seen():
    noise = 1e-3

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x)), 1.0))
            pyro.sample("x", dist.Normal(z.abs(), noise), obs=x)

    x = torch.tensor([0.5, 1.5]).double()
    value, _ = integrate(model, x)
    truth = dist.Normal(0.0, math.sqrt(1 + noise**2)).log_prob(x) + math.log(2.0)
    assert_close(value, truth.double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("width", "known"), [(1e-2, True), (1e-6, False)])
def test_a_spike_is_resolved_or_the_integral_refused(width, known):
    """Half of the mass lies in a spike that draws of a guide mark and the prior never sees."""

    def model(x):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        spike = dist.Normal(5.0, width).log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z)
        pyro.factor("spike", torch.logaddexp(spike, torch.zeros_like(spike)))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)

    marks = 5.0 + width * torch.randn(50, 1, 1, dtype=torch.float64)
    found = integrate(model, torch.zeros(1), marks)
    if known:
        assert found[0].item() == pytest.approx(math.log(2 / math.sqrt(2 * math.pi)), abs=1e-6)
    else:
        assert found is None


def test_what_it_cannot_do_is_left_alone():
    model = models.VAE(3, 4, (6,), activation="tanh").double()
    x = model(size=2).detach()
    assert integrate(model, x) is None
    with pytest.raises(EvidenceError, match=r"3 continuous coordinates.*method='ais' or"):
        lvm.log_evidence(model, x, "quadrature", guide=guides.Amortized(model))


def test_a_program_for_one_particle_at_a_time_is_left_alone_in_two_dimensions():
    def model(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(float(z.sum()), 1.0), obs=x)

    assert integrate(model, torch.tensor([0.5])) is None
