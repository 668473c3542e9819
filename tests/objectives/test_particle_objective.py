"""What holds for every objective over particles: per datum, masks, subsampling, any program."""

from __future__ import annotations

import copy

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Normal
from pyro.infer import SVI
from pyro.infer import ReweightedWakeSleep as PyroReweightedWakeSleep
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal

from pyrolvm.core import DataError, FactorisationError, SiteError
from pyrolvm.core.tracing import Holding
from pyrolvm.objectives import (
    IWAE,
    VIMCO,
    CoupledELBO,
    FusedOptimizer,
    LeaveOneOutELBO,
    ReweightedWakeSleep,
    WakeSleep,
)

OBJECTIVES = [
    CoupledELBO(4),
    CoupledELBO(4, alpha=0.3, control_variate=False),
    ReweightedWakeSleep(4),
    WakeSleep(4),
    IWAE(4),
    VIMCO(4),
    LeaveOneOutELBO(4),
]
every_objective = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


class Plain:
    """Two functions with parameters of their own: a discrete and a continuous latent site."""

    def __init__(self, full_size=None, keep=None):
        self.full_size, self.keep = full_size, keep
        self.parameters = [leaf(0.3), leaf(0.7), leaf(-0.4), leaf(1.2)]

    def plate(self, x):
        rows = None if self.full_size is None else torch.arange(len(x))
        return pyro.plate("data", self.full_size or len(x), subsample=rows)

    def kept(self):
        return poutine.mask(mask=True if self.keep is None else self.keep)

    def model(self, x, u, *, offset=0.0):
        first, second, _, _ = self.parameters
        with self.plate(x), self.kept():
            on = pyro.sample("on", Bernoulli(logits=first + u))
            z = pyro.sample("z", Normal(on * second, 1.0))
            pyro.sample("x", Normal(z + offset, 0.5), obs=x)

    def guide(self, x, u, *, offset=0.0):
        _, _, third, fourth = self.parameters
        with self.plate(x), self.kept():
            on = pyro.sample("on", Bernoulli(logits=third * (x - offset) + u))
            pyro.sample("z", Normal(on + fourth * (x - offset), 0.8))

    def gradient(self, objective, x, u, seed=0):
        torch.manual_seed(seed)
        loss = objective(self.model, self.guide, x, u, offset=0.2)
        return loss, torch.cat(torch.autograd.grad(loss, self.parameters))


@pytest.fixture
def x():
    return torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def u():
    return torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def wake_only(objective):
    """The objective without dreams, whose draws nobody can hold."""
    objective = copy.copy(objective)
    objective.sleep_phi = 0.0
    return objective


def held_gradient(objective, net, gradient, rows, draws):
    with Holding({name: value[:, rows] for name, value in draws.items()}):
        loss = wake_only(objective)(net.model, net.guide, net.x[rows])
    return loss.detach(), gradient(loss, [*net.model.parameters(), *net.guide.parameters()])


@every_objective
def test_a_batch_is_the_sum_of_its_data(net, gradient, objective):
    index = torch.randint(net.num_states, (objective.num_particles, len(net.x)))
    draws = {name: units[index] for name, units in net.states.items()}
    whole, together = held_gradient(objective, net, gradient, slice(0, 16), draws)
    singles = [held_gradient(objective, net, gradient, [n], draws) for n in range(16)]
    assert torch.allclose(whole, sum(loss for loss, _ in singles))
    assert together.abs().max() > 0.1
    assert torch.allclose(together, sum(each for _, each in singles), rtol=1e-9, atol=1e-10)


def test_pyros_wake_sleep_weighs_the_whole_batch_instead(net, gradient):
    """The contrast: equal to the sum over data only where the weights are per datum."""
    index = torch.randint(net.num_states, (4, len(net.x)))
    draws = {name: units[index] for name, units in net.states.items()}
    loss = PyroReweightedWakeSleep(
        num_particles=4, insomnia=1.0, model_has_params=True, vectorize_particles=True,
        max_plate_nesting=1,
    )  # fmt: skip

    def guide(x, observations=None):
        return net.guide(x)

    with Holding(draws):
        theirs, _ = loss._loss(net.model, guide, (net.x,), {})
        ours = ReweightedWakeSleep(4, sleep_phi=0)(net.model, net.guide, net.x)
    found = [gradient(each, net.model.parameters()) for each in (theirs, ours)]
    assert (found[0] - found[1]).norm() > 0.1 * found[1].norm()


@every_objective
def test_a_subsampled_plate_scales_loss_and_gradient(x, u, objective):
    loss, gradient = Plain().gradient(objective, x, u)
    scaled, larger = Plain(full_size=60).gradient(objective, x, u)
    assert gradient.abs().min() > 1e-4
    assert torch.allclose(scaled, 10 * loss)
    assert torch.allclose(larger, 10 * gradient)


@every_objective
def test_masked_rows_contribute_nothing(x, u, objective):
    """Whatever stands in them."""
    keep = torch.tensor([True, True, False, True, False, True])
    loss, gradient = Plain(keep=keep).gradient(objective, x, u)
    other = torch.where(keep, x, x + 7)
    changed, same = Plain(keep=keep).gradient(objective, other, u)
    full, _ = Plain().gradient(objective, x, u)
    assert not torch.allclose(loss, full)
    assert torch.allclose(loss, changed)
    assert gradient.abs().min() > 1e-4
    assert torch.allclose(gradient, same)


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not o.sleep_phi], ids=repr)
def test_with_all_rows_kept_or_none_the_mask_is_the_rest(x, u, objective):
    nothing = torch.zeros(6, dtype=torch.bool)
    loss, gradient = Plain(keep=nothing).gradient(objective, x, u)
    assert loss == 0
    assert not gradient.any()
    programs = Plain()
    with poutine.mask(mask=nothing):
        torch.manual_seed(0)
        loss = objective(programs.model, programs.guide, x, u, offset=0.2)
    assert loss == 0


@every_objective
def test_without_gradients_it_has_the_same_value(net, objective):
    objective = wake_only(objective)
    values = []
    for with_gradient in (True, False):
        torch.manual_seed(4)
        with torch.set_grad_enabled(with_gradient):
            loss = objective(net.model, net.guide, net.x)
        assert loss.requires_grad == with_gradient
        values.append(loss.detach())
    assert values[0] == values[1]


@every_objective
def test_its_name_tells_how_to_make_it_again(objective):
    again = eval(repr(objective))
    assert vars(again).keys() == vars(objective).keys()
    assert repr(again) == repr(objective)
    assert again.sleep_phi == objective.sleep_phi


class TestAnyProgram:
    def test_parameters_of_the_store_learn_from_the_first_step(self, x):
        """The look at a pair before its first step must not be taken for the step itself."""

        def model(x):
            loc = pyro.param("loc", torch.tensor(0.1))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(loc, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        def guide(x):
            slope = pyro.param("slope", torch.tensor(0.1))
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(slope * x, 0.7))

        svi = SVI(model, guide, FusedOptimizer(0.05), loss=CoupledELBO(20))
        for _ in range(150):
            svi.step(x.float() + 2)
        assert abs(pyro.param("loc").item() - (x.mean() + 2)) < 0.3
        assert abs(pyro.param("slope").item() - 1) < 0.4

    def test_single_precision_functions_run_all_particles_at_once(self, x):
        shapes = []

        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                shapes.append(z.shape)
                pyro.sample("x", Normal(3.7 * z, 0.01), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(x / 3, 0.7))

        CoupledELBO(9)(model, guide, 1000 * x.float())
        assert shapes[-1] == (9, 6)

    def test_a_program_that_does_not_vectorise_gives_the_same_in_turn(self, x):
        slope = leaf(0.4)

        def make(fixed):
            def guide(x):
                with pyro.plate("data", len(x)):
                    pyro.sample("z", Normal(slope * x, 0.7))

            def model(x):
                with pyro.plate("data", len(x)):
                    z = pyro.sample("z", Normal(x.new_zeros(()), 1.0))
                    z = z.reshape(len(x)) if fixed else z
                    pyro.sample("x", Normal(z, 0.5), obs=x)

            return model, guide

        x = x.repeat(4)[:16]  # as many as torch draws in one go
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match="one after another"):
            slow = CoupledELBO(3)(*make(True), x)
        torch.manual_seed(0)
        fast = CoupledELBO(3)(*make(False), x)
        assert torch.allclose(slow, fast)
        assert torch.allclose(*(torch.autograd.grad(loss, slope)[0] for loss in (slow, fast)))

    @pytest.mark.parametrize("kind", [AutoNormal, AutoMultivariateNormal])
    def test_autoguides_learn(self, kind, x):
        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        guide = kind(model)
        svi = SVI(model, guide, FusedOptimizer(0.05), loss=CoupledELBO(30))
        losses = [svi.step(x.float()) for _ in range(150)]
        evidence = Normal(0.0, 1.25**0.5).log_prob(x).sum()
        assert losses[0] + evidence > 0.5
        assert abs(sum(losses[-20:]) / 20 + evidence) < 0.2

    def test_a_latent_of_the_whole_data_set_makes_it_one_datum(self, x):
        def model(x, size=None):
            z = pyro.sample("z", Normal(x.new_zeros(()), 1.0))
            rows = None if size is None else torch.arange(len(x))
            with pyro.plate("data", size or len(x), subsample=rows):
                pyro.sample("x", Normal(z, 0.5), obs=x)

        def guide(x, size=None):
            pyro.sample("z", Normal(x.mean(), 0.3))

        objective = IWAE(5000)
        found = -objective(model, guide, x)
        covariance = torch.ones(6, 6, dtype=torch.float64) + 0.25 * torch.eye(6)
        law = torch.distributions.MultivariateNormal(x.new_zeros(6), covariance)
        assert abs(found - law.log_prob(x)) < 0.05
        with pytest.raises(FactorisationError, match="'z' by all data"):
            objective(model, guide, x, size=60)

    def test_a_plate_of_another_name_makes_it_one_datum_with_a_word(self, x):
        def model(x):
            with pyro.plate("rows", len(x)):
                z = pyro.sample("z", Normal(x.new_zeros(()), 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        def guide(x):
            with pyro.plate("rows", len(x)):
                pyro.sample("z", Normal(0.8 * x, 0.2**0.5))

        objective = IWAE(3)
        with pytest.warns(UserWarning, match="'rows': a draw is weighed by all rows"):
            found = -objective(model, guide, x)
        assert abs(found - Normal(0.0, 1.25**0.5).log_prob(x).sum()) < 1e-5
        objective(model, guide, x)  # says it once


class TestRefusals:
    def test_a_guide_that_lacks_a_layer(self, net):
        def guide(x):
            with pyro.plate("data", len(x)):
                units = Bernoulli(logits=net.guide.layers["z_1"](x)).to_event(1)
                pyro.sample("z_1", units)

        with pytest.raises(SiteError, match="latent site 'z_2', but the guide does not"):
            CoupledELBO(2)(net.model, guide, net.x)

    def test_a_point_mass(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        with pytest.raises(SiteError, match="'z' of the guide is a point mass"):
            IWAE(2)(model, AutoDelta(model), x.float())

    def test_data_that_are_not_numbers(self, x):
        programs = Plain()
        x[2] = float("nan")
        with pytest.raises(DataError, match="argument '0' holds NaN"):
            CoupledELBO(2)(programs.model, programs.guide, x, torch.zeros(6))
