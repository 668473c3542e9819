"""The Bernoulli family: independent units of zeros and ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError
from pyrolvm.families import Bernoulli, make_family

CORNERS = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def some_parameters(*batch: int) -> Tensor:
    return 2 * torch.randn(*batch, 3, dtype=torch.float64)


@pytest.mark.parametrize("batch", [(), (5,), (4, 5)])
def test_shapes(batch: tuple[int, ...]) -> None:
    q = Bernoulli(3).distribution(some_parameters(*batch))
    z = q.sample(torch.Size([7]))
    assert (q.batch_shape, q.event_shape, z.shape) == (batch, (3,), (7, *batch, 3))
    assert q.log_prob(z).shape == (7, *batch)
    assert q.expand(torch.Size([2, *batch])).log_prob(z[:2]).shape == (2, *batch)


def test_probabilities_of_all_corners_sum_to_one_and_are_products() -> None:
    parameters = some_parameters(5)
    q = Bernoulli(3).distribution(parameters)
    log_q = q.log_prob(CORNERS[:, None, :])
    assert_close(log_q.exp().sum(0), torch.ones(5, dtype=torch.float64))
    on = parameters.sigmoid()
    product = (CORNERS[:, None] * on + (1 - CORNERS[:, None]) * (1 - on)).prod(-1)
    assert_close(log_q.exp(), product)


def test_moments_are_those_of_the_enumeration() -> None:
    family, parameters = Bernoulli(3), some_parameters()
    weights = family.distribution(parameters).log_prob(CORNERS).exp()
    mean = weights @ CORNERS
    covariance = torch.einsum("k,ki,kj->ij", weights, CORNERS - mean, CORNERS - mean)
    assert_close(family.mean(parameters), mean)
    assert_close(family.covariance(parameters), covariance, rtol=1e-6, atol=1e-12)


def test_draws_give_back_the_member_they_come_from() -> None:
    parameters = some_parameters(5)
    on = parameters.sigmoid()
    draws = Bernoulli(3).distribution(parameters).sample(torch.Size([4000]))
    found = Bernoulli(3).from_draws(draws).sigmoid()
    assert ((found - on).abs() < 5 * (on * (1 - on) / 4000).sqrt() + 1e-3).all()
    unanimous = Bernoulli(3).from_draws(torch.ones(100, 3))
    assert (unanimous > 4).all()
    assert unanimous.isfinite().all()


def test_a_gaussian_gives_its_mean_where_that_is_a_probability() -> None:
    loc = torch.tensor([0.3, -5.0, 7.0])
    on = Bernoulli(3).from_gaussian(loc, torch.eye(3)).sigmoid()
    assert_close(on, torch.tensor([0.3, 0.01, 0.99]))


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_sure_units_have_finite_densities_and_gradients(size: float) -> None:
    parameters = torch.tensor([size, -size, 0.0]).requires_grad_()
    q = Bernoulli(3).distribution(parameters)
    draw = q.sample()
    assert draw[:2].tolist() == [1.0, 0.0]
    (log_density := q.log_prob(draw)).backward()
    assert log_density.isfinite()
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()


def test_units_start_mostly_off_and_refinement_is_refused() -> None:
    family = make_family("bernoulli", 3)
    assert_close(family.mean(family.initial), torch.full((3,), -1.0).sigmoid())
    with pytest.raises(SettingError, match="follow their parameters smoothly"):
        family.transport(family.initial, torch.randn(8, 3))
