"""The coupled bound: gradients against enumeration and quadrature, limits, Pyro's own figures."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import RenyiELBO

from pyrolvm import guides, models
from pyrolvm.core.errors import SettingError
from pyrolvm.core.tracing import Holding
from pyrolvm.objectives import CoupledELBO, LeaveOneOutELBO


def estimates(objective, net, gradient, module, repeats=40):
    """Gradients of the loss at all data, one in a row."""
    found = [
        gradient(objective(net.model, net.guide, net.x), module.parameters())
        for _ in range(repeats)
    ]
    return torch.stack(found)


@pytest.mark.parametrize("alpha", [0.5, 0.8])
@pytest.mark.parametrize("control_variate", [True, False])
@pytest.mark.parametrize("part", ["model", "guide"])
def test_many_draws_give_the_gradient_of_the_enumerated_bound(
    net, gradient, close_in_mean, part, control_variate, alpha
):
    objective = CoupledELBO(2000, alpha=alpha, control_variate=control_variate)
    module = getattr(net, part)
    truth = gradient(-net.coupled(net.x, alpha).sum(), module.parameters())
    found = estimates(objective, net, gradient, module)
    assert close_in_mean(found, truth)
    assert (found.mean(0) - truth).norm() < 0.03 * truth.norm()


def test_many_draws_give_the_enumerated_bound(net):
    value = CoupledELBO(20_000)(net.model, net.guide, net.x)
    assert abs(-value - net.coupled(net.x).sum()) < 0.1


def test_the_control_variate_keeps_the_mean(enumerated, gradient):
    net = enumerated((2, 1), 2)
    found = [
        gradient(
            net.expectations(CoupledELBO(3, control_variate=on), net.x[1], lambda w: w.sum(0))[0],
            net.guide.parameters(),
        )
        for on in (True, False)
    ]
    assert found[0].abs().max() > 1e-3
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_the_control_variate_cuts_the_noise(net, gradient):
    with_it, without = (
        estimates(CoupledELBO(5, control_variate=on), net, gradient, net.guide, repeats=200)
        for on in (True, False)
    )
    assert with_it.var(0).sum() < 0.6 * without.var(0).sum()


def test_the_mean_over_tuples_rises_with_the_draws_from_the_elbo_to_the_bound(enumerated):
    net = enumerated((2, 1), 2)
    x = net.x[1]
    objective = CoupledELBO(2)
    means = []
    for num_particles in (1, 2, 3, 4):
        objective.num_particles = num_particles  # one draw teaches nothing, but has a value
        index = net.tuples(num_particles)
        log_guide = net.log_guide(x[None])
        with (
            torch.no_grad(),
            Holding({name: units[index] for name, units in net.states.items()}),
        ):
            rows = x.expand(index.shape[1], -1)
            values = objective.value(objective.particles(net.model, net.guide, (rows,), {}))
        means.append(-(log_guide[index, 0].sum(0).exp() * values).sum().item())
    log_weights = net.log_joint(x[None]) - log_guide
    assert means[0] == pytest.approx((log_guide.exp() * log_weights).sum().item())
    assert means == sorted(means)
    bound = net.coupled(x[None]).item()
    assert means[-1] < bound
    assert bound - means[-1] < 0.5 * (bound - means[0])


@pytest.mark.parametrize("num_particles", [2, 7])
def test_the_exact_guide_gets_no_gradient_and_the_loss_is_the_evidence(num_particles, gradient):
    model = models.SigmoidBeliefNetwork(layers=(1,), obs_dim=4).double()
    for parameter in model.parameters():
        parameter.data.uniform_(-2, 2)
    guide = guides.HelmholtzCoupled(model).double()
    down, up = model.layers["x"].network[-1], guide.layers["z_1"].network[-1]
    off, on = down.bias.detach(), (down.bias + down.weight[:, 0]).detach()
    up.weight.data.copy_(down.weight.T)
    change = torch.nn.functional.softplus(on) - torch.nn.functional.softplus(off)
    up.bias.data.copy_(model.top_logits - change.sum())
    x = (torch.rand(6, 4) < 0.5).double()
    loss = CoupledELBO(num_particles)(model, guide, x)
    top = torch.nn.functional.logsigmoid
    both = torch.stack(
        [
            top(sign * model.top_logits) + top((2 * x - 1) * logits).sum(-1)
            for sign, logits in ((1, on), (-1, off))
        ]
    )
    assert torch.allclose(loss, -both.logsumexp(0).sum())
    assert gradient(loss, guide.parameters()).abs().max() < 1e-12
    assert gradient(loss, model.parameters()).abs().max() > 0.1


def test_without_control_variate_it_is_pyros_renyi_bound(net):
    losses, gradients = [], []
    for use_pyro in (True, False):
        torch.manual_seed(3)
        for module in (net.model, net.guide):
            module.zero_grad()
        if use_pyro:
            loss = RenyiELBO(
                alpha=0.5, num_particles=5, vectorize_particles=True, max_plate_nesting=1
            ).loss_and_grads(net.model, net.guide, net.x)
        else:
            loss = CoupledELBO(5, control_variate=False)(net.model, net.guide, net.x)
            loss.backward()
        losses.append(loss if use_pyro else loss.item())
        parameters = (*net.model.parameters(), *net.guide.parameters())
        gradients.append(torch.cat([p.grad.flatten() for p in parameters]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_towards_one_it_is_the_leave_one_out_elbo(net, gradient):
    parameters = list(net.guide.parameters())
    found = []
    for objective in (CoupledELBO(4, alpha=1 - 1e-7), LeaveOneOutELBO(4)):
        torch.manual_seed(2)
        found.append(gradient(objective(net.model, net.guide, net.x), parameters))
    assert torch.allclose(found[0] * 4 / 3, found[1], rtol=1e-4, atol=1e-5)


class TestContinuousGuides:
    def test_one_latent_agrees_with_quadrature(self, gradient, close_in_mean):
        x = torch.tensor([0.3, -1.2], dtype=torch.float64)
        slope, log_scale, noise = (
            torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for value in (0.2, -0.1, 0.8)
        )

        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", Normal(z, noise), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(slope * x, log_scale.exp()))

        grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
        joint = Normal(0.0, 1.0).log_prob(grid) + Normal(grid, noise).log_prob(x)
        drawn = Normal(slope * x, log_scale.exp()).log_prob(grid)
        bound = 2 * (0.5 * (joint + drawn)).exp().sum(0).mul(18 / 2000).log()
        learned = [slope, log_scale, noise]
        truth = gradient(-bound.sum(), learned)
        objective = CoupledELBO(2000)
        found = torch.stack([gradient(objective(model, guide, x), learned) for _ in range(60)])
        assert close_in_mean(found, truth)
        assert (found.mean(0) - truth).norm() < 0.05 * truth.norm()

    def test_two_layers_agree_with_integration(self, gradient, close_in_mean):
        """The second draw depends on the first: no gradient may pass from one to the other."""
        x = torch.tensor([0.7], dtype=torch.float64)
        learned = [
            torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for value in (0.4, 0.6, 0.9, 0.5)
        ]
        first, second, down, spread = learned

        def model(x):
            with pyro.plate("data", len(x)):
                top = pyro.sample("z_2", Normal(x.new_zeros(()), 1.0))
                z = pyro.sample("z_1", Normal(down * top, 0.7))
                pyro.sample("x", Normal(torch.sin(2 * z), 0.5), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z_1", Normal(first * x, spread))
                pyro.sample("z_2", Normal(second * z, 0.8))

        grid = torch.linspace(-7, 7, 401, dtype=torch.float64)
        z, top = grid[:, None], grid[None, :]
        joint = (
            Normal(0.0, 1.0).log_prob(top)
            + Normal(down * top, 0.7).log_prob(z)
            + Normal(torch.sin(2 * z), 0.5).log_prob(x)
        )
        drawn = Normal(first * x, spread).log_prob(z) + Normal(second * z, 0.8).log_prob(top)
        bound = 2 * (0.5 * (joint + drawn)).exp().sum().mul((14 / 400) ** 2).log()
        truth = gradient(-bound, learned)
        objective = CoupledELBO(4000)
        found = torch.stack([gradient(objective(model, guide, x), learned) for _ in range(60)])
        assert close_in_mean(found, truth)
        assert (found.mean(0) - truth).norm() < 0.05 * truth.norm()


class TestSettings:
    @pytest.mark.parametrize("alpha", [0.0, 1.0, -1, float("nan")])
    def test_an_order_outside_of_zero_to_one_is_refused(self, alpha):
        with pytest.raises(SettingError, match="alpha between 0 and 1"):
            CoupledELBO(2, alpha=alpha)

    @pytest.mark.parametrize("num_particles", [1, 0, 2.0, True])
    def test_a_single_draw_is_refused(self, num_particles):
        with pytest.raises(SettingError, match=r"at least 2.*single draw teaches nothing"):
            CoupledELBO(num_particles)

    def test_its_name_tells_all_settings(self):
        assert eval(repr(CoupledELBO(3, alpha=0.25, control_variate=False))).alpha == 0.25
