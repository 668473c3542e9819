"""Compiled and captured steps against plain ones: losses, parameters, and every change between."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import SGD, Adam, ClippedAdam, ExponentialLR  # type: ignore[attr-defined]
from torch import nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import NonFiniteLossError
from pyrolvm.core.errors import SettingError
from pyrolvm.objectives import FusedOptimizer, LayerwiseELBO, linear_warm_up
from pyrolvm.objectives.compiled import CompiledSVI, choice
from pyrolvm.objectives.compiled.backend import has_compiler

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
OPTIMIZERS = {
    "adam": lambda: Adam({"lr": 0.01, "betas": (0.8, 0.99), "weight_decay": 0.1}),
    "clipped": lambda: ClippedAdam({"lr": 0.01, "lrd": 0.9, "clip_norm": 1.0}),
    "fused": lambda: FusedOptimizer(0.01, 20, clip_norm=3.0),
    "sgd": lambda: SGD({"lr": 1e-3}),
    "scheduled": lambda: ExponentialLR(
        {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.01}, "gamma": 0.9}
    ),
}


def tiny_pair():
    pyro.clear_param_store()
    torch.manual_seed(0)
    model = models.VAE(latent_dim=1, obs_dim=2, hidden=(3,))
    return model, guides.Amortized(model, hidden=(3,))


def trained(make, optim, batches, loss=Trace_ELBO):
    """Losses and parameters after a step on each batch."""
    model, guide = tiny_pair()
    svi = make(model, guide, OPTIMIZERS[optim](), loss())
    torch.manual_seed(1)
    losses = torch.tensor([svi.step(batch) for batch in batches], dtype=torch.float64)
    return svi, losses, [p.detach().clone() for p in (*model.parameters(), *guide.parameters())]


def graph_svi(*args, **kwargs):
    return CompiledSVI(*args, backend="graph", **kwargs)


def compiled_svi(*args, **kwargs):
    return CompiledSVI(*args, backend="inductor", **kwargs)


def require_same(one, other, rtol=1e-6, atol=1e-6):
    torch.testing.assert_close(one[1], other[1], rtol=rtol, atol=0)
    for mine, theirs in zip(one[2], other[2], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol)


def same_batches(count, size=5):
    return list(torch.randn(count, size, 2, generator=torch.Generator().manual_seed(2)))


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_captured_steps_are_the_plain_ones(optim):
    batches = same_batches(8)
    captured = trained(graph_svi, optim, batches)
    assert captured[0].reason is None
    assert "captured graph" in captured[0].how
    require_same(captured, trained(SVI, optim, batches))


@needs_compiler
@pytest.mark.parametrize("optim", ["fused", pytest.param("clipped", marks=pytest.mark.slow)])
def test_compiled_steps_are_the_plain_ones(optim, compiling):
    batches = same_batches(8)
    compiled = trained(compiled_svi, optim, batches)
    assert compiled[0].how == "the whole step is compiled"
    require_same(compiled, trained(SVI, optim, batches))


@pytest.mark.slow
@needs_compiler
def test_another_optimizer_gets_compiled_gradients(compiling):
    batches = same_batches(6)
    compiled = trained(compiled_svi, "sgd", batches)
    assert compiled[0].how.startswith("loss and gradients are compiled")
    require_same(compiled, trained(SVI, "sgd", batches))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("optim", ["adam", "fused"])
def test_several_steps_in_one_call_are_the_plain_ones(optim, compiling):
    rows, orders = torch.randn(20, 2), torch.stack([torch.randperm(20)[:5] for _ in range(3)])
    batches = [rows[:5]] * 2 + [rows[chosen] for chosen in orders] * 2
    plain = trained(SVI, optim, batches)
    model, guide = tiny_pair()
    svi = compiled_svi(model, guide, OPTIMIZERS[optim](), Trace_ELBO(), unroll=3)
    torch.manual_seed(1)
    losses = [svi.step(rows[:5]), svi.step(rows[:5])]
    losses += svi.steps(rows, chosen=orders) + svi.steps(rows, chosen=orders)
    assert svi.how == "3 whole steps are compiled"
    own = [p.detach() for p in (*model.parameters(), *guide.parameters())]
    require_same((svi, torch.tensor(losses, dtype=torch.float64), own), plain)


@pytest.mark.slow
@needs_compiler
def test_an_unrolled_step_that_is_not_finite_ends_the_call(compiling):
    rows = torch.randn(20, 2)
    rows[7] = torch.nan
    orders = torch.tensor([[0, 1, 2, 3, 4], [8, 9, 10, 11, 12], [5, 6, 7, 8, 9]])
    model, guide = tiny_pair()
    svi = compiled_svi(model, guide, FusedOptimizer(0.01), Trace_ELBO(), unroll=3)
    for _ in range(2):
        svi.step(rows[:5])
    torch.manual_seed(1)
    assert len(svi.steps(rows, chosen=orders)) == 2
    after = torch.rand(2)
    found = [p.detach().clone() for p in model.parameters()]
    model, guide = tiny_pair()
    plain = SVI(model, guide, FusedOptimizer(0.01), Trace_ELBO())
    for _ in range(2):
        plain.step(rows[:5])
    torch.manual_seed(1)
    for chosen in orders[:2]:
        plain.step(rows[chosen])
    assert torch.equal(after, torch.rand(2))
    for mine, theirs in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_weights_that_warm_up_do_so_in_captured_steps():
    def loss():
        return LayerwiseELBO({"z": 2.0}, warm_up=linear_warm_up(6))

    batches = same_batches(8)
    captured, plain = (trained(make, "fused", batches, loss) for make in (graph_svi, SVI))
    require_same(captured, plain)
    mine = captured[0].objective.history.frame
    assert mine["weight z"].tolist()[:6] == pytest.approx([k / 3 for k in range(1, 7)])
    assert len(mine) == 8


class Program(nn.Module):
    """A guide with everything that may change between two steps."""

    def __init__(self):
        super().__init__()
        self.loc, self.scale = nn.Linear(2, 2), nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.5)
        self.factor = 1.0
        self.register_buffer("shift", torch.zeros(2))

    def forward(self, x):
        pyro.module("program", self)
        x = x.float()
        loc = self.dropout(self.loc(x)) * self.factor + self.shift
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, self.scale(x).exp()).to_event(1))


def decoder(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)


def as_double(_, x):
    return x.double()


def other_rows(_, x):
    return torch.cat([x, x])


def switched(program, x):
    program.eval()
    return x


def frozen(program, x):
    program.scale.bias.requires_grad_(False)
    return x


def annealed(program, x):
    program.factor = 0.5
    return x


def shifted(program, x):
    program.shift += 1.0
    return x


def shifted_anew(program, x):
    program.shift = torch.ones(2)
    return x


def replaced(program, x):
    program.loc = nn.Linear(2, 2)
    return x


def moved(program, x):
    program.loc.weight.data = program.loc.weight.data * 2
    return x


CHANGES = (
    as_double, other_rows, switched, frozen, annealed, shifted, shifted_anew, replaced, moved,
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:scale.bias was not registered")
@pytest.mark.parametrize("change", CHANGES)
def test_a_step_after_a_change_is_captured_anew(change):
    results = []
    for make in (graph_svi, SVI):
        pyro.clear_param_store()
        torch.manual_seed(0)
        program, x = Program(), torch.randn(5, 2)
        svi = make(decoder, program, FusedOptimizer(0.01), Trace_ELBO())
        losses = [svi.step(x) for _ in range(4)]
        if make is graph_svi:
            before = svi._programs[0]
            assert before.ready((x,), {}) is not None
        x = change(program, x)
        if make is graph_svi:
            assert before.ready((x,), {}) is None
        losses += [svi.step(x) for _ in range(4)]
        if make is graph_svi:
            assert svi._programs[-1] is not before
            assert svi.reason is None
        parameters = [p.detach().clone() for p in program.parameters()]
        results.append((svi, torch.tensor(losses, dtype=torch.float64), parameters))
    require_same(*results)


def test_another_number_of_particles_is_captured_anew():
    x = torch.randn(5, 2)
    model, guide = tiny_pair()
    loss = Trace_ELBO(num_particles=2, vectorize_particles=True, max_plate_nesting=1)
    svi = graph_svi(model, guide, FusedOptimizer(0.01), loss)
    for _ in range(4):
        svi.step(x)
    before = svi._programs[0]
    assert before.ready((x,), {}) is not None
    loss.num_particles = 3
    assert before.ready((x,), {}) is None


def test_measuring_between_steps_needs_no_new_capture():
    x = torch.randn(5, 2)
    model, guide = tiny_pair()
    svi = graph_svi(model, guide, FusedOptimizer(0.01), Trace_ELBO())
    for _ in range(4):
        svi.step(x)
    lvm.log_densities(model, guide, x, num_particles=3)
    assert svi._programs[0].ready((x,), {}) is not None


BATCHES_OF_TWO_SIZES = [*same_batches(2, 4), *same_batches(2, 6)] * 4


@pytest.mark.parametrize("optim", OPTIMIZERS)
def test_batches_of_two_sizes_take_turns_without_new_captures(optim):
    captured = trained(graph_svi, optim, BATCHES_OF_TWO_SIZES)
    assert captured[0]._captures == 2
    require_same(captured, trained(SVI, optim, BATCHES_OF_TWO_SIZES))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("optim", ["adam", "fused", "clipped"])
def test_programs_of_two_sizes_share_the_memory_of_the_optimizer(optim, compiling):
    compiled = trained(compiled_svi, optim, BATCHES_OF_TWO_SIZES)
    assert compiled[0]._captures == 2
    assert compiled[0].how == "the whole step is compiled"
    require_same(compiled, trained(SVI, optim, BATCHES_OF_TWO_SIZES))


def branching(x):
    loc = pyro.param("loc", torch.zeros(2))
    with pyro.plate("data", len(x)):
        z = dist.Normal(loc if x.sum() > 0 else -loc, 1.0).to_event(1)
        pyro.sample("z", z)


def test_what_cannot_be_captured_is_trained_plainly_and_said_once():
    x = torch.randn(5, 2)
    svi = CompiledSVI(decoder, branching, Adam({"lr": 0.01}), Trace_ELBO())
    svi.step(x)
    with pytest.warns(UserWarning, match="plain Pyro steps for decoder: .*values of tensors"):
        svi.step(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = [svi.step(x) for _ in range(3)]
    assert torch.tensor(losses).isfinite().all()
    assert "values of tensors" in svi.reason


def test_a_step_inside_a_handler_is_not_taken_by_a_program_from_outside():
    x = torch.randn(5, 2)
    model, guide = tiny_pair()
    svi = graph_svi(model, guide, FusedOptimizer(0.0), Trace_ELBO())
    for _ in range(4):
        svi.step(x)
    torch.manual_seed(3)
    whole = svi.step(x)
    torch.manual_seed(3)
    with poutine.scale(scale=0.5), pytest.warns(UserWarning, match="inside a handler"):
        half = svi.step(x)
    assert half == pytest.approx(whole / 2)


def test_programs_that_lie_about_their_graph_are_found_out(monkeypatch):
    x = torch.randn(5, 2)
    model, guide = tiny_pair()
    svi = graph_svi(model, guide, FusedOptimizer(0.01), Trace_ELBO())
    capture = svi._capture

    def wrong(args, kwargs):
        captured = capture(args, kwargs)
        node = next(n for n in captured.graph.graph.nodes if "tanh" in str(n.target) or
                    "relu" in str(n.target))  # fmt: skip
        node.target = torch.ops.aten.sin.default
        captured.graph.recompile()
        return captured

    monkeypatch.setattr(svi, "_capture", wrong)
    svi.step(x)
    with pytest.warns(UserWarning, match="the captured (loss|gradient)"):
        svi.step(x)


@pytest.mark.parametrize(
    "make",
    [graph_svi, pytest.param(compiled_svi, marks=needs_compiler)],
)
def test_a_step_that_is_not_finite_changes_nothing(make, compiling):
    x = same_batches(1)[0]
    svi, _, parameters = trained(make, "fused", [x] * 4)
    state = {name: value.clone() for name, value in svi.optim.get_state().items()}
    with pytest.raises(NonFiniteLossError, match="the loss is nan"):
        svi.step(torch.full_like(x, torch.nan))
    now = [*svi.model.parameters(), *svi.guide.parameters()]
    assert all(map(torch.equal, parameters, now))
    for name, value in svi.optim.get_state().items():
        assert torch.equal(value, state[name])


QUIET = {"progress": False, "batch_size": 5, "learning_rate": 0.01}


class TestFit:
    def fitted(self, steps=12, **settings):
        model, guide = tiny_pair()
        x = torch.randn(20, 2, generator=torch.Generator().manual_seed(3))
        fitted = lvm.fit(model, guide, x, steps=steps, **{**QUIET, **settings})
        parameters = (*model.parameters(), *guide.parameters())
        return fitted, fitted.losses, [p.detach() for p in parameters]

    @needs_compiler
    def test_a_compiled_fit_is_the_plain_one(self, compiling):
        compiled, plain = (self.fitted(compile=each, clip_norm=3.0) for each in (True, False))
        assert compiled[0].compilation == "the whole step is compiled"
        assert "compile=False" in plain[0].compilation
        require_same(compiled, plain, rtol=2e-6)

    @pytest.mark.parametrize("order", [(True, False), (False, True)])
    def test_a_fit_goes_on_in_the_other_kind_of_step(self, order, tmp_path, monkeypatch):
        monkeypatch.setattr("pyrolvm.objectives.compiled.compiled_svi.has_compiler", lambda: False)
        first, second = order
        whole = self.fitted(compile=False)
        path = tmp_path / "checkpoint.safetensors"

        class KilledError(Exception):
            pass

        def kill(step):
            if step == 6:
                raise KilledError

        with pytest.raises(KilledError):
            self.fitted(
                compile=first, checkpoint=path, checkpoint_every=3, watch=kill, watch_every=1
            )
        resumed = self.fitted(compile=second, checkpoint=path, checkpoint_every=3)
        assert len(resumed[1]) == 12
        require_same(resumed, whole)

    def test_short_fits_stay_plain_and_long_ones_are_captured(self, monkeypatch, compiling):
        assert "fewer than 3000" in self.fitted()[0].compilation
        monkeypatch.setattr(choice, "FEWEST_STEPS", 10)
        captured = self.fitted()
        assert "does not pay for 12 steps" in captured[0].compilation or (
            "compiled" in captured[0].compilation
        )
        require_same(captured, self.fitted(compile=False), rtol=2e-6)

    def test_what_is_no_choice_is_refused(self):
        with pytest.raises(SettingError, match="compile should be 'auto', True or False"):
            self.fitted(compile="yes")


WARM_START = """
import sys, time, torch, pyro
from pyro.infer import Trace_ELBO
from pyro.optim import Adam
from pyrolvm import guides, models
from pyrolvm.objectives.compiled import CompiledSVI
torch.manual_seed(0)
model = models.VAE(latent_dim=1, obs_dim=2, hidden=(3,))
svi = CompiledSVI(model, guides.Amortized(model, hidden=(3,)), Adam({"lr": 0.01}), Trace_ELBO())
x = torch.ones(5, 2)
print(*[svi.step(x) for _ in range(4)], svi.how, "torch._inductor.codecache" in sys.modules)
"""


@pytest.mark.slow
@needs_compiler
def test_a_second_process_loads_the_program_without_the_compiler(compile_cache):
    environment = {**os.environ, "PYROLVM_COMPILE_CACHE": str(compile_cache / "warm")}
    lines = [
        subprocess.run(
            [sys.executable, "-c", WARM_START], env=environment, check=True, capture_output=True,
            text=True,
        ).stdout.strip()
        for _ in range(2)
    ]  # fmt: skip
    assert lines[0].endswith("the whole step is compiled True")
    assert lines[1].endswith("the whole step is compiled False")
    assert lines[0].split()[:4] == lines[1].split()[:4]
