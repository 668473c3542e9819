"""``lvm.fit`` with objectives over particles: resuming, patience, frozen programs, refusals."""

from __future__ import annotations

import itertools

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Normal
from pyro.infer import Trace_ELBO
from torch import nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, SiteError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.program_state import program_state
from pyrolvm.objectives import (
    IWAE,
    VIMCO,
    CoupledELBO,
    LeaveOneOutELBO,
    ReweightedWakeSleep,
    SVILoop,
    WakeSleep,
    weighted,
)

LOSSES = [
    CoupledELBO(5),
    ReweightedWakeSleep(5),
    WakeSleep(),
    IWAE(5),
    VIMCO(5),
    LeaveOneOutELBO(5),
]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)


def network():
    torch.manual_seed(5)
    model = models.SigmoidBeliefNetwork(layers=(4, 3), obs_dim=6)
    return model, guides.HelmholtzCoupled(model)


def functions():
    """Parameters in Pyro's store, and a normalisation layer whose statistics a run changes."""
    torch.manual_seed(5)
    norm = nn.BatchNorm1d(6)

    def model(x):
        loading = pyro.param("loading", lambda: torch.randn(6))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Bernoulli(logits=z[..., None] * loading).to_event(1), obs=x)

    def guide(x):
        pyro.module("norm", norm)
        weight = pyro.param("weight", lambda: torch.randn(6))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(norm(x) @ weight, 0.5))

    return model, guide


PAIRS = [network, functions]


@pytest.fixture
def x():
    return (torch.rand(40, 6, generator=torch.Generator().manual_seed(1)) < 0.4).float()


def trained(make, x, **options):
    """Losses and state of a fit from a clean store."""
    pyro.clear_param_store()
    model, guide = make()
    result = lvm.fit(model, guide, x, progress=False, **options)
    return result, program_state(model, guide)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("make", PAIRS)
@every_loss
def test_a_killed_fit_goes_on_to_the_same_bits(make, loss, x, tmp_path, monkeypatch):
    options = {"steps": 12, "batch_size": 16, "loss": loss}
    whole, state = trained(make, x, **options)
    taken, step = itertools.count(), SVILoop._step

    def killed(self):
        if next(taken) == 7:
            raise MemoryError
        step(self)

    monkeypatch.setattr(SVILoop, "_step", killed)
    options |= {"checkpoint": tmp_path / "c", "checkpoint_every": 5}
    with pytest.raises(MemoryError):
        trained(make, x, **options)
    monkeypatch.setattr(SVILoop, "_step", step)
    resumed, other = trained(make, x, **options)
    assert torch.equal(whole.losses, resumed.losses)
    assert same(state, other)


def test_another_setting_of_the_loss_is_another_fit(x, tmp_path):
    path = tmp_path / "c"
    trained(network, x, steps=2, loss=CoupledELBO(5), checkpoint=path)
    with pytest.raises(lvm.core.CheckpointError, match="differs in loss"):
        trained(network, x, steps=2, loss=CoupledELBO(5, alpha=0.4), checkpoint=path)


@every_loss
def test_training_finds_the_data(loss, x):
    data = x.clone()
    data[:, :3] = data[:, :1]  # three units that always agree
    result, _ = trained(network, data, steps=120, batch_size=40, loss=loss, learning_rate=0.1)
    assert result.losses[-20:].mean() < result.losses[:5].mean() - 0.5


@pytest.mark.parametrize("make", PAIRS)
@pytest.mark.parametrize("train", ["model", "guide"])
@every_loss
def test_the_frozen_half_stays_as_it_is(make, train, loss, x):
    pyro.clear_param_store()
    model, guide = make()
    lvm.fit(model, guide, x, steps=1, loss=loss, progress=False)
    before = program_state(model, guide)
    lvm.fit(model, guide, x, steps=2, loss=loss, train=train, progress=False)
    after = program_state(model, guide)
    half = {"store.loading": "model", "store.weight": "guide"}
    moved = {
        half.get(name) or name.split(".")[0].split("[")[0]
        for name, value in after.items()
        if name in before and not torch.equal(value, before[name])
        if "running" not in name and "num_batches" not in name
    }
    assert moved == {train}


@every_loss
def test_validation_is_looked_at_without_gradients_and_stops_training(loss, x):
    result, _ = trained(
        network, x[:4], steps=3000, loss=loss, patience=100, validation=x[4:], learning_rate=0.1
    )
    assert result.stopped_early
    assert result.steps % 100 == 0


class TestPatienceThatDoesNotRunOut:
    def seen(self, x, steps, best_step):
        """The state after each step of a fit whose loss is lowest around one step."""
        model, guide = network()
        states = []
        elbo = LeaveOneOutELBO(3)

        def loss(model_, guide_, batch):
            states.append(program_state(model, guide))
            value = elbo(model_, guide_, batch)
            return value - value.detach() + 1.0 - float(len(states) == best_step)

        options = {"steps": steps, "patience": 10_000, "loss": loss, "progress": False}
        result = lvm.fit(model, guide, x, **options)
        assert result.steps == steps
        assert not result.stopped_early
        return states, program_state(model, guide)

    def test_the_best_state_comes_back_at_the_end(self, x):
        states, final = self.seen(x, steps=350, best_step=150)
        assert same(final, states[200])

    def test_the_last_state_stays_where_it_is_the_best(self, x):
        states, final = self.seen(x, steps=250, best_step=249)
        assert all(not same(final, state) for state in states)


class TestRefusals:
    @every_loss
    def test_weights_of_rates(self, loss, x):
        model = models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=6, hidden=(8,))
        guide = guides.Layerwise(model, hidden=(8,), rate_weights={"z_2": 0.5})
        with pytest.raises(SettingError, match=f"{type(loss).__name__} takes importance weights"):
            lvm.fit(model, guide, x, steps=1, loss=loss, progress=False)

    def test_scaled_programs(self, x):
        model, guide = network()
        half = {"z_1": 0.5}
        with pytest.raises(SettingError, match=r"'z_1': 0\.5"):
            lvm.fit(weighted(model, half), weighted(guide, half), x, steps=1, loss=VIMCO(2))

    @pytest.mark.parametrize("loss", [CoupledELBO, Trace_ELBO, "coupled"])
    def test_what_is_no_objective(self, loss, x):
        with pytest.raises(SettingError, match="loss should be an objective"):
            lvm.fit(*network(), x, steps=1, loss=loss, progress=False)

    def test_data_with_holes(self, x):
        x[3, 2] = float("nan")
        for make in PAIRS:
            with pytest.raises((DataError, SiteError), match="NaN"):
                trained(make, x, steps=1, loss=CoupledELBO(2))

    def test_a_guide_that_lacks_a_layer(self, x):
        model, _ = network()

        def guide(x):
            logits = pyro.param("logits", torch.zeros(4))
            with pyro.plate("data", len(x)):
                pyro.sample("z_1", Bernoulli(logits=logits).to_event(1))

        with pytest.raises(SiteError, match="latent site 'z_2', but the guide does not"):
            lvm.fit(model, guide, x, steps=1, loss=CoupledELBO(2), progress=False)


def test_discrete_latents_are_trained_with_baselines_by_default():
    x = (torch.rand(20, 6) < 0.5).float()

    def losses(loss):
        return lvm.fit(*network(), x, steps=5, loss=loss, progress=False).losses

    assert torch.equal(losses(None), losses(LeaveOneOutELBO(10)))
