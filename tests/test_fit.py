"""Training: the same seed, resuming, stopping, freezing, and Pyro's own figures."""

from __future__ import annotations

import copy
import itertools
import os
import signal

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer import SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.nn import PyroModule
from pyro.optim import PyroOptim
from torch import nn
from torch.distributions.constraints import positive
from torch.optim.optimizer import register_optimizer_step_pre_hook

from pyrolvm import fit, guides, models
from pyrolvm.core import (
    CheckpointError,
    DataError,
    FactorisationError,
    NonFiniteLossError,
    PyroLVMError,
)
from pyrolvm.core.errors import SettingError, SiteError
from pyrolvm.core.program_state import program_state
from pyrolvm.objectives import SVILoop

QUIET = {"progress": False}


def amortized():
    torch.manual_seed(5)
    model = models.VAE(2, 4, hidden=(6,))
    return model, guides.Amortized(model, "full", hidden=(6,)), {"batch_size": 8}


def per_datum():
    torch.manual_seed(5)
    model = models.LinearGaussian(2, 4)
    return model, guides.PerDatum(model, "diagonal"), {"train": "guide"}


def autoguide():
    torch.manual_seed(5)
    model = models.LinearGaussian(2, 4)
    return model, AutoMultivariateNormal(model), {"num_particles": 3}


def functions():
    def model(x):
        loading = pyro.param("loading", lambda: torch.randn(4))
        scale = pyro.param("scale", torch.tensor(0.5), constraint=positive)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z[..., None] * loading, scale).to_event(1), obs=x)

    def guide(x):
        weight = pyro.param("weight", lambda: torch.randn(4))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(x @ weight, 0.5))

    return model, guide, {"batch_size": 8}


class Tutorial(nn.Module):
    """Bound methods that register modules, with running statistics."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 4)
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))


def methods():
    torch.manual_seed(5)
    vae = Tutorial()
    return vae.model, vae.guide, {"batch_size": 8}


PAIRS = [amortized, per_datum, autoguide, functions, methods]


@pytest.fixture
def x():
    return torch.randn(20, 4, generator=torch.Generator().manual_seed(1))


def trained(make, x, **options):
    """Losses and state of a fit from a clean store."""
    pyro.clear_param_store()
    model, guide, own = make()
    result = fit(model, guide, x, **QUIET, **own, **options)
    return result, program_state(model, guide)


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


class TestSeeds:
    @pytest.mark.parametrize("make", PAIRS)
    def test_the_same_seed_gives_the_same_bits(self, make, x):
        torch.manual_seed(1)
        first, state = trained(make, x, steps=25, seed=3)
        torch.manual_seed(2)
        second, other = trained(make, x, steps=25, seed=3)
        assert torch.equal(first.losses, second.losses)
        assert_same(state, other)

    def test_another_seed_gives_other_losses(self, x):
        first, _ = trained(amortized, x, steps=5, seed=3)
        assert not torch.equal(first.losses, trained(amortized, x, steps=5, seed=4)[0].losses)

    def test_the_users_random_numbers_stay_where_they_were(self, x):
        model, guide, _ = amortized()
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        fit(model, guide, x, steps=3, **QUIET)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002

    def test_an_epoch_sees_each_row_once(self, x):
        seen = []

        def loss(model, guide, batch):
            seen.append(batch[:, 0])
            return Trace_ELBO().differentiable_loss(model, guide, batch)

        model, guide, _ = amortized()
        fit(model, guide, x, steps=4, batch_size=5, loss=loss, **QUIET)
        assert torch.equal(torch.cat(seen).sort().values, x[:, 0].sort().values)


class TestResume:
    @pytest.mark.parametrize("stop", [1, 7, 13, 20])
    @pytest.mark.parametrize("make", PAIRS)
    def test_a_killed_run_goes_on_to_the_same_bits(self, make, stop, x, tmp_path, monkeypatch):
        whole, state = trained(make, x, steps=25)
        taken = itertools.count()
        step = SVILoop._step

        def killed(self):
            if next(taken) == stop:
                raise MemoryError
            step(self)

        monkeypatch.setattr(SVILoop, "_step", killed)
        options = {"steps": 25, "checkpoint": tmp_path / "c", "checkpoint_every": 3}
        with pytest.raises(MemoryError):
            trained(make, x, **options)
        monkeypatch.setattr(SVILoop, "_step", step)
        torch.manual_seed(99)
        resumed, other = trained(make, x, **options)
        assert torch.equal(whole.losses, resumed.losses)
        assert_same(state, other)

    def test_a_finished_fit_takes_no_further_step(self, x, tmp_path):
        first, state = trained(amortized, x, steps=6, checkpoint=tmp_path / "c")
        before = (tmp_path / "c").read_bytes()
        second, other = trained(amortized, x, steps=6, checkpoint=tmp_path / "c")
        assert torch.equal(first.losses, second.losses)
        assert_same(state, other)
        assert (tmp_path / "c").read_bytes() == before

    def test_early_stopping_resumes_to_the_same_bits(self, x, tmp_path, monkeypatch):
        options = {"steps": 2000, "patience": 200, "learning_rate": 0.05, "validation": x[:5]}
        whole, state = trained(functions, x, **options)
        assert whole.stopped_early
        taken, step = itertools.count(), SVILoop._step

        def killed(self):
            if next(taken) == whole.steps - 50:
                raise MemoryError
            step(self)

        monkeypatch.setattr(SVILoop, "_step", killed)
        options |= {"checkpoint": tmp_path / "c", "checkpoint_every": 30}
        with pytest.raises(MemoryError):
            trained(functions, x, **options)
        monkeypatch.setattr(SVILoop, "_step", step)
        resumed, other = trained(functions, x, **options)
        assert torch.equal(whole.losses, resumed.losses)
        assert_same(state, other)

    @pytest.fixture
    def heeded_interrupt(self):
        """Python's own answer to Ctrl-C, also where the tests were started in the background."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.usefixtures("heeded_interrupt")
    def test_ctrl_c_waits_for_the_step_and_keeps_it(self, x, tmp_path):
        whole, state = trained(amortized, x, steps=12)
        calls = itertools.count()

        def loss(model, guide, batch):
            if next(calls) == 7:
                os.kill(os.getpid(), signal.SIGINT)
            return Trace_ELBO().differentiable_loss(model, guide, batch)

        options = {"steps": 12, "checkpoint": tmp_path / "c", "loss": loss}
        with pytest.raises(KeyboardInterrupt):
            trained(amortized, x, **options)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        resumed, other = trained(amortized, x, **options)
        assert next(calls) == 12
        assert torch.equal(whole.losses, resumed.losses)
        assert_same(state, other)

    @pytest.mark.parametrize(
        "change",
        [{"steps": 9}, {"seed": 1}, {"learning_rate": 0.1}, {"num_particles": 2}, {"patience": 5}],
    )
    def test_another_fits_checkpoint_is_refused_untouched(self, change, x, tmp_path):
        trained(amortized, x, steps=4, checkpoint=tmp_path / "c")
        before = (tmp_path / "c").read_bytes()
        name = next(iter(change))
        with pytest.raises(CheckpointError, match=f"another fit: it differs in {name}"):
            trained(amortized, x, **{"steps": 4, "checkpoint": tmp_path / "c", **change})
        assert (tmp_path / "c").read_bytes() == before

    def test_other_data_are_another_fit(self, x, tmp_path):
        trained(amortized, x, steps=4, checkpoint=tmp_path / "c")
        with pytest.raises(CheckpointError, match="differs in data"):
            trained(amortized, x + 1, steps=4, checkpoint=tmp_path / "c")

    def test_another_size_is_refused_and_nothing_changes(self, x, tmp_path):
        trained(amortized, x, steps=4, checkpoint=tmp_path / "c")
        model = models.VAE(2, 4, hidden=(7,))
        guide = guides.Amortized(model, "full", hidden=(6,))
        before = program_state(model, guide)
        with pytest.raises(CheckpointError, match="weights of another pair") as caught:
            fit(model, guide, x, steps=4, batch_size=8, checkpoint=tmp_path / "c", **QUIET)
        assert "\n" not in str(caught.value)
        assert_same(before, program_state(model, guide))

    def test_a_checkpoint_does_not_overwrite_another_frozen_model(self, x, tmp_path):
        model, guide, _ = per_datum()
        options = {"steps": 4, "train": "guide", "checkpoint": tmp_path / "c", **QUIET}
        fit(model, guide, x, **options)
        other = models.LinearGaussian(2, 4)
        before = copy.deepcopy(other.state_dict())
        with pytest.raises(CheckpointError, match="weights of the frozen program"):
            fit(other, guides.PerDatum(other, "diagonal"), x, **options)
        assert_same(before, other.state_dict())

    def test_a_truncated_checkpoint_is_refused_untouched(self, x, tmp_path):
        path = tmp_path / "c"
        trained(amortized, x, steps=4, checkpoint=path)
        path.write_bytes(path.read_bytes()[:-40])
        before = path.read_bytes()
        with pytest.raises(CheckpointError, match="truncated"):
            trained(amortized, x, steps=4, checkpoint=path)
        assert path.read_bytes() == before


class TestNotFinite:
    @staticmethod
    def breaking(at, how):
        calls = itertools.count()

        def loss(model, guide, x):
            value = Trace_ELBO().differentiable_loss(model, guide, x)
            return how(value) if next(calls) == at else value

        return loss

    HOWS = (
        lambda value: value * torch.nan,
        lambda value: value + torch.inf,
        lambda value: value + 0 * (value - value.detach()).sqrt(),  # the gradient alone is NaN
    )

    @pytest.mark.parametrize("how", HOWS)
    @pytest.mark.parametrize("make", [amortized, methods])
    def test_the_last_good_state_is_kept_exactly(self, make, how, x, tmp_path):
        model, guide, own = make()
        options = {"steps": 12, "learning_rate": 0.01, "decay": False, **own, **QUIET}
        kept = []

        def watching(model_, guide_, x_):
            kept.append(program_state(model, guide))
            return loss(model_, guide_, x_)

        loss = self.breaking(7, how)
        path = tmp_path / "c"
        with pytest.raises(NonFiniteLossError, match=r"stopped at step 7: the (loss|gradient)"):
            fit(model, guide, x, loss=watching, checkpoint=path, **options)
        assert_same(program_state(model, guide), kept[7])
        model, guide, _ = make()
        fit(model, guide, x, loss=watching, checkpoint=path, **options)
        assert len(kept) == 8 + 12 - 7

    def test_the_site_is_named(self, x):
        def model(x):
            scale = pyro.param("scale", torch.tensor(0.5))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z[..., None], scale.sqrt()).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(x.mean(-1), 0.1))

        with pytest.raises(NonFiniteLossError, match=r"step 1: the loss is nan \(site 'x'"):
            fit(model, guide, x * 1e-3, steps=5, learning_rate=2.0, **QUIET)

    def test_so_it_is_in_the_first_step(self, x):
        model, guide, _ = functions()
        x[3, 2] = torch.nan
        with pytest.raises((NonFiniteLossError, ValueError), match=r"site '[xz]'"):
            fit(model, guide, x, steps=5, **QUIET)

    @pytest.mark.parametrize("make", [amortized, autoguide, functions])
    def test_huge_data_are_named_as_the_cause(self, make, x):
        model, guide, _ = make()
        refused = pytest.raises((NonFiniteLossError, SiteError), match=r"reach [23]e\+30.*cause")
        with refused:
            fit(model, guide, x * 1e30, steps=5, **QUIET)

    def test_data_of_usual_size_are_not(self, x):
        model, guide, own = functions()
        loss = self.breaking(1, self.HOWS[0])
        with pytest.raises(NonFiniteLossError, match="Try a smaller learning_rate"):
            fit(model, guide, x, steps=5, loss=loss, **own, **QUIET)

    def test_data_of_own_models_are_checked_first(self, x):
        model, guide, _ = amortized()
        x[3, 2] = torch.inf
        with pytest.raises(DataError, match="row 3"):
            fit(model, guide, x, steps=5, **QUIET)


class TestRefusals:
    @pytest.mark.parametrize("make", [amortized, functions, methods, autoguide])
    def test_data_of_another_width_are_one_sentence(self, make, x):
        model, guide, own = make()
        with pytest.raises(PyroLVMError, match=r"\(N, 4\)|20, 3|8, 3") as caught:
            fit(model, guide, x[:, :3], steps=5, **own, **QUIET)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ or make in (amortized, autoguide)  # checked before any run

    def test_what_is_no_program_is_refused(self, x):
        model, guide, _ = functions()
        with pytest.raises(SettingError, match=r"guides\.Amortized"):
            fit(model, "full", x, **QUIET)
        with pytest.raises(SettingError, match="-3"):
            fit(model, guide, x, seed=-3, **QUIET)


class TestEarlyStopping:
    def test_the_best_state_comes_back(self, x):
        model, guide, _ = amortized()
        seen = {}

        def loss(model_, guide_, batch):
            seen[len(seen)] = program_state(model, guide)
            best = len(seen) <= 200
            value = Trace_ELBO().differentiable_loss(model_, guide_, batch)
            return value - value.detach() + (1.0 if best else 2.0) - float(len(seen) == 200)

        result = fit(
            model, guide, x, steps=900, patience=300, loss=loss, learning_rate=0.01, **QUIET
        )
        assert result.stopped_early
        assert result.steps == 500
        assert_same(program_state(model, guide), seen[200])

    def test_without_patience_all_steps_are_taken(self, x):
        result, _ = trained(amortized, x, steps=30)
        assert result.steps == 30
        assert not result.stopped_early


class Direct(PyroModule):
    """A parameter that stands directly in a PyroModule: Pyro sets it to learn."""

    def __init__(self):
        super().__init__(name="direct")
        self.loc = nn.Parameter(torch.zeros(4))
        self.layer = nn.Sequential(nn.Linear(1, 4), nn.Dropout(0.1))

    def forward(self, x):
        loc = self.loc
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(torch.zeros(1), 1.0).to_event(1))
            pyro.sample("x", Normal(self.layer(z) + loc, 0.5).to_event(1), obs=x)


class TestFreezing:
    @pytest.mark.parametrize("train", ["guide", "model"])
    @pytest.mark.parametrize("make_guide", [AutoNormal, AutoMultivariateNormal])
    def test_only_one_side_moves(self, train, make_guide, x):
        model = Direct()
        model.layer.eval()
        guide = make_guide(model)
        guide(x)
        modes = [part.training for part in model.modules()]
        before = program_state(model, guide)
        fit(model, guide, x, steps=4, train=train, **QUIET)
        moved = {n.split(".")[0] for n, v in program_state(model, guide).items()
                 if not torch.equal(v, before[n])}  # fmt: skip
        assert moved == {train}
        assert all(p.requires_grad for m in (model, guide) for p in m.parameters())
        assert [part.training for part in model.modules()] == modes
        assert all(p.grad is None for p in model.parameters())

    def test_functions_freeze_too(self, x):
        model, guide, _ = functions()
        model(x), guide(x)
        before = program_state(model, guide)
        fit(model, guide, x, steps=4, train="guide", **QUIET)
        after = program_state(model, guide)
        moved = {name for name in after if not torch.equal(after[name], before[name])}
        assert moved == {"store.weight"}

    def test_flags_come_back_after_an_error(self, x):
        model, guide, _ = amortized()
        loss = TestNotFinite.breaking(0, TestNotFinite.HOWS[0])
        with pytest.raises(NonFiniteLossError):
            fit(model, guide, x, steps=4, train="guide", loss=loss, **QUIET)
        assert all(p.requires_grad for p in model.parameters())
        assert model.training

    def test_a_parameter_that_was_frozen_before_stays_so(self, x):
        model, guide, _ = amortized()
        model.decoder[0].weight.requires_grad_(False)
        model.decoder.eval()
        before = model.decoder[0].weight.clone()
        fit(model, guide, x, steps=4, **QUIET)
        assert torch.equal(before, model.decoder[0].weight)
        assert not model.decoder[0].weight.requires_grad

    def test_an_unknown_side_is_refused(self, x):
        model, guide, _ = amortized()
        with pytest.raises(ValueError, match="'both', 'guide' or 'model'"):
            fit(model, guide, x, steps=4, train="decoder", **QUIET)


class TestStore:
    @pytest.mark.parametrize("make", [amortized, per_datum, autoguide, methods])
    def test_pairs_of_modules_leave_it_alone(self, make, x):
        mine = pyro.param("mine", torch.randn(3))
        value = mine.detach().clone()
        model, guide, own = make()
        fit(model, guide, x, steps=4, **own, **QUIET)
        store = pyro.get_param_store()
        assert list(store) == ["mine"]
        assert store["mine"] is mine
        assert torch.equal(mine, value)

    def test_an_earlier_pair_of_the_same_names_is_not_trained_instead(self, x):
        old, new = Tutorial(), Tutorial()
        old.model(x), old.guide(x)
        before = copy.deepcopy(old.state_dict()), copy.deepcopy(new.state_dict())
        fit(new.model, new.guide, x, steps=4, **QUIET)
        old.encoder[1].num_batches_tracked.copy_(before[0]["encoder.1.num_batches_tracked"])
        assert torch.equal(old.decoder.weight, before[0]["decoder.weight"])
        assert not torch.equal(new.decoder.weight, before[1]["decoder.weight"])
        assert not torch.equal(new.encoder[0].weight, before[1]["encoder.0.weight"])

    def test_functions_keep_what_they_learned(self, x):
        model, guide, _ = functions()
        fit(model, guide, x, steps=4, **QUIET)
        assert set(pyro.get_param_store()) == {"loading", "scale", "weight"}

    def test_plain_svi_goes_on_where_fit_ended(self, x):
        model, guide, _ = amortized()
        fit(model, guide, x, steps=4, **QUIET)
        before = model.decoder[0].weight.clone()
        SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.1}), Trace_ELBO()).step(x)
        assert not torch.equal(before, model.decoder[0].weight)


class TestObjectives:
    def test_losses_are_nats_per_datum_as_pyro_counts(self, x):
        model, guide, _ = amortized()
        pyro.set_rng_seed(3)
        by_hand = Trace_ELBO().loss(model, guide, x) / 20
        result = fit(model, guide, x, steps=1, batch_size=20, seed=3, **QUIET)
        assert result.losses[0].item() == pytest.approx(by_hand, rel=1e-6)

    def test_the_fused_optimizer_is_pyros_adam_step_for_step(self, x):
        model, guide, _ = amortized()
        other = copy.deepcopy(model)
        other_guide = copy.deepcopy(guide)
        other_guide._model = (other,)
        result = fit(
            model, guide, x, steps=30, batch_size=20, learning_rate=0.01, decay=False, **QUIET
        )
        pyro.set_rng_seed(0)
        optimizer = PyroOptim(torch.optim.Adam, {"lr": 0.01})
        svi = SVI(other, other_guide, optimizer, Trace_ELBO(max_plate_nesting=1))
        losses = [svi.step(x) / 20 for _ in range(30)]
        torch.testing.assert_close(result.losses, torch.tensor(losses), rtol=1e-5, atol=1e-5)
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        "loss",
        [
            TraceMeanField_ELBO(),
            RenyiELBO(alpha=0.0, num_particles=3),
            RenyiELBO(alpha=0.0, num_particles=3, vectorize_particles=True),
            Trace_ELBO(num_particles=2),
            Trace_ELBO().differentiable_loss,
        ],
    )
    def test_pyros_objectives_and_functions_train(self, loss, x):
        model = models.LinearGaussian(2, 4)
        guide = guides.Amortized(model, hidden=())
        result = fit(model, guide, x, steps=200, learning_rate=0.02, loss=loss, **QUIET)
        assert result.losses[-50:].mean() < result.losses[:10].mean()

    def test_the_users_objective_is_not_changed(self, x):
        loss = RenyiELBO(num_particles=3, vectorize_particles=True)
        model, guide, _ = amortized()
        before = loss.max_plate_nesting
        fit(model, guide, x, steps=2, loss=loss, **QUIET)
        assert loss.max_plate_nesting == before

    def test_more_particles_make_the_loss_less_noisy(self, x):
        noise = []
        for num_particles in (1, 50):
            model, guide, _ = amortized()
            result = fit(
                model, guide, x, steps=40, num_particles=num_particles, learning_rate=1e-9, **QUIET
            )
            noise.append(result.losses.std().item())
        assert noise[1] < noise[0] / 3

    def test_pairs_that_fix_batch_shapes_train_with_many_particles(self, x):
        def model(x):
            with pyro.plate("data", 20):
                z = pyro.sample("z", Normal(0.0, 1.0))
                assert z.shape == (20,)
                pyro.sample("x", Normal(z, 0.5), obs=x[:, 0])

        def guide(x):
            loc = pyro.param("loc", torch.zeros(20))
            with pyro.plate("data", 20):
                pyro.sample("z", Normal(loc, 0.4))

        result = fit(
            model, guide, x, steps=150, num_particles=4, learning_rate=0.05, seed=2, **QUIET
        )
        assert result.losses[-20:].mean() < result.losses[:5].mean()

    def test_clipped_gradients_have_the_norm(self, x):
        model, guide, _ = amortized()
        norms = []

        def watch(optimizer, *args):
            grads = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms.append(torch.cat([g.flatten() for g in grads]).norm().item())

        hook = register_optimizer_step_pre_hook(watch)
        try:
            fit(model, guide, x, steps=5, clip_norm=1e-2, **QUIET)
        finally:
            hook.remove()
        assert norms == pytest.approx([1e-2] * 5, rel=1e-4)


class TestArguments:
    def test_minibatches_of_a_pair_with_a_global_latent_are_refused(self, x):
        def model(x):
            w = pyro.sample("w", Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(w, 1.0), obs=x[:, 0])

        guide = AutoNormal(model)
        with pytest.raises(FactorisationError, match=r"'w' lies outside"):
            fit(model, guide, x, batch_size=5, **QUIET)
        assert fit(model, guide, x, steps=3, **QUIET).steps == 3

    def test_data_by_name(self, x):
        model, guide, _ = amortized()
        by_name = fit(model, guide, {"x": x}, steps=3, **QUIET)
        model, guide, _ = amortized()
        assert torch.equal(by_name.losses, fit(model, guide, x, steps=3, **QUIET).losses)

    def test_a_device(self, x):
        model, guide, _ = amortized()
        assert fit(model, guide, x, steps=2, device="cpu", validation=x, **QUIET).steps == 2

    def test_no_steps(self, x, tmp_path):
        model, guide, _ = amortized()
        before = program_state(model, guide)
        assert fit(model, guide, x, steps=0, checkpoint=tmp_path / "c", **QUIET).steps == 0
        assert_same(before, program_state(model, guide))

    @pytest.mark.parametrize(
        "bad",
        [
            {"steps": -1},
            {"batch_size": 0},
            {"num_particles": 0},
            {"checkpoint_every": 0},
        ],
    )
    def test_settings_that_make_no_sense(self, bad, x):
        model, guide, _ = amortized()
        with pytest.raises(ValueError, match=f"{next(iter(bad))} should be at least"):
            fit(model, guide, x, **bad, **QUIET)

    def test_the_bar_can_be_off_or_named(self, x, capsys):
        model, guide, _ = amortized()
        fit(model, guide, x, steps=3, progress=False)
        assert capsys.readouterr().err == ""
        fit(model, guide, x, steps=3, progress="train encoder")
        assert "train encoder" in capsys.readouterr().err

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_data_takes_the_type_of_an_own_model(self, dtype, x):
        for kind in (guides.Amortized, guides.PerDatum, guides.ExactCPA):
            model = models.CPAGenerator(2, 4, (5,))
            assert fit(model, kind(model), x.to(dtype), steps=2, **QUIET).steps == 2

    def test_double_precision_data_and_numpy_arrays(self, x):
        model, guide, _ = amortized()
        assert fit(model, guide, x.numpy(), steps=2, **QUIET).steps == 2
        assert fit(model, guide, x.double(), steps=2, **QUIET).steps == 2


def test_an_affine_encoder_learns_the_closed_form():
    torch.manual_seed(1)
    model = models.LinearGaussian(2, 4, noise_scale=0.7)
    x = model(size=200).detach()
    guide = guides.Amortized(model, "full", hidden=())
    fit(model, guide, x, steps=1200, learning_rate=0.03, train="guide", **QUIET)
    gap = torch.distributions.kl_divergence(guide.distribution(x), model.posterior(x))
    assert gap.mean() < 5e-3
