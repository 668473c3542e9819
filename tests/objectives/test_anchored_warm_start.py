"""The anchored warm start, and what ``fit`` makes of any warm start."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import CheckpointError, Data, IncompatiblePairError, NonFiniteLossError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.program_state import program_state

LOC = torch.tensor([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
QUIET = {"steps": 6, "batch_size": 16, "progress": False}


def pair(learned=()):
    torch.manual_seed(3)
    model = models.AnchoredIVAE(
        models.EnvironmentPrior(LOC, 0.5), 3, hidden=(16,), learned=learned
    )
    return model, guides.ConditionalProduct(model, hidden=(16,))


def observations():
    torch.manual_seed(4)
    u = torch.arange(3).repeat_interleave(40)
    x = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])[u]
    return {"x": x + 0.1 * torch.randn(120, 3), "u": u}


def same(first, second):
    one, other = (program_state(*each) for each in (first, second))
    return all(torch.equal(value, other[name]) for name, value in one.items())


def shifted(model, guide, rows):
    """A warm start that draws random numbers."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))


def test_encoder_and_decoder_find_the_arrangement_of_the_prior():
    model, guide = pair()
    data = observations()
    lvm.AnchoredWarmStart(steps=150)(model, guide, Data.of(data))
    x = data["x"].reshape(3, 40, 3).mean(1)
    assert_close(guide.evidence(x).mean, LOC, rtol=0, atol=0.6)
    assert_close(model.generate(LOC), x, rtol=0, atol=0.6)


def test_the_prior_and_what_is_frozen_stay():
    model, guide = pair(learned=[1])
    model.decoder.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lvm.AnchoredWarmStart(steps=3)(model, guide, Data.of(observations()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in (*model.parameters(), *guide.parameters()))


def test_it_is_the_start_of_a_fit():
    """Warm start by hand, then fit: the same as a fit with the warm start, bit for bit."""
    start = lvm.AnchoredWarmStart(steps=5)
    by_hand, inside, data = pair(), pair(), observations()
    torch.manual_seed(7)
    start(*by_hand, Data.of(data))
    lvm.fit(*by_hand, data, seed=7, **QUIET)
    lvm.fit(*inside, data, seed=7, warm_start=start, **QUIET)
    assert same(by_hand, inside)


def test_the_random_numbers_of_the_steps_are_those_without_it():
    drawn = []
    for warm_start in (None, lambda *_: torch.rand(5)):
        model, guide = pair()
        lvm.fit(model, guide, observations(), warm_start=warm_start, **QUIET)
        drawn.append((model, guide))
    assert same(*drawn)


def test_the_users_random_numbers_stay():
    torch.manual_seed(1)
    wanted = torch.rand(3)
    first, second = pair(), observations()
    torch.manual_seed(1)
    lvm.fit(*first, second, warm_start=shifted, **QUIET)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("killed_at", [0, 4])
def test_a_resumed_fit_does_not_repeat_it(tmp_path, killed_at):
    calls = []

    def start(model, guide, rows):
        calls.append(rows.num_rows)
        shifted(model, guide, rows)

    def kill(step):
        if step == killed_at:
            raise KeyboardInterrupt

    whole, resumed = pair(), pair()
    lvm.fit(*whole, observations(), warm_start=start, **QUIET)
    options = {"warm_start": start, "checkpoint": tmp_path / "fit.safetensors", **QUIET}
    options["checkpoint_every"] = 2
    with pytest.raises(KeyboardInterrupt):
        lvm.fit(*pair(), observations(), watch=kill, watch_every=1, **options)
    assert len(calls) == 2
    lvm.fit(*resumed, observations(), **options)
    assert calls == [120, 120]
    assert same(whole, resumed)


def test_a_checkpoint_of_another_warm_start_is_refused(tmp_path):
    options = {"checkpoint": tmp_path / "fit.safetensors", **QUIET}
    lvm.fit(*pair(), observations(), warm_start=lvm.AnchoredWarmStart(steps=2), **options)
    for other in (None, lvm.AnchoredWarmStart(steps=3)):
        with pytest.raises(CheckpointError, match="differs in warm_start"):
            lvm.fit(*pair(), observations(), warm_start=other, **options)


def test_programs_that_it_cannot_start_are_refused():
    start, rows = lvm.AnchoredWarmStart(steps=1), Data.of(observations())
    vae = models.VAE(2, 3)
    with pytest.raises(IncompatiblePairError, match="a conditional prior, which VAE"):
        start(vae, guides.Amortized(vae), rows)
    model, _ = pair()
    with pytest.raises(IncompatiblePairError, match=r"evidence\(x\), which ConditionalEncoder"):
        start(model, guides.ConditionalEncoder(model), rows)


def test_a_loss_that_is_not_finite_stops_it():
    model, guide = pair()
    with torch.no_grad():
        model.decoder[0].weight.fill_(torch.inf)
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    with pytest.raises(NonFiniteLossError, match=r"warm start met .* step 0"):
        lvm.AnchoredWarmStart(steps=2)(model, guide, Data.of(observations()))
    assert all(torch.equal(value, before[name]) for name, value in guide.state_dict().items())


@pytest.mark.parametrize("bad", [{"steps": -1}, {"batch_size": 0}, {"learning_rate": 0.0}])
def test_numbers_that_make_no_sense_are_refused(bad):
    with pytest.raises(SettingError, match=next(iter(bad))):
        lvm.AnchoredWarmStart(**bad)
