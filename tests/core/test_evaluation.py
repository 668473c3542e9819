"""Measuring leaves everything as it was: parameters, modes, types, Pyro's store."""

from __future__ import annotations

import functools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from pyro.optim import PyroOptim
from torch import nn
from torch.distributions.constraints import positive

from pyrolvm import guides, models
from pyrolvm.core import evaluating, log_densities
from pyrolvm.core.evaluation import own_parameters
from pyrolvm.core.reachable import reachable, reachable_modules


class Batched(PyroModule):
    """A model with batch norm, dropout and a parameter under a constraint."""

    def __init__(self):
        super().__init__(name="batched")
        self.decoder = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.scale = PyroParam(torch.tensor(0.5), constraint=positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            flat = self.decoder(z.reshape(-1, 2)).reshape(*z.shape[:-1], 3)
            pyro.sample("x", Normal(flat, self.scale).to_event(1), obs=x)


def prior(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))


@pytest.fixture
def batched():
    model = Batched()
    model.decoder[2].eval()
    model.decoder[0].weight.requires_grad_(False)
    return model


def picture(module):
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return (
        {
            n: (t.detach().clone(), t.dtype, t.data_ptr(), t.requires_grad)
            for n, t in tensors.items()
        },
        [part.training for part in module.modules()],
    )


def assert_unchanged(before, module):
    tensors, modes = picture(module)
    assert modes == before[1]
    assert tensors.keys() == before[0].keys()
    for name, (value, *rest) in tensors.items():
        assert torch.equal(value, before[0][name][0])
        assert rest == list(before[0][name][1:]), name


def test_a_measured_module_is_as_it_was(batched):
    before = picture(batched)
    log_densities(batched, prior, torch.randn(4, 3), num_particles=3)
    assert_unchanged(before, batched)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_so_it_is_after_an_error(batched):
    before = picture(batched)
    with pytest.raises(KeyError), evaluating(batched):
        {}["missing"]
    assert_unchanged(before, batched)
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_inside_all_is_double_and_in_evaluation_mode(batched):
    with evaluating(batched):
        assert {t.dtype for t in batched.parameters()} == {torch.float64}
        assert not any(part.training for part in batched.modules())
        assert not torch.is_grad_enabled()
        assert torch.zeros(1).dtype == torch.float64


def test_evaluations_nest(batched):
    with evaluating(batched):
        with evaluating(batched):
            pass
        assert batched.decoder[0].weight.dtype == torch.float64
        assert torch.get_default_dtype() == torch.float64


def test_the_store_is_as_it_was_for_functions():
    def model(x):
        scale = pyro.param("scale", torch.tensor(0.5), constraint=positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z.sum(-1), scale), obs=x[:, 0])

    x = torch.randn(4, 3)
    model(x)
    pyro.param("other", torch.randn(3))
    store = pyro.get_param_store()
    before = {name: (p, p.detach().clone()) for name, p in store.named_parameters()}
    log_densities(model, prior, x, num_particles=3)
    after = dict(store.named_parameters())
    assert list(after) == list(before)
    for name, (tensor, value) in before.items():
        assert after[name] is tensor
        assert torch.equal(after[name], value)
        assert after[name].dtype == torch.float32


def test_a_first_run_inside_leaves_nothing_in_the_store():
    def guide(x):
        loc = pyro.param("new", torch.zeros(2))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(loc, 1.0).to_event(1))

    log_densities(models.LinearGaussian(2, 3), guide, torch.randn(4, 3), num_particles=2)
    assert list(pyro.get_param_store()) == []


def test_an_autoguide_that_sets_itself_up_inside_ends_in_single_precision():
    model = models.LinearGaussian(2, 3)
    guide = AutoNormal(model)
    x = torch.randn(4, 3)
    log_densities(model, guide, x, num_particles=2)
    assert {p.dtype for p in guide.parameters()} == {torch.float32}
    SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), Trace_ELBO()).step(x)


def test_random_numbers_are_the_only_thing_that_moves_on(batched):
    x = torch.randn(4, 3)
    copy = x.clone()
    log_densities(batched, prior, x, num_particles=2)
    assert torch.equal(x, copy)


def test_training_drops_other_modules_values_and_keeps_the_rest():
    old, new = models.LinearGaussian(2, 3), models.LinearGaussian(2, 3)
    new._pyro_name = old._pyro_name
    old(torch.randn(4, 3))
    mine = pyro.param("mine", torch.ones(2))
    with own_parameters(new):
        new(torch.randn(4, 3))
        owner = pyro.get_param_store()[f"{new._pyro_name}.decoder$$$0.weight"]
        assert owner is new.decoder[0].weight
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.equal(pyro.param("mine"), mine)


def test_training_keeps_the_entries_of_a_pair_that_was_trained_before():
    model = models.LinearGaussian(2, 3)
    model(torch.randn(4, 3))
    before = dict(pyro.get_param_store().named_parameters())
    with own_parameters(model):
        model(torch.randn(4, 3))
    after = dict(pyro.get_param_store().named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)


class TestReachable:
    net = nn.Linear(2, 2)

    def test_modules_of_closures_partials_methods_and_defaults(self):
        nets = [nn.Linear(1, 1) for _ in range(5)]

        def closure():
            return nets[0]

        def nested():
            return lambda: GLOBAL

        def default(net=nets[1]):
            return net

        class Program:
            def __init__(self):
                self.net = nets[2]

            def model(self):
                return self.net

        def applied(net):
            return net

        assert set(reachable_modules(closure)) == set(nets)
        assert reachable_modules(nested) == [GLOBAL]
        assert reachable_modules(default) == [nets[1]]
        assert reachable_modules(Program().model) == [nets[2]]
        assert reachable_modules(functools.partial(applied, nets[3])) == [nets[3]]

    def test_modules_under_handlers(self):
        model = models.LinearGaussian(2, 3)
        for wrapped in (
            poutine.block(model),
            poutine.trace(model),
            poutine.scale(poutine.uncondition(model), scale=2.0),
        ):
            assert reachable_modules(wrapped) == [model]

    def test_the_model_behind_a_guide(self):
        model = models.LinearGaussian(2, 3)
        assert model in reachable_modules(guides.Amortized(model))
        assert model in reachable_modules(AutoNormal(model))

    def test_loose_tensors_but_no_parameters(self):
        loading = torch.randn(2)
        parameter = nn.Parameter(torch.randn(2))
        assert reachable(lambda: (loading, parameter))[1] == [loading]

    def test_functions_without_a_module_name(self):
        def orphan():
            return GLOBAL

        orphan.__module__ = None
        assert reachable_modules(orphan) == [GLOBAL]


GLOBAL = nn.Linear(1, 1)


def test_tensors_in_distributions_that_a_module_keeps_are_in_double_precision():
    model = nn.Module()
    model.prior = Normal(torch.zeros(2), 1.0).to_event(1)
    with evaluating(model):
        assert model.prior.sample().dtype == torch.float64
    assert model.prior.sample().dtype == torch.float32


def test_a_tensor_that_a_program_puts_into_its_module_is_gone_afterwards():
    """The latent variable model of Pyro's Gaussian processes keeps its draws so."""
    model = nn.Module()
    model.X = before = torch.zeros(2)
    with evaluating(model):
        model.X = torch.ones(2)
    assert model.X is before
    assert before.dtype == torch.float32
