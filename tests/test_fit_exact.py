"""fit_exact: both optimizers, the best state, what is refused, how a run goes on."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import CheckpointError, DataError, EvidenceError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.datasets import synthetic
from pyrolvm.exact import RegionLimitError
from pyrolvm.inference.exact_likelihood import ExactLikelihood


def make(hidden=(6,), **options):
    torch.manual_seed(0)
    return models.CPAGenerator(1, 2, hidden, 0.5, "leaky_relu", learn_noise=True, **options)


def nll(model, x):
    return -lvm.log_evidence(model, x).value.mean().item()


@pytest.fixture(scope="module")
def wave():
    return synthetic.wave(150, noise_scale=0.1, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lbfgs_lowers_the_exact_loss(wave, dtype):
    model = make().to(dtype)
    start = nll(model, wave.train)
    fit = lvm.fit_exact(model, wave.train, steps=40, progress=False)
    assert (fit.losses.diff() <= 1e-12).all()
    assert fit.losses[-1] < start - 0.5
    assert model.dtype == dtype
    assert isinstance(fit.guide, guides.ExactCPA)
    assert nll(model, wave.train) == pytest.approx(fit.losses[-1].item(), abs=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", [models.LinearGaussian, models.CPAGenerator])
def test_lbfgs_reaches_probabilistic_pca(kind):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, dtype=torch.float64, generator=random)
    x = x @ torch.diag(torch.tensor([3.0, 1.5, 0.2, 0.1], dtype=torch.float64)) + 1.0
    torch.manual_seed(0)
    options = {"hidden": (), "noise_scale": 1.0} if kind is models.CPAGenerator else {}
    model = kind(2, 4, learn_noise=True, **options).double()
    fit = lvm.fit_exact(model, x, steps=500, progress=False)
    roots = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0))
    noise = roots[:2].mean()
    wanted = 0.5 * (4 * np.log(2 * np.pi) + roots[2:].log().sum() + 2 * noise.log() + 4)
    assert fit.stopped_early
    assert fit.losses[-1].item() == pytest.approx(wanted.item(), abs=1e-8)
    assert model.noise_scale[0].item() ** 2 == pytest.approx(noise.item(), abs=1e-8)


@pytest.mark.parametrize("batch_size", [None, 40])
def test_adam_lowers_the_exact_loss(wave, batch_size):
    model = make()
    start = nll(model, wave.train)
    fit = lvm.fit_exact(
        model, wave.train, optimizer="adam", steps=60, batch_size=batch_size,
        learning_rate=0.03, progress=False,
    )  # fmt: skip
    assert fit.steps == 60
    assert nll(model, wave.train) < start - 0.3
    if batch_size is None:
        assert fit.losses[0].item() == pytest.approx(start, abs=1e-6)
        assert nll(model, wave.train) == pytest.approx(fit.losses.min().item(), abs=1e-5)


def test_a_mixture_prior_learns(wave):
    model = make(learn_prior=True, prior_components=2)
    before = model.latent_prior.loc.detach().clone()
    start = nll(model, wave.train)
    lvm.fit_exact(model, {"x": wave.train}, steps=15, progress=False)
    assert nll(model, wave.train) < start - 0.3
    assert (model.latent_prior.loc - before).abs().min() > 1e-3


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_validation_chooses_the_state(optimizer):
    """Few data and many units: the training loss falls on while the other rises."""
    data = synthetic.circle(15, noise_scale=0.1, seed=0, test_size=200)
    model = make((16, 16))
    settings = {"learning_rate": 0.05} if optimizer == "adam" else {}
    patience = 25 if optimizer == "lbfgs" else None
    fit = lvm.fit_exact(
        model, data.train, optimizer=optimizer, steps=150, validation=data.test,
        patience=patience, progress=False, **settings,
    )  # fmt: skip
    free = make((16, 16))
    lvm.fit_exact(free, data.train, optimizer=optimizer, steps=150, progress=False, **settings)
    assert fit.stopped_early is (optimizer == "lbfgs")
    assert nll(model, data.test) < nll(free, data.test) - 0.05


def test_points_that_cannot_be_evaluated_turn_the_line_search_back(wave, monkeypatch):
    differentiate, bad = ExactLikelihood.differentiate, []

    def failing(self, x=None):
        value = differentiate(self, x)
        if len(bad) < 3 and value < 1.9:
            bad.append(value)
            raise RegionLimitError("too many")
        return value

    monkeypatch.setattr(ExactLikelihood, "differentiate", failing)
    fit = lvm.fit_exact(make(), wave.train, steps=40, progress=False)
    assert len(bad) == 3
    assert fit.losses[-1] < 1.5
    assert (fit.losses.diff() <= 1e-12).all()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_killed_run_goes_on(wave, tmp_path, monkeypatch, optimizer):
    path = tmp_path / "exact.safetensors"
    settings = {"optimizer": optimizer, "steps": 30, "progress": False}
    if optimizer == "adam":
        settings["batch_size"] = 40
    whole = lvm.fit_exact(make(), wave.train, **settings)
    monkeypatch.setattr(sys.modules["pyrolvm.fit_exact"], "SAVE_EVERY", 10)
    differentiate, calls = ExactLikelihood.differentiate, []

    def killed(self, x=None):
        calls.append(1)
        if len(calls) > 16:
            raise RuntimeError("killed")
        return differentiate(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(ExactLikelihood, "differentiate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            lvm.fit_exact(make(), wave.train, checkpoint=path, **settings)
    torch.manual_seed(9)
    model = make()
    fit = lvm.fit_exact(model, wave.train, checkpoint=path, **settings)
    assert fit.steps == 30
    assert torch.equal(fit.losses[:10], whole.losses[:10])
    if optimizer == "adam":
        assert torch.equal(fit.losses, whole.losses)
    else:
        assert (fit.losses.diff() <= 1e-12).all()
    with pytest.raises(CheckpointError, match="differs in seed"):
        lvm.fit_exact(model, wave.train, checkpoint=path, seed=4, **settings)


def test_interruption_leaves_the_best_state(wave, monkeypatch):
    model, differentiate, calls = make(), ExactLikelihood.differentiate, []

    def interrupted(self, x=None):
        calls.append(1)
        if len(calls) > 20:
            self.assign(0 * self.flat)
            raise KeyboardInterrupt
        return differentiate(self, x)

    start = nll(model, wave.train)
    monkeypatch.setattr(ExactLikelihood, "differentiate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lvm.fit_exact(model, wave.train, progress=False)
    assert model.dtype == torch.float32
    assert nll(model, wave.train) < start - 0.2


def test_what_it_cannot_do_is_refused(wave):
    with pytest.raises(EvidenceError, match="known exactly"):
        lvm.fit_exact(models.VAE(1, 2, likelihood="bernoulli"), wave.train)
    with pytest.raises(EvidenceError, match="known exactly"):
        lvm.fit_exact(models.VAE(1, 2, activation="tanh"), wave.train)
    with pytest.raises(EvidenceError, match=r"6 latent dimensions is none: .* up to 5"):
        lvm.fit_exact(models.CPAGenerator(6, 2, (4,)), wave.train)
    with pytest.raises(UnknownNameError, match="lbfgs"):
        lvm.fit_exact(make(), wave.train, optimizer="bfgs")
    with pytest.raises(SettingError, match="all rows"):
        lvm.fit_exact(make(), wave.train, batch_size=10)
    with pytest.raises(SettingError, match="learning_rate"):
        lvm.fit_exact(make(), wave.train, optimizer="adam", learning_rate=-1.0)
    with pytest.raises(SettingError, match="nothing to learn"):
        lvm.fit_exact(make().requires_grad_(False), wave.train)
    broken = wave.train.clone()
    broken[3] = torch.inf
    with pytest.raises(DataError, match="first: row 3"):
        lvm.fit_exact(make(), broken)
    with pytest.raises(DataError, match=r"\(N, 2\)"):
        lvm.fit_exact(make(), torch.ones(4, 3))


def test_a_linear_hierarchy_learns_by_its_evidence_and_gets_its_optimal_guide():
    torch.manual_seed(0)
    x = models.HierarchicalLinearGaussian((2, 1), 4)(size=200).detach()
    model = models.HierarchicalLinearGaussian((2, 1), 4)
    fit = lvm.fit_exact(model, x, steps=20, progress=False)
    assert fit.losses[-1] < fit.losses[0]
    terms = lvm.log_densities(model, fit.guide, x[:5], num_particles=3)
    evidence = lvm.log_evidence(model.double(), x[:5].double()).value.detach()
    torch.testing.assert_close(terms.log_weights, evidence.expand(3, 5), rtol=1e-5, atol=1e-5)
