"""What programs look up is noticed when it changes: no stale program takes a step."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD, Adam  # type: ignore[attr-defined]
from torch import nn

from pyrolvm.objectives.compiled import CompiledSVI, capture

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(5))
SETTINGS = ModuleType("settings")
STRENGTH = 1.0


class Config:
    """Settings as attributes of a class."""

    scale = 1.0


def guide(*_, **__):
    loc = pyro.param("loc", lambda: torch.tensor([0.3, -0.2]))
    with pyro.plate("data", 6):
        pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))


def generate(scale, x, keep=lambda z: None):
    weight = pyro.param("weight", lambda: torch.tensor([1.0, 2.0]))
    with pyro.plate("data", 6):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        keep(z)
        pyro.sample("x", dist.Normal(z * weight * scale, 1.0).to_event(1), obs=x)


def model(x):
    generate(1.0, x)


def strength():
    return STRENGTH


class Holder(nn.Module):
    """Scales by a value that it keeps in one of many ways."""

    in_class = 1.0

    def __init__(self, how):
        super().__init__()
        self.how, self.plain, self.number, self.tensor = (
            how,
            1.0,
            np.float64(1.0),
            torch.tensor(1.0),
        )
        self.listed, self.named, self.several = [1.0], {"scale": 1.0}, (1.0, 2.0)
        self.array, self.settings = np.ones(2), SimpleNamespace(scale=1.0)
        self.register_buffer("mask", None)

    def scale(self):
        return {
            "plain": lambda: self.plain, "number": lambda: float(self.number),
            "tensor": lambda: self.tensor, "listed": lambda: self.listed[0],
            "length": lambda: len(self.listed), "named": lambda: self.named["scale"],
            "several": lambda: self.several[0], "array": lambda: float(self.array[0]),
            "settings": lambda: self.settings.scale, "added": lambda: getattr(self, "later", 1.0),
            "class": lambda: type(self).in_class, "shadowed": lambda: self.in_class,
            "mask": lambda: 1.0 if self.mask is None else self.mask,
            "module": lambda: SETTINGS.scale, "global": strength, "config": lambda: Config.scale,
        }[self.how]()  # fmt: skip

    def forward(self, x):
        generate(self.scale(), x)


CHANGES = {
    "plain": lambda held: setattr(held, "plain", 0.5),
    "number": lambda held: setattr(held, "number", np.float64(0.5)),
    "tensor": lambda held: setattr(held, "tensor", torch.tensor(0.5)),
    "listed": lambda held: held.listed.__setitem__(0, 0.5),
    "length": lambda held: held.listed.append(1.0),
    "named": lambda held: held.named.update(scale=0.5),
    "several": lambda held: setattr(held, "several", (0.5, 2.0)),
    "array": lambda held: held.array.__setitem__(0, 0.5),
    "settings": lambda held: setattr(held.settings, "scale", 0.5),
    "added": lambda held: setattr(held, "later", 0.5),
    "class": lambda held: setattr(Holder, "in_class", 0.5),
    "shadowed": lambda held: setattr(held, "in_class", 0.5),
    "mask": lambda held: setattr(held, "mask", torch.tensor([0.0, 1.0])),
    "module": lambda held: setattr(SETTINGS, "scale", 0.5),
    "config": lambda held: setattr(Config, "scale", 0.5),
    "global": lambda held: globals().update(STRENGTH=0.5),
}


def graph_svi(*args):
    return CompiledSVI(*args, backend="graph")


def require_equal(scenario, captures=2):
    """A scenario gives the same losses with plain steps; captures are counted."""
    found = {}
    for make in (SVI, graph_svi):
        made = []

        def kept(*args, make=make, made=made):
            made.append(make(*args))
            return made[-1]

        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        found[make] = torch.tensor(scenario(kept), dtype=torch.float64)
    torch.testing.assert_close(found[graph_svi], found[SVI], rtol=1e-6, atol=0)
    if captures is not None:
        assert made[0].reason is None
        assert made[0]._captures == captures


def svi_of(make, program, own_guide=guide):
    return make(program, own_guide, Adam({"lr": 0.05}), Trace_ELBO())


def steps(svi, *args, count=4):
    return [svi.step(*args) for _ in range(count)]


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    monkeypatch.setattr(SETTINGS, "scale", 1.0, raising=False)
    monkeypatch.setattr(Holder, "in_class", 1.0)
    monkeypatch.setattr(Config, "scale", 1.0)
    monkeypatch.setitem(globals(), "STRENGTH", 1.0)


@pytest.mark.parametrize("how", CHANGES)
def test_a_value_that_changes_is_noticed(how):
    def scenario(make):
        globals()["STRENGTH"] = Holder.in_class = SETTINGS.scale = Config.scale = 1.0
        held = Holder(how)
        svi = svi_of(make, held)
        before = steps(svi, X)
        CHANGES[how](held)
        return before + steps(svi, X)

    require_equal(scenario)


class Trainer:
    """Keeps its losses beside its program."""

    def __init__(self):
        self.losses, self.count = [], 0

    def model(self, x):
        generate(1.0, x)

    def train(self, svi, num_steps):
        for _ in range(num_steps):
            self.losses.append(svi.step(X))
            self.count += 1
        return self.losses


def test_what_no_code_of_a_program_names_may_change():
    def scenario(make):
        trainer = Trainer()
        return trainer.train(svi_of(make, trainer.model), 12)

    require_equal(scenario, captures=1)


def test_data_that_a_program_keeps_may_be_replaced():
    def scenario(make):
        batch = X

        def program():
            generate(1.0, batch)

        svi = svi_of(make, program)
        losses = steps(svi)
        batch = 3 * X
        return losses + steps(svi)

    require_equal(scenario)


def test_data_of_a_condition_may_be_replaced():
    def scenario(make):
        data = {"x": X}
        svi = svi_of(make, poutine.condition(lambda: generate(1.0, None), data=data))
        losses = steps(svi)
        data["x"] = 3 * X
        return losses + steps(svi)

    require_equal(scenario)


@dataclass
class Batch:
    x: torch.Tensor


@pytest.mark.parametrize("kind", ["array", "object"])
def test_an_argument_that_is_no_tensor_may_change_inside(kind):
    def scenario(make):
        held = X.numpy().copy() if kind == "array" else Batch(X)

        def program(batch):
            x = torch.tensor(batch) if kind == "array" else batch.x
            generate(1.0, x)

        svi = svi_of(make, program)
        losses = steps(svi, held)
        if kind == "array":
            held *= 3
        else:
            held.x = 3 * X
        return losses + steps(svi, held)

    require_equal(scenario)


@pytest.mark.parametrize("how", ["clear", "reload", "scope"])
def test_another_state_of_the_store_is_noticed(how, tmp_path):
    def scenario(make):
        store = pyro.get_param_store()
        svi = svi_of(make, model)
        losses = steps(svi, X)
        if how == "scope":
            with store.scope():
                losses += steps(svi, X, count=2)
            return losses + steps(svi, X)
        if how == "reload":
            store.save(tmp_path / "store")
            losses += steps(svi, X)
        pyro.clear_param_store()
        if how == "reload":
            store.load(tmp_path / "store")
        return losses + steps(svi, X)

    require_equal(scenario, captures=None)


@pytest.mark.parametrize("part", ["optim", "model"])
def test_another_optimizer_or_model_is_heeded(part):
    def scenario(make):
        svi = svi_of(make, model)
        losses = steps(svi, X)
        if part == "optim":
            svi.optim = SGD({"lr": 0.001})
        else:
            svi.model = lambda x: model(3 * x)
        return losses + steps(svi, X)

    require_equal(scenario)


def test_another_loss_makes_all_steps_plain():
    svi = svi_of(graph_svi, model)
    steps(svi, X)
    svi.loss_and_grads = Trace_ELBO(num_particles=2).loss_and_grads
    with pytest.warns(UserWarning, match="its loss was replaced"):
        svi.step(X)
    assert svi.reason is not None


def test_hooks_that_are_put_in_later_are_called():
    def scenario(make):
        svi = svi_of(make, model)
        losses = steps(svi, X)
        pyro.get_param_store()._params["weight"].register_hook(lambda gradient: 0 * gradient)
        return losses + steps(svi, X)

    with pytest.warns(UserWarning, match="a parameter has hooks"):
        require_equal(scenario, captures=None)


def test_steps_without_gradients_are_those_of_pyro():
    def scenario(make):
        svi = svi_of(make, model)
        losses = steps(svi, X)
        with torch.no_grad():
            losses += steps(svi, X, count=2)
        return losses + steps(svi, X)

    require_equal(scenario, captures=1)


@pytest.mark.filterwarnings("ignore:CompiledSVI takes plain Pyro steps")
@pytest.mark.parametrize("where", ["gradient", "error"])
def test_what_cannot_run_without_gradients_is_trained_plainly(where):
    def penalised(own_model, own_guide, x):
        loss = Trace_ELBO().differentiable_loss(own_model, own_guide, x)
        if where == "error":
            assert loss.requires_grad
            return loss
        weight = pyro.get_param_store()._params["weight"]
        (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
        return loss + 0.01 * gradient.square().sum()

    def scenario(make):
        return steps(make(model, guide, Adam({"lr": 0.05}), penalised), X)

    require_equal(scenario, captures=None)


@pytest.mark.filterwarnings("ignore:CompiledSVI takes plain Pyro steps")
@pytest.mark.parametrize("how", ["rebound", "grown"])
def test_a_program_that_keeps_something_of_a_run_is_trained_plainly_and_left_alone(how):
    def scenario(make):
        kept = {"last": None, "all": []}

        def keep(z):
            if how == "rebound":
                kept["last"] = z.detach()
            else:
                kept["all"].append(z.detach())

        def keeping(x):
            generate(1.0, x, keep)

        svi = svi_of(make, keeping)
        losses = steps(svi, X)
        assert len(kept["all"]) == (0 if how == "rebound" else 4)
        return [*losses, 0.0 if kept["last"] is None else kept["last"].sum().item()]

    require_equal(scenario, captures=None)


def test_a_copy_trains_on_like_the_original():
    def scenario(make):
        held = Holder("plain")
        svi = svi_of(make, held)
        losses = steps(svi, X)
        copied = copy.deepcopy(svi)
        return losses + steps(copied, X)

    require_equal(scenario, captures=1)


def test_a_parameter_without_elements_is_no_obstacle():
    def scenario(make):
        def program(x):
            nothing = pyro.param("nothing", lambda: torch.zeros(0))
            generate(1.0 + nothing.sum(), x)

        return steps(svi_of(make, program), X)

    require_equal(scenario, captures=1)


def test_other_threads_go_on_while_a_step_is_captured():
    done, failures = threading.Event(), []

    def train():
        while not done.is_set():
            leaf = torch.ones(2, requires_grad=True)
            leaf.sum().backward()
            if leaf.grad is None:
                failures.append("a gradient is missing")

    other = threading.Thread(target=train)
    other.start()
    try:
        for _ in range(3):
            pyro.clear_param_store()
            with torch.no_grad():
                Trace_ELBO().loss(model, guide, X)
            capture(model, guide, Trace_ELBO(), (X,))
    finally:
        done.set()
        other.join()
    assert not failures
