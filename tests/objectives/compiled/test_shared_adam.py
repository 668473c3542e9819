"""Compiled steps beside a user who reads, loads and changes the optimizer between them."""

from __future__ import annotations

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD, Adam, ClippedAdam  # type: ignore[attr-defined]
from torch import nn

from pyrolvm.core import NonFiniteLossError
from pyrolvm.objectives import FusedOptimizer
from pyrolvm.objectives.compiled import CompiledSVI
from pyrolvm.objectives.compiled.backend import has_compiler
from pyrolvm.objectives.compiled.optimizers import shared_adam

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
ROWS = torch.randn(6, 2, generator=torch.Generator().manual_seed(2)) + 1.0
OPTIMIZERS = {
    "adam": lambda: Adam({"lr": 0.1}),
    "clipped": lambda: ClippedAdam({"lr": 0.1, "lrd": 0.95}),
    "fused": lambda: FusedOptimizer(0.1, 20, clip_norm=3.0),
}


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def guide(x):
    loc, size = pyro.param("loc", torch.zeros(2)), pyro.param("size", torch.zeros(2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, size.exp()).to_event(1))


def guide_of_loc(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def trained(make, optim, change, steps=5):
    """Losses, parameters and the object, with a change of the optimizer after some steps."""
    pyro.clear_param_store()
    torch.manual_seed(0)
    svi = make(model, guide, OPTIMIZERS[optim](), Trace_ELBO())
    losses = [svi.step(ROWS) for _ in range(2)]
    undo = change(svi.optim)
    losses += [svi.step(ROWS) for _ in range(steps)]
    undo()
    losses += [svi.step(ROWS) for _ in range(steps)]
    values = [pyro.param(name).detach().clone() for name in ("loc", "size")]
    return svi, torch.tensor(losses), values


def graph_svi(*args, **kwargs):
    return CompiledSVI(*args, backend="graph", **kwargs)


def compiled_svi(*args, **kwargs):
    return CompiledSVI(*args, backend="inductor", **kwargs)


def require_same(one, other):
    torch.testing.assert_close(one[1:], other[1:], rtol=1e-5, atol=1e-6)


def group(optim, name="loc"):
    return optim.optim_objs[pyro.param(name).unconstrained()].param_groups[0]


def reloaded(optim):
    saved = {p: copy.deepcopy(o.state_dict()) for p, o in optim.optim_objs.items()}

    def undo():
        for parameter, owner in optim.optim_objs.items():
            owner.load_state_dict(saved[parameter])

    return undo


def cleared(optim):
    return optim.optim_objs.clear


def with_one_rate_changed(optim):
    return lambda: group(optim).update(lr=0.01)


def changed(**settings):
    def change(optim):
        return lambda: [group(optim, name).update(settings) for name in ("loc", "size")]

    return change


CHANGES = {
    "load_state_dict": reloaded,
    "clear": cleared,
    "one rate": with_one_rate_changed,
    "weight decay": changed(weight_decay=0.5),
    "betas": changed(betas=(0.5, 0.6)),
    "eps": changed(eps=1.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_optimizer_is_used_as_it_is(change):
    captured = trained(graph_svi, "adam", CHANGES[change])
    require_same(captured, trained(SVI, "adam", CHANGES[change]))
    assert captured[0].reason is None
    assert captured[0]._captures == 2


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("optim", ["adam", "clipped"])
@pytest.mark.parametrize("change", ["load_state_dict", "clear", "one rate", "betas"])
def test_a_changed_optimizer_is_used_as_it_is_when_compiled(change, optim, compiling):
    compiled = trained(compiled_svi, optim, CHANGES[change])
    require_same(compiled, trained(SVI, optim, CHANGES[change]))
    assert compiled[0].reason is None
    assert compiled[0]._captures == 2


def test_a_rate_that_changes_for_all_parameters_needs_no_new_capture():
    captured = trained(graph_svi, "adam", changed(lr=0.01))
    require_same(captured, trained(SVI, "adam", changed(lr=0.01)))
    assert captured[0]._captures == 1


def restored(optim):
    saved = {name: value.clone() for name, value in optim.get_state().items()}
    return lambda: optim.set_state(saved)


@pytest.mark.slow
@needs_compiler
def test_a_state_that_is_set_is_used_by_compiled_steps(compiling):
    compiled = trained(compiled_svi, "fused", restored)
    require_same(compiled, trained(SVI, "fused", restored))
    assert compiled[0].how == "the whole step is compiled"


def begun(optim):
    """An optimizer after a step on two parameters, and these."""
    pyro.clear_param_store()
    svi = SVI(model, guide, optim, Trace_ELBO())
    svi.step(ROWS)
    return svi, [pyro.param(name).unconstrained() for name in ("loc", "size")]


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_memory_is_held_over_plain_steps(optim):
    svi, parameters = begun(OPTIMIZERS[optim]())
    adam = shared_adam(svi.optim, parameters)
    assert adam.holds()
    svi.step(ROWS)
    assert adam.holds()


def test_memory_is_held_when_a_fused_optimizer_adopts_a_parameter():
    svi, parameters = begun(OPTIMIZERS["fused"]())
    adam = shared_adam(svi.optim, parameters)
    later = pyro.param("later", torch.zeros(1)).unconstrained()
    later.grad = torch.ones(1)
    svi.optim([later])
    assert adam.holds()


@pytest.mark.parametrize(
    "change",
    [
        lambda optim: optim.set_state(optim.get_state()),
        lambda optim: setattr(optim, "clip_norm", 1.0),
        lambda optim: optim.adam.param_groups[0].update(weight_decay=0.1),
        lambda optim: optim.adam.state.clear(),
    ],
)
def test_memory_of_a_fused_optimizer_that_changes_is_not_held(change):
    svi, parameters = begun(OPTIMIZERS["fused"]())
    adam = shared_adam(svi.optim, parameters)
    change(svi.optim)
    assert not adam.holds()


def test_parameters_with_two_rates_share_no_memory():
    svi, parameters = begun(OPTIMIZERS["adam"]())
    group(svi.optim)["lr"] = 0.5
    assert shared_adam(svi.optim, parameters) is None


@pytest.mark.parametrize("optim", ["adam", "clipped"])
def test_corrections_follow_the_steps_of_each_parameter(optim):
    svi, parameters = begun(OPTIMIZERS[optim]())
    adam = shared_adam(svi.optim, parameters)
    other = SVI(model, guide_of_loc, svi.optim, Trace_ELBO())
    group(svi.optim)["lrd"] = group(svi.optim, "size")["lrd"] = 1.0
    for _ in range(3):
        other.step(ROWS)
    found = [values.tolist() for values in adam.corrections()]
    rate = group(svi.optim)["lr"]
    expected = [[rate / (1 - 0.9**t) for t in (5, 2)], [(1 - 0.999**t) ** -0.5 for t in (5, 2)]]
    assert found == [pytest.approx(values, rel=1e-6) for values in expected]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("optim", ["adam", "clipped"])
def test_another_svi_on_some_parameters_may_share_a_compiled_optimizer(optim, compiling):
    def steps_on_loc(optim):
        other = SVI(model, guide_of_loc, optim, Trace_ELBO())
        return lambda: [other.step(ROWS) for _ in range(4)]

    compiled = trained(compiled_svi, optim, steps_on_loc)
    require_same(compiled, trained(SVI, optim, steps_on_loc))


def with_broken_gradient(x):
    """The gradient of the square root at 0 is not finite, and is multiplied by 0."""
    loc, weight = pyro.param("loc", torch.ones(2)), pyro.param("weight", torch.ones(2))
    shift = (x[:, 0] * weight[0]).abs().sqrt().sum() * 0.0
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(loc + shift, 1.0).to_event(1))


def memory(optim):
    states = [owner.state_dict()["state"] for owner in optim.optim_objs.values()]
    return copy.deepcopy(states)


@pytest.mark.parametrize(
    ("make", "optim"),
    [
        (graph_svi, Adam),
        (graph_svi, ClippedAdam),
        (graph_svi, SGD),
        pytest.param(compiled_svi, Adam, marks=[pytest.mark.slow, needs_compiler]),
        pytest.param(compiled_svi, SGD, marks=[pytest.mark.slow, needs_compiler]),
    ],
)
def test_a_gradient_that_is_not_finite_changes_nothing(make, optim, compiling):
    pyro.clear_param_store()
    torch.manual_seed(0)
    svi = make(model, with_broken_gradient, optim({"lr": 0.01}), Trace_ELBO())
    for _ in range(4):
        svi.step(ROWS)
    values = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    before = memory(svi.optim)
    with pytest.warns(UserWarning, match="met a gradient that is not finite, and left the step"):
        assert math.isfinite(svi.step(torch.zeros_like(ROWS)))
    for name, value in pyro.get_param_store().items():
        assert torch.equal(value, values[name])
    torch.testing.assert_close(memory(svi.optim), before, rtol=0, atol=0)
    svi.step(ROWS)
    assert not torch.equal(pyro.param("loc"), values["loc"])
    assert svi._captures == 1


def test_a_fused_optimizer_still_raises_at_a_gradient_that_is_not_finite():
    pyro.clear_param_store()
    svi = graph_svi(model, with_broken_gradient, FusedOptimizer(0.01), Trace_ELBO())
    for _ in range(4):
        svi.step(ROWS)
    with pytest.raises(NonFiniteLossError, match="the gradient of weight is not finite"):
        svi.step(torch.zeros_like(ROWS))


class Dropping(nn.Module):
    """A guide that drops some of its data out."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x):
        pyro.module("dropping", self)
        loc = torch.dropout(x, 0.5, train=True) * self.scale
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def test_data_in_another_memory_order_draw_their_own_random_numbers():
    turned = ROWS.T.contiguous().T
    results = []
    for make in (graph_svi, SVI):
        pyro.clear_param_store()
        torch.manual_seed(0)
        dropping = Dropping()
        svi = make(model, dropping, FusedOptimizer(0.01), Trace_ELBO(), **QUIET[make])
        losses = [svi.step(ROWS) for _ in range(4)] + [svi.step(turned) for _ in range(4)]
        results.append((svi, torch.tensor(losses), [dropping.scale.detach().clone()]))
    require_same(*results)


QUIET = {graph_svi: {"quiet": True}, SVI: {}}


def test_strided_data_without_draws_of_its_own_is_captured():
    pyro.clear_param_store()
    wide = torch.randn(6, 4)[:, ::2]
    svi = graph_svi(model, guide, FusedOptimizer(0.01), Trace_ELBO())
    for data in (ROWS, wide) * 4:
        svi.step(data)
    assert svi.reason is None
    assert svi._captures == 2


def on_sparse(program):
    def run(x):
        return program(x.to_dense() if x.is_sparse else x)

    return run


def test_steps_on_sparse_data_are_plain():
    results = []
    for make in (graph_svi, SVI):
        pyro.clear_param_store()
        torch.manual_seed(0)
        loss = Trace_ELBO()
        svi = make(on_sparse(model), on_sparse(guide), Adam({"lr": 0.1}), loss, **QUIET[make])
        losses = [svi.step(ROWS) for _ in range(3)]
        losses += [svi.step(ROWS.to_sparse()) for _ in range(3)]
        values = [pyro.param(name).detach().clone() for name in ("loc", "size")]
        results.append((svi, torch.tensor(losses), values))
    require_same(*results)
