"""TriangularMap: exact codes and densities, the rotation that it excludes, and what it learns."""

from __future__ import annotations

import math

import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import (
    DataError,
    HasCode,
    HasEvidence,
    HasPosterior,
    TriangularMonotone,
    UnknownNameError,
    VectorLatent,
)
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.nn.factorised_prior import FactorisedPrior
from pyrolvm.nn.orthonormal import orthonormalised
from pyrolvm.nn.rotations import Rotation
from pyrolvm.nn.triangular import Composition, is_triangular_monotone, jacobian
from pyrolvm.testing import ModelContract

KINDS = ("spline", "integral", "affine")


def drawn(kind="spline", dim=2, spread=0.3, **options):
    """A map as far from the identity as ``spread`` says, and points."""
    torch.manual_seed(dim)
    model = models.TriangularMap(dim, kind=kind, hidden=(16,), **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model, torch.randn(40, dim, dtype=torch.float64)


class TestSplineMap(ModelContract):
    def make(self):
        return models.TriangularMap(2, hidden=(8,))


class TestIntegralMapWithSigns(ModelContract):
    def make(self):
        return models.TriangularMap(
            3, layers=1, kind="integral", signature=(1, -1, 1), prior="laplace", hidden=(8,)
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("signature", [(1, 1, 1), (-1, 1, -1)])
def test_generator_and_encoder_are_triangular_with_the_signature(kind, signature):
    model, x = drawn(kind, 3, signature=signature)
    model.standardise_by(100 * x + 7)
    z = model.encode(x)
    assert is_triangular_monotone(model.encode, x, signature)
    assert is_triangular_monotone(model.decode, z, signature)
    assert is_triangular_monotone(model.decode, z) is (signature == (1, 1, 1))
    assert model.signature == signature


@pytest.mark.parametrize("kind", KINDS)
def test_codes_decode_to_the_observations(kind):
    model, x = drawn(kind, 4)
    assert_close(model.decode(model.encode(x)), x, rtol=0, atol=1e-8)
    assert_close(model.encode(model.decode(x)), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("prior", ["normal", "laplace", "logistic"])
def test_the_evidence_changes_variables_by_the_dense_jacobian(prior):
    model, x = drawn(prior=FactorisedPrior(2, prior, 0.3, torch.tensor([0.5, 2.0])))
    dense = torch.linalg.slogdet(jacobian(model.encode, x))[1]
    wanted = model.prior().log_prob(model.encode(x)) + dense
    assert_close(model.log_evidence(x), wanted, rtol=0, atol=1e-10)
    assert_close(model.law().log_prob(x), wanted, rtol=0, atol=1e-10)
    assert_close(lvm.log_evidence(model, x).value, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_integrates_to_one(kind):
    model, _ = drawn(kind, spread=0.1)
    axis = torch.linspace(-9, 9, 121, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.cat([model.log_evidence(part).exp() for part in grid.split(5000)])
    assert_close(density.sum() * (18 / 120) ** 2, torch.tensor(1.0).double(), rtol=0, atol=2e-3)


def test_draws_have_the_law_that_is_scored():
    model, _ = drawn()
    with torch.no_grad():
        x = model(size=4000)
    z = model.encode(x).detach()
    assert z.mean(0).abs().max() < 5 / math.sqrt(4000)
    assert (z.square().mean(0) - 1).abs().max() < 5 * math.sqrt(2 / 4000)


@pytest.mark.parametrize("prior", ["normal", "laplace"])
def test_a_planted_rotation_keeps_a_normal_likelihood_and_fails_the_triangular_test(prior):
    model, x = drawn(prior=prior)
    rotation = Rotation(2).double()
    rotation.matrix.copy_(orthonormalised(rotation.matrix))
    rotated = Composition([model.encoder, rotation])  # the generator is f after A^-1
    z, log_det = rotated(x)
    likelihood = model.prior().log_prob(z) + log_det
    same = torch.allclose(likelihood, model.log_evidence(x), rtol=0, atol=1e-9)
    assert same is (prior == "normal")
    assert is_triangular_monotone(model.encode, x)
    assert not is_triangular_monotone(lambda u: rotated(u)[0], x)
    assert not is_triangular_monotone(rotated.inverse, z)


@pytest.mark.parametrize("prior", ["normal", "laplace"])
def test_where_the_prior_is_the_law_of_the_data_the_fit_is_about_the_identity(prior):
    law = FactorisedPrior(2, prior)()
    torch.manual_seed(0)
    x, fresh = law.sample((3000,)), law.sample((1000,))
    model = models.TriangularMap(2, layers=1, prior=prior, hidden=(16,))
    lvm.fit_exact(model, x, optimizer="adam", steps=150, batch_size=512, progress=False)
    assert (model.encode(fresh) - fresh).square().mean().sqrt() < 0.12


def test_two_runs_find_the_true_codes_without_any_alignment():
    torch.manual_seed(0)
    true = torch.randn(3000, 2)
    x = torch.stack([true[:, 0].sinh(), true[:, 1] * true[:, 0].cos().exp() + true[:, 0] ** 2], -1)
    codes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        model = models.TriangularMap(2, layers=1, hidden=(16,))
        lvm.fit_exact(
            model, x, optimizer="adam", steps=200, batch_size=512, seed=seed, progress=False
        )
        codes.append(model.encode(x).detach())
    assert (codes[0] - codes[1]).square().mean() < 0.02
    assert (codes[0] - true).square().mean() < 0.03


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_exact_learning_validates_stops_early_and_repeats_itself(optimizer):
    torch.manual_seed(3)
    x, validation = torch.randn(60, 2).exp(), torch.randn(60, 2).exp()
    untrained = models.TriangularMap(2, layers=1, hidden=(16,)).standardise_by(x)
    start = untrained.state_dict()
    options = {} if optimizer == "lbfgs" else {"batch_size": 30, "learning_rate": 0.02}
    found = []
    for _ in range(2):
        model = models.TriangularMap(2, layers=1, hidden=(16,))
        model.load_state_dict(start)
        fit = lvm.fit_exact(
            model, x, optimizer=optimizer, steps=400, validation=validation, patience=20, seed=5,
            progress=False, **options,
        )  # fmt: skip
        found.append((fit, lvm.log_evidence(model, validation).value.mean()))
    (one, first), (other, second) = found
    assert one.stopped_early
    assert one.steps < 400
    assert torch.equal(one.losses, other.losses)
    assert first == second
    assert first > untrained.log_evidence(validation).mean()
    assert isinstance(one.guide, guides.ExactCode)


def test_learning_takes_the_units_of_the_data_once():
    x = torch.randn(100, 2) * 1e4 - 3e5
    model = models.TriangularMap(2, layers=1, hidden=(8,))
    lvm.fit_exact(model, x, steps=2, progress=False)
    scale = model.encoder.parts[0].scale.clone()
    assert_close(scale, x.std(0))
    lvm.fit_exact(model, x * 2, steps=2, progress=False)
    assert torch.equal(model.encoder.parts[0].scale, scale)


def test_plain_pyro_maximises_the_likelihood_with_a_guide_that_samples_nothing():
    torch.manual_seed(0)
    model, x = models.TriangularMap(2, hidden=(16,)), torch.randn(200, 2) + 2
    svi = SVI(model, guides.ExactCode(model), Adam({"lr": 1e-2}), Trace_ELBO())
    before = svi.evaluate_loss(x)
    assert_close(before, -float(model.log_evidence(x).detach().sum()), rtol=1e-5, atol=1e-3)
    for _ in range(50):
        svi.step(x)
    assert svi.evaluate_loss(x) < before - 100


def test_it_offers_a_code_and_an_evidence_and_nothing_about_latent_sites():
    model = models.TriangularMap(2)
    for capability in (HasCode, HasEvidence, TriangularMonotone):
        assert offers(model, capability)
    for capability in (HasPosterior, VectorLatent):
        assert not offers(model, capability)
    assert model.latent_sites == ()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: models.TriangularMap(0), SettingError, "dim should be at least 1"),
        (lambda: models.TriangularMap(2, layers=0), SettingError, "layers should be at least 1"),
        (lambda: models.TriangularMap(2, kind="cubic"), UnknownNameError, "Unknown kind"),
        (lambda: models.TriangularMap(2, signature=(1, 1, 1)), SettingError, "needs 2 signs"),
        (lambda: models.TriangularMap(2, prior="cauchy"), UnknownNameError, "shape of a prior"),
        (
            lambda: models.TriangularMap(2, prior=FactorisedPrior(3)),
            SettingError,
            "dimension 2 .* the prior has 3",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("way", ["encode", "decode", "log_evidence"])
def test_points_that_do_not_fit_are_refused(way):
    call = getattr(models.TriangularMap(2), way)
    with pytest.raises(DataError, match=r"shape"):
        call(torch.zeros(4, 3))
    with pytest.raises(DataError, match=r"finite points, but 1 of 4"):
        call(torch.tensor([[0.0, 1.0], [torch.nan, 0.0], [1.0, 1.0], [2.0, 2.0]]))
