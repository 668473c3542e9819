"""Fixed priors with independent coordinates against scipy, and what they refuse."""

from __future__ import annotations

import pytest
import scipy.stats
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.nn.factorised_prior import FactorisedPrior, fixed_prior

LOC, SCALE = torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.3])


@pytest.mark.parametrize("shape", ["normal", "laplace", "logistic"])
def test_the_density_is_that_of_scipy(shape):
    law = {"normal": "norm"}.get(shape, shape)
    z = torch.randn(9, 2, dtype=torch.float64)
    prior = FactorisedPrior(2, shape, LOC, SCALE).double()
    kind = getattr(scipy.stats, law)
    wanted = kind.logpdf(z.numpy(), LOC.double().numpy(), SCALE.double().numpy()).sum(-1)
    assert_close(prior().log_prob(z), torch.tensor(wanted), rtol=1e-6, atol=1e-6)


def test_nothing_learns_and_all_is_saved():
    prior = FactorisedPrior(2, scale=3.0)
    assert not list(prior.parameters())
    assert set(prior.state_dict()) == {"loc", "scale"}
    assert_close(prior.scale, torch.full((2,), 3.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FactorisedPrior(0), "dim should be at least 1"),
        (lambda: FactorisedPrior(2, scale=torch.tensor([1.0, 0.0])), "positive, finite scales"),
        (lambda: FactorisedPrior(2, scale=-1.0), "positive, finite scales"),
        (lambda: FactorisedPrior(2, scale=float("inf")), "positive, finite scales"),
        (lambda: FactorisedPrior(2, loc=float("nan")), "finite locations"),
        (lambda: FactorisedPrior(3, loc=LOC), r"loc .* shape \(3,\) .* has \(2,\)"),
        (lambda: fixed_prior(3, FactorisedPrior(2)), "dimension 3 .* the prior has 2"),
        (lambda: fixed_prior(2, SCALE), "should be a FactorisedPrior"),  # type: ignore[arg-type]
    ],
)
def test_priors_without_a_density_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_an_unknown_shape_gets_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'laplace'"):
        fixed_prior(2, "laplce")
