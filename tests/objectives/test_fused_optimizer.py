"""One Adam for all parameters: the same steps as Pyro's, one parameter after another."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.optim import PyroOptim

from pyrolvm.core import NonFiniteLossError
from pyrolvm.objectives import FusedOptimizer, Patience


def stored(*shapes):
    """Unconstrained parameters in Pyro's store."""
    return [
        pyro.param(f"p{i}", torch.randn(shape)).unconstrained() for i, shape in enumerate(shapes)
    ]


def with_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters


def test_it_takes_pyros_steps():
    parameters = stored((3,), (2, 2))
    copies = [p.detach().clone().requires_grad_() for p in parameters]
    mine, theirs = FusedOptimizer(0.1), PyroOptim(torch.optim.Adam, {"lr": 0.1})
    for seed in range(5):
        mine(with_gradients(parameters, seed))
        theirs(with_gradients(copies, seed))
    for one, other in zip(parameters, copies, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_parameter_that_a_step_does_not_use_stays_where_it_is():
    first, second = stored((3,), (3,))
    optimizer = FusedOptimizer(0.1)
    optimizer(with_gradients([first, second], 0))
    first.grad, second.grad = torch.ones(3), torch.zeros(3)
    before = second.detach().clone()
    optimizer([first])
    assert torch.equal(second, before)


def test_parameters_may_come_later():
    first, second = stored((3,), (3,))
    optimizer = FusedOptimizer(0.1)
    optimizer(with_gradients([first], 0))
    before = second.detach().clone()
    optimizer(with_gradients([first, second], 1))
    assert not torch.equal(second, before)


def test_a_gradient_that_is_not_finite_changes_nothing():
    first, second = stored((3,), (3,))
    optimizer = FusedOptimizer(0.1)
    optimizer(with_gradients([first, second], 0))
    before, state = [first.detach().clone(), second.detach().clone()], optimizer.get_state()
    first.grad, second.grad = torch.ones(3), torch.tensor([0.0, torch.nan, 0.0])
    with pytest.raises(NonFiniteLossError, match="gradient of p1 is not finite"):
        optimizer([first, second])
    assert torch.equal(first, before[0])
    assert all(torch.equal(value, optimizer.get_state()[name]) for name, value in state.items())


def test_the_rate_falls_along_half_a_cosine():
    optimizer = FusedOptimizer(0.5, num_steps=101, final_fraction=0.02)
    rates = []
    for optimizer.step_count in (1, 51, 101, 500):
        rates.append(optimizer.current_rate())
    assert rates == pytest.approx([0.5, 0.255, 0.01, 0.01])


def test_a_state_is_taken_over_before_the_parameters_are_seen():
    one, two = FusedOptimizer(0.1), FusedOptimizer(0.1)
    parameters = stored((3,))
    one(with_gradients(parameters, 0))
    kept = parameters[0].detach().clone()
    two.set_state(one.get_state())
    one(with_gradients(parameters, 1))
    after = parameters[0].detach().clone()
    with torch.no_grad():
        parameters[0].copy_(kept)
    two(with_gradients(parameters, 1))
    assert torch.equal(parameters[0], after)


def test_parameters_without_a_name_do_not_learn():
    parameters = stored((3,))
    before = parameters[0].detach().clone()
    FusedOptimizer(0.1, name_of=lambda parameter: None)(with_gradients(parameters, 0))
    assert torch.equal(parameters[0], before)


def test_patience_waits_from_the_best_value():
    patience = Patience(200)
    values = {100: 3.0, 200: 1.0, 300: 2.0, 400: 1.5}
    ran_out = [patience.ran_out(step, value, dict) for step, value in values.items()]
    patience.best_state = {"kept": torch.zeros(1)}
    assert ran_out == [False, False, False, False]
    assert patience.best_step == 200
    assert patience.ran_out(500, 1.0, dict)
