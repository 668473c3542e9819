"""The split of a gap: against closed forms, and the order of families."""

from __future__ import annotations

import pytest
import torch

from pyrolvm import guides, models
from pyrolvm.core import Data, evaluating
from pyrolvm.inference import Oracles, OracleSettings, score

SETTINGS = OracleSettings(steps=300, num_particles=2000, seed=0, checkpoints=None, progress=False)


@pytest.fixture(scope="module")
def some(linear):
    """The factor model, and 20 of its data."""
    model, x = linear
    return model, x[:20]


def evidence(model, x):
    with evaluating(model):
        return model.log_evidence(x.double())


def standard_error(values):
    return (values.std() / len(values) ** 0.5).item()


def test_the_diagonal_oracles_gap_is_the_mean_field_gap(some):
    model, x = some
    oracles = Oracles({"q": (model, guides.Amortized(model))}, Data.of(x), SETTINGS)
    gap = evidence(model, x) - oracles.elbo("q")
    precision = torch.linalg.inv(model.posterior(x[:1]).covariance_matrix[0]).double()
    closed = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    assert abs(gap.mean().item() - closed) < 5 * standard_error(gap) + 2e-3


def test_the_full_oracles_gap_is_zero(some):
    model, x = some
    oracles = Oracles({"q": (model, guides.Amortized(model, "full"))}, Data.of(x), SETTINGS)
    gap = evidence(model, x) - oracles.elbo("q")
    assert abs(gap.mean().item()) < 5 * standard_error(gap) + 2e-3


def test_approximation_and_amortization_are_both_not_negative(some):
    model, x = some
    guide = guides.Amortized(model, "diagonal")
    oracle = Oracles({"q": (model, guide)}, Data.of(x), SETTINGS).elbo("q")
    own = score(model, guide, x, num_particles=2000).elbo
    for part in (evidence(model, x) - oracle, oracle - own):
        assert part.mean().item() >= -2 * standard_error(part) - 1e-6


@pytest.mark.parametrize("order", [("diagonal", "full"), ("full", "diagonal")])
def test_the_full_family_is_never_worse_whatever_the_order(order):
    torch.manual_seed(1)
    model = models.CPAGenerator(2, 6, hidden=(12,), noise_scale=0.3)
    x = model(size=15).detach()
    pairs = {name: (model, guides.Amortized(model, name, hidden=())) for name in order}
    oracles = Oracles(pairs, Data.of(x), SETTINGS)
    elbos = {name: oracles.elbo(name) for name in order}
    gain = elbos["full"] - elbos["diagonal"]
    assert gain.mean().item() >= -2 * standard_error(gain)


def test_data_may_come_by_name(some):
    model, x = some
    settings = OracleSettings(20, 50, 0, None, False)
    oracles = Oracles({"q": (model, guides.Amortized(model))}, Data.of({"x": x}), settings)
    assert oracles.elbo("q").shape == (20,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_data_may_have_any_type(dtype):
    torch.manual_seed(2)
    model = models.VAE(2, 4, likelihood="bernoulli")
    settings = OracleSettings(5, 20, 0, None, False)
    for family in ("diagonal", "full", "mixture", "flow"):
        pairs = {"q": (model, guides.Amortized(model, family))}
        rows = Data.of(model(size=6).to(dtype))
        assert Oracles(pairs, rows, settings).elbo("q").isfinite().all()


def test_a_guide_without_an_encoder_has_no_oracle(some):
    model, x = some
    assert Oracles({"q": (model, guides.Exact(model))}, Data.of(x), SETTINGS).elbo("q") is None


@pytest.mark.parametrize("family", ["diagonal", "full", "mixture", "flow"])
def test_no_datum_is_worse_off_than_under_the_encoder(family):
    torch.manual_seed(5)
    model = models.ResidualGenerator(2, noise_scale=0.3)
    guide, x = guides.Amortized(model, family, hidden=(8,)), model(size=12).detach()
    oracle = Oracles({"q": (model, guide)}, Data.of(x), SETTINGS).elbo("q")
    found = score(model, guide, x, num_particles=2000)
    error = found.log_weights.std(0) / 2000**0.5
    assert (oracle >= found.elbo - 5 * error).all()


def test_a_mixture_oracle_covers_all_folds():
    torch.manual_seed(6)
    model = models.Folding(num_folds=2, noise_scale=0.01)
    guide, x = guides.Amortized(model, "mixture", num_components=4), model(size=40).detach()
    gap = evidence(model, x) - Oracles({"q": (model, guide)}, Data.of(x), SETTINGS).elbo("q")
    assert abs(gap.mean().item()) < 5 * standard_error(gap) + 0.03


def test_the_sign_family_holds_the_posterior_of_signs():
    model = models.SignPermutation(6, permutation="gray-code")
    guide, x = guides.SignGuide(model, hidden=(4,)), model(size=20).detach()
    gap = evidence(model, x) - Oracles({"q": (model, guide)}, Data.of(x), SETTINGS).elbo("q")
    assert gap.abs().max().item() < 1e-5
