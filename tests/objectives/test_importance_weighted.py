"""IWAE, VIMCO and leave-one-out: their mean gradients, summed over all tuples of draws."""

from __future__ import annotations

import itertools

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Normal

import pyrolvm as lvm
from pyrolvm.core.errors import SettingError
from pyrolvm.core.tracing import Holding
from pyrolvm.objectives import IWAE, VIMCO, LeaveOneOutELBO
from pyrolvm.objectives.iwae import log_mean_weight
from pyrolvm.objectives.vimco import leave_one_out_bounds
from pyrolvm.registry import make_guide, make_model


def elbo(log_weights):
    return log_weights.mean(0)


CASES = [(IWAE, log_mean_weight), (VIMCO, log_mean_weight), (LeaveOneOutELBO, elbo)]


@pytest.mark.parametrize("num_particles", [2, 3])
@pytest.mark.parametrize(("kind", "bound"), CASES)
def test_the_mean_gradient_is_that_of_the_enumerated_bound(
    enumerated, gradient, kind, bound, num_particles
):
    net = enumerated((2, 1), 2)
    parameters = [*net.model.parameters(), *net.guide.parameters()]
    for x in net.x[1:3]:
        mean, truth = net.expectations(kind(num_particles), x, bound)
        found, wanted = gradient(mean, parameters), gradient(-truth, parameters)
        assert wanted.abs().max() > 0.01
        assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_a_single_draw_of_iwae_is_the_elbo(enumerated, gradient):
    net = enumerated((3,), 2)
    parameters = [*net.model.parameters(), *net.guide.parameters()]
    mean, truth = net.expectations(IWAE(1), net.x[0], elbo)
    assert torch.allclose(gradient(mean, parameters), gradient(-truth, parameters))


@pytest.mark.parametrize("num_particles", [2, 3])
@pytest.mark.parametrize(("kind", "bound"), CASES)
def test_a_guide_with_both_kinds_of_sites_has_the_right_mean_gradient(
    kind, bound, num_particles, gradient
):
    """At any fixed noise of the reparameterised site the sum over the discrete one is exact."""
    learned = [
        torch.tensor(value, dtype=torch.float64, requires_grad=True)
        for value in (0.4, 0.7, 0.9, -0.3, 1.1, 0.2)
    ]
    slope, scale, turn, tilt, up, off = learned

    def model(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", Normal(x.new_zeros(()), 1.0))
            d = pyro.sample("d", Bernoulli(logits=up * c + off))
            pyro.sample("x", Normal(c + 2 * d, 1.0), obs=x)

    def guide(x):
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", Normal(slope * x, scale))
            pyro.sample("d", Bernoulli(logits=turn * c + tilt * x))

    x = torch.tensor(0.8, dtype=torch.float64)
    noise = torch.randn(4, num_particles, dtype=torch.float64)
    cells = list(itertools.product(range(4), *[[0.0, 1.0]] * num_particles))
    d = torch.tensor([cell[1:] for cell in cells], dtype=torch.float64).T
    c = slope * x + scale * noise[[cell[0] for cell in cells]].T
    law = Bernoulli(logits=turn * c + tilt * x)
    chance = law.log_prob(d).sum(0).exp()
    log_weights = (
        Normal(0.0, 1.0).log_prob(c)
        + Bernoulli(logits=up * c + off).log_prob(d)
        + Normal(c + 2 * d, 1.0).log_prob(x)
        - Normal(slope * x, scale).log_prob(c)
        - law.log_prob(d)
    )
    truth = gradient(-(chance * bound(log_weights)).sum(), learned)
    objective = kind(num_particles)
    with Holding({"c": c, "d": d}):
        particles = objective.particles(model, guide, (x.expand(len(cells)),), {})
    assert torch.allclose(particles.log_weights, log_weights.detach())
    found = gradient((chance.detach() * objective.surrogate(particles)).sum(), learned)
    assert truth.abs().min() > 1e-3
    assert torch.allclose(found, truth, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("kind", "bound"), CASES)
def test_the_loss_is_the_negative_bound_in_nats(net, kind, bound):
    torch.manual_seed(1)
    value = kind(3)(net.model, net.guide, net.x)
    torch.manual_seed(1)
    particles = kind(3).particles(net.model, net.guide, (net.x,), {})
    assert torch.allclose(value, -bound(particles.log_weights).sum())


def test_vimco_is_less_noisy_than_iwae(net, gradient):
    noise = {}
    for kind in (IWAE, VIMCO):
        objective = kind(5)
        found = [
            gradient(objective(net.model, net.guide, net.x), net.guide.parameters())
            for _ in range(100)
        ]
        noise[kind] = torch.stack(found).var(0).sum()
    assert noise[VIMCO] < 0.3 * noise[IWAE]


def test_the_baseline_puts_the_mean_of_the_others_in_the_place_of_a_draw():
    log_weights = torch.randn(4, 3)
    found = leave_one_out_bounds(log_weights)
    for k in range(4):
        others = torch.cat([log_weights[:k], log_weights[k + 1 :]])
        changed = torch.cat([others, others.mean(0, keepdim=True)])
        assert torch.allclose(found[k], changed.exp().mean(0).log())


@pytest.mark.parametrize("kind", [VIMCO, LeaveOneOutELBO])
def test_a_single_draw_has_no_others(kind):
    with pytest.raises(SettingError, match="compared with the others"):
        kind(1)


@pytest.mark.parametrize("kind", [IWAE, VIMCO, LeaveOneOutELBO])
def test_the_bound_of_an_exact_code_is_the_log_density(kind):
    """The guide draws nothing; x has one latent code, and any number of draws weighs the same."""
    model = make_model("triangular-map", 3)
    guide = make_guide("exact-code", model)
    x = torch.randn(5, 3)
    loss = kind(4)(model, guide, x)
    exact = lvm.log_evidence(model, x, method="exact").value
    torch.testing.assert_close(loss.double(), -exact.double().sum(), rtol=1e-5, atol=1e-5)
    assert any(p.any() for p in torch.autograd.grad(loss, list(model.parameters())))
