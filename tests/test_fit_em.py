"""fit_em: monotone in what the model holds, what learns, what is refused, how a run goes on."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import CheckpointError, DataError, IncompatiblePairError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.datasets import synthetic
from pyrolvm.exact.learning.exact_em import ExactEM


def glorot(hidden, seed, obs_dim=2):
    """A generator with Glorot weights and standard normal biases."""
    torch.manual_seed(seed)
    model = models.CPAGenerator(1, obs_dim, hidden, 0.55, "leaky_relu", learn_noise=True)
    for layer in model.decoder:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.normal_(layer.bias)
    return model


def nll(model, x):
    return -lvm.log_evidence(model, x).value.mean().item()


@pytest.fixture(scope="module")
def wave():
    return synthetic.wave(200, noise_scale=0.1, seed=0).train


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_never_rise_and_are_those_of_the_model(wave, dtype):
    model = glorot((6, 5), 0).to(dtype)
    fit = lvm.fit_em(model, wave, steps=15, progress=False)
    assert fit.model is model
    assert isinstance(fit.guide, guides.ExactCPA)
    assert model.dtype == dtype
    assert len(fit.losses) == 16
    assert (fit.losses.diff() <= 0).all()
    assert fit.losses[-1] < fit.losses[0] - 1
    assert fit.losses[-1].item() == pytest.approx(nll(model, wave), abs=1e-12)
    assert fit.guide.log_evidence(wave).mean().item() == pytest.approx(-fit.losses[-1].item())


def test_a_mapping_of_data_is_the_same(wave):
    fits = [
        lvm.fit_em(glorot((5,), 0), data, steps=2, progress=False) for data in (wave, {"x": wave})
    ]
    assert torch.equal(fits[0].losses, fits[1].losses)


def test_only_what_carries_a_gradient_learns(wave):
    model = glorot((6, 5), 0)
    frozen = model.decoder[2]
    frozen.requires_grad_(False)
    model.decoder[0].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lvm.fit_em(model, wave, steps=4, progress=False)
    after = model.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    fixed = {"decoder.0.bias", "decoder.2.weight", "decoder.2.bias"}
    assert {name for name in same if name.startswith(("decoder", "noise"))} == fixed


def test_a_learned_prior_and_diagonal_noise_help(wave):
    x = wave * torch.tensor([1.0, 0.3]) + torch.randn(200, 2) * torch.tensor([0.3, 0.02])
    plain = lvm.fit_em(glorot((6,), 0), x, steps=30, progress=False)
    torch.manual_seed(0)
    model = models.CPAGenerator(
        1, 2, (6,), 0.55, "leaky_relu", isotropic=False, learn_noise=True, learn_prior=True
    )
    model.decoder.load_state_dict(plain.model.decoder.state_dict())
    model.noise.assign(plain.model.noise_scale.detach())
    fit = lvm.fit_em(model, x, steps=30, progress=False)
    assert (fit.losses.diff() <= 0).all()
    assert fit.losses[-1] < plain.losses[-1] - 0.1
    assert model.noise_scale[0] > 2 * model.noise_scale[1]
    assert model.latent_prior.scale_tril.item() != 1


def test_a_prior_covariance_of_a_linear_model_is_that_of_the_data():
    """With weights and noise fixed the prior's moments are all there is to learn."""
    torch.manual_seed(0)
    model = models.CPAGenerator(2, 2, (), 0.2, learn_prior=True).double()
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.eye(2))
        model.decoder[0].bias.zero_()
    model.decoder.requires_grad_(False)
    root = torch.tensor([[2.0, 0.0], [0.7, 0.5]], dtype=torch.float64)
    x = torch.randn(300, 2, dtype=torch.float64) @ root.mT + 1.0
    lvm.fit_em(model, x, steps=100, tolerance=1e-14, progress=False)
    tril = model.latent_prior.scale_tril.detach()
    wanted = torch.cov(x.mT, correction=0) - 0.2**2 * torch.eye(2)
    torch.testing.assert_close(tril @ tril.mT, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.latent_prior.loc.detach(), x.mean(0), rtol=1e-6, atol=1e-6)


def test_a_mixture_prior_finds_two_clusters():
    torch.manual_seed(0)
    sign = torch.where(torch.rand(300, 1) < 0.3, -1.0, 1.0)
    x = sign * torch.tensor([3.0, 2.0]) + 0.3 * torch.randn(300, 2)
    found = {}
    for components in (1, 2):
        torch.manual_seed(1)
        prior = {"prior_loc": torch.tensor([[-1.0], [1.0]])} if components == 2 else {}
        model = models.CPAGenerator(
            1, 2, (), 1.0, learn_noise=True, learn_prior=True,
            prior_components=components, **prior,
        )  # fmt: skip
        found[components] = lvm.fit_em(model, x, steps=60, progress=False)
        assert (found[components].losses.diff() <= 0).all()
    assert found[2].losses[-1] < found[1].losses[-1] - 0.5
    weights = found[2].model.latent_prior.logits.softmax(0).sort().values
    share = (sign < 0).float().mean()
    torch.testing.assert_close(weights, torch.stack([share, 1 - share]), atol=0.01, rtol=0)


@pytest.mark.parametrize("kind", [models.LinearGaussian, models.CPAGenerator])
def test_a_linear_generator_reaches_probabilistic_pca(kind):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, dtype=torch.float64, generator=random)
    x = x @ torch.diag(torch.tensor([3.0, 1.5, 0.2, 0.1], dtype=torch.float64)) + 1.0
    torch.manual_seed(0)
    options = {"hidden": (), "noise_scale": 1.0} if kind is models.CPAGenerator else {}
    model = kind(2, 4, learn_noise=True, **options).double()
    fit = lvm.fit_em(model, x, steps=150, tolerance=0.0, progress=False)
    roots = torch.linalg.eigvalsh(torch.cov(x.mT, correction=0))
    noise = roots[:2].mean()
    wanted = 0.5 * (4 * np.log(2 * np.pi) + roots[2:].log().sum() + 2 * noise.log() + 4)
    assert fit.losses[-1].item() == pytest.approx(wanted.item(), abs=1e-8)
    assert model.noise_scale[0].item() ** 2 == pytest.approx(noise.item(), abs=1e-8)


def test_the_undamped_update_raises_the_loss_and_the_safeguarded_one_does_not():
    rises = {"safeguarded": [], "undamped": []}
    for seed in range(3):
        x = synthetic.wave(300, noise_scale=0.1, seed=seed).train
        for update, found in rises.items():
            fit = lvm.fit_em(glorot((8,), seed), x, steps=25, update=update, progress=False)
            found.append(fit.losses.diff().max().item())
    assert max(rises["safeguarded"]) <= 0
    assert sum(rise > 0.01 for rise in rises["undamped"]) >= 2


def test_the_undamped_update_stops_with_a_warning_at_the_last_finite_state(wave, monkeypatch):
    model, calls = glorot((5,), 0), []
    evaluate = ExactEM._evaluate

    def failing(self, candidate):
        calls.append(1)
        if len(calls) > 6:
            raise lvm.PyroLVMError("The posterior cannot be resolved.")
        return evaluate(self, candidate)

    monkeypatch.setattr(ExactEM, "_evaluate", failing)
    with pytest.warns(UserWarning, match=r"in sweep 4.*cannot be resolved.*last finite state"):
        fit = lvm.fit_em(model, wave, steps=10, update="undamped", progress=False)
    assert fit.stopped_early
    assert fit.losses[-1].item() == pytest.approx(nll(model, wave), abs=1e-12)


def test_a_killed_run_goes_on_and_ends_the_same(wave, tmp_path):
    path = tmp_path / "em.safetensors"
    whole = lvm.fit_em(glorot((6,), 0), wave, steps=24, progress=False)
    lvm.fit_em(glorot((6,), 0), wave, steps=12, checkpoint=path, progress=False)
    model = glorot((6,), 7)
    fit = lvm.fit_em(model, wave, steps=24, checkpoint=path, progress=False)
    torch.testing.assert_close(fit.losses, whole.losses, rtol=1e-12, atol=1e-12)
    assert nll(model, wave) == pytest.approx(fit.losses[-1].item(), abs=1e-12)
    with pytest.raises(CheckpointError, match=r"differs in ridge"):
        lvm.fit_em(model, wave, ridge=1e-3, checkpoint=path, progress=False)


def test_it_stops_where_nothing_improves(wave):
    fit = lvm.fit_em(models.LinearGaussian(1, 2), wave, steps=200, progress=False)
    assert fit.stopped_early
    assert len(fit.losses) < 100
    assert -1e-6 < fit.losses.diff()[-1] <= 0
    again = lvm.fit_em(fit.model, wave, steps=200, progress=False)
    assert again.losses[-1].item() == pytest.approx(fit.losses[-1].item(), abs=1e-5)


def test_an_interrupted_run_leaves_the_best_state(wave, tmp_path, monkeypatch):
    model, sweep = glorot((6,), 0), ExactEM.sweep

    def interrupted(self):
        value = sweep(self)
        if value < 1.9:
            self.keeper.put(self.stack)  # a trial that was not accepted lies in the model
            raise KeyboardInterrupt
        return value

    start = nll(model, wave)
    monkeypatch.setattr(ExactEM, "sweep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lvm.fit_em(model, wave, steps=50, progress=False)
    assert nll(model, wave) < 1.9 < start


def test_models_that_it_cannot_train_are_refused(wave):
    for options in ({"likelihood": "bernoulli"}, {"activation": "tanh"}):
        model = models.VAE(1, 2, (4,), **options)
        with pytest.raises(IncompatiblePairError, match="AssignableStack"):
            lvm.fit_em(model, wave, progress=False)
    with pytest.raises(IncompatiblePairError, match="latent dimensions"):
        lvm.fit_em(models.CPAGenerator(9, 2, (4,)), wave, progress=False)


def test_bad_data_are_refused(wave):
    model = glorot((4,), 0)
    broken = wave.clone()
    broken[3, 1] = torch.nan
    with pytest.raises(DataError, match="first: row 3"):
        lvm.fit_em(model, broken, progress=False)
    with pytest.raises(DataError, match=r"shape \(N, 2\)"):
        lvm.fit_em(model, torch.ones(5, 3), progress=False)
    with pytest.raises(DataError, match="vary"):
        lvm.fit_em(model, torch.ones(5, 2), progress=False)
    with pytest.raises(DataError, match="vary"):
        lvm.fit_em(model, wave[:1], progress=False)
    fixed = models.CPAGenerator(1, 2, (4,), 0.3)
    losses = lvm.fit_em(fixed, wave[:1], steps=2, progress=False).losses
    assert losses[-1] < losses[0]


def test_bad_settings_are_refused(wave):
    model = glorot((4,), 0)
    with pytest.raises(UnknownNameError, match="undamped"):
        lvm.fit_em(model, wave, update="undampd", progress=False)
    with pytest.raises(SettingError, match="ridge"):
        lvm.fit_em(model, wave, ridge=0.0, progress=False)
    with pytest.raises(SettingError, match="noise_floor"):
        lvm.fit_em(model, wave, noise_floor=2.0, progress=False)
    with pytest.raises(SettingError, match="nothing to learn"):
        lvm.fit_em(model.requires_grad_(False), wave, progress=False)


def test_the_noise_stops_at_its_floor():
    """Three points and many units: the curve could go through them."""
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0], [3.0, -1.0]])
    model = glorot((8,), 0).double()
    fit = lvm.fit_em(model, x, steps=150, noise_floor=1e-2, progress=False)
    variance = x.double().var(0, correction=0).mean()
    assert model.noise_scale[0].item() ** 2 == pytest.approx(0.01 * variance.item(), rel=1e-6)
    assert (fit.losses.diff() <= 0).all()


REFERENCE = {
    ("circle", (8,)): 1.110,
    ("circle", (8, 8)): 0.977,
    ("wave", (8,)): 0.993,
    ("wave", (8, 8)): 0.814,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "hidden"), REFERENCE)
def test_em_beats_the_best_autoencoder(name, hidden):
    """Six seeds: monotone, medians as measured before, and below three learning rates of a VAE."""
    data = [getattr(synthetic, name)(500, noise_scale=0.1, seed=seed).train for seed in range(6)]
    began = time.process_time()
    fits = [lvm.fit_em(glorot(hidden, s), x, progress=False) for s, x in enumerate(data)]
    seconds = (time.process_time() - began) / 6
    assert all((fit.losses.diff() <= 0).all() for fit in fits)
    final = np.array([fit.losses[-1].item() for fit in fits])
    spread = np.ptp(np.sort(final)[1:-1])
    assert np.median(final) < REFERENCE[name, hidden] + max(spread, 0.1)
    medians = []
    for rate in (5e-3, 1e-3, 1e-4):
        began, values = time.process_time(), []
        for seed, x in enumerate(data):
            model = glorot(hidden, seed)
            guide = guides.Amortized(model, hidden=(32, 32), activation="leaky_relu")
            lvm.fit(
                model, guide, x, steps=3000, batch_size=50, learning_rate=rate, decay=False,
                seed=seed, progress=False,
            )  # fmt: skip
            values.append(nll(model, x))
        assert (time.process_time() - began) / 6 >= seconds
        medians.append(np.median(values))
    assert np.median(final) < min(medians)
