"""Exact imputation against closed forms, quadrature and draws."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyrolvm.exact import AffineStack, impute, solve_observed

NAN = float("nan")


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_linear_generator_has_the_closed_form(random_stack, latent_dim):
    stack = random_stack(latent_dim, (), 5, 0.3, seed=2)
    (weight,), (bias,) = stack.weights, stack.biases
    factor = (weight @ stack.prior_scale_tril).detach()
    covariance = factor @ factor.mT + stack.noise_scale.square().diag()
    mean = (weight @ stack.prior_loc + bias).detach()
    x = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double()
    x[torch.rand(20, 5, generator=torch.Generator().manual_seed(1)) < 0.4] = NAN
    x[:, 0] = 1.0
    found = impute(stack, x)
    for n, row in enumerate(x):
        seen, gone = ~row.isnan(), row.isnan()
        gain = covariance[gone][:, seen] @ covariance[seen][:, seen].inverse()
        expected = mean[gone] + gain @ (row[seen] - mean[seen])
        spread = covariance[gone][:, gone] - gain @ covariance[seen][:, gone]
        torch.testing.assert_close(found.mean[n, gone], expected)
        torch.testing.assert_close(found.standard_deviation[n, gone], spread.diagonal().sqrt())


@pytest.fixture(params=[1, 2], ids=["line", "plane"])
def holed(request, random_stack, observe):
    stack = random_stack(request.param, (8, 6), 7, 0.15, seed=3)
    x = observe(stack, 10)
    x[torch.rand(10, 7, generator=torch.Generator().manual_seed(1)) < 0.7] = NAN
    x[:, 3] = observe(stack, 10)[:, 3]
    x[0] = observe(stack, 1)[0]
    return stack, x


def test_observed_entries_stay_as_they_are(holed):
    stack, x = holed
    before = x.clone()
    found = impute(stack, x)
    seen = ~x.isnan()
    assert seen[0].all()
    assert torch.equal(x.nan_to_num(), before.nan_to_num())
    assert torch.equal(found.mean[seen], x[seen])
    assert (found.standard_deviation[seen] == 0).all()
    assert (found.standard_deviation[~seen] >= stack.noise_scale.min()).all()
    draws = found.sample(3)
    assert (draws[:, seen] == x[seen]).all()
    assert not draws.isnan().any()
    torch.testing.assert_close(found.log_evidence, solve_observed(stack, x).log_evidence)


def test_moments_agree_with_draws_of_the_latent(holed):
    stack, x = holed
    found, num = impute(stack, x), 20_000
    z = solve_observed(stack, x).sample(num, torch.Generator().manual_seed(2))
    outputs, gone = stack.forward(z).detach(), x.isnan()
    error = (outputs.mean(0) - found.mean) / (outputs.std(0) / num**0.5)
    assert error[gone].abs().max() < 5
    square = (outputs - found.mean).square()
    variance = found.standard_deviation.square() - stack.noise_scale.square()
    error = (square.mean(0) - variance) / (square.std(0) / num**0.5)
    assert error[gone].abs().max() < 5


def test_draws_have_the_moments(holed):
    stack, x = holed
    found, num = impute(stack, x), 20_000
    gone = x.isnan()
    draws = found.sample(num, torch.Generator().manual_seed(3))
    assert draws.shape == (num, 10, 7)
    error = (draws.mean(0) - found.mean) / (draws.std(0) / num**0.5)
    assert error[gone].abs().max() < 5
    square = (draws - found.mean).square()
    error = (square.mean(0) - found.standard_deviation.square()) / (square.std(0) / num**0.5)
    assert error[gone].abs().max() < 5
    again = found.sample(2, torch.Generator().manual_seed(3))
    assert torch.equal(again, found.sample(2, torch.Generator().manual_seed(3)))


def quadrature(
    stack: AffineStack, row: Tensor, log_prior: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    outputs = stack.forward(z).detach()
    seen = ~row.isnan()
    level = -0.5 * ((row - outputs) / stack.noise_scale)[:, seen].square().sum(1) + log_prior
    share = level.softmax(0)
    mean = share @ outputs
    variance = share @ (outputs - mean).square() + stack.noise_scale.square()
    return mean, variance.sqrt()


@pytest.mark.parametrize("mixed", [False, True], ids=["gaussian", "mixture"])
def test_one_latent_agrees_with_dense_quadrature(random_stack, observe, mixed):
    stack = random_stack(1, (8,), 5, 0.3, seed=3, standard_prior=True)
    x = observe(stack, 4)
    x[:, 1:4] = NAN
    z = torch.linspace(-10, 10, 100_001, dtype=torch.float64)[:, None]
    log_prior = -0.5 * z[:, 0].square()
    if mixed:
        stack = replace(
            stack,
            prior_loc=torch.tensor([[-1.0], [1.5]]).double(),
            prior_scale_tril=torch.tensor([[[0.5]], [[0.8]]]).double(),
            prior_logits=torch.tensor([0.2, -0.4]).double(),
        )
        each = torch.distributions.Normal(stack.prior_loc[:, 0], stack.prior_scale_tril[:, 0, 0])
        assert stack.prior_logits is not None
        log_prior = (each.log_prob(z) + stack.prior_logits.log_softmax(0)).logsumexp(1)
    found = impute(stack, x)
    for n, row in enumerate(x):
        mean, deviation = quadrature(stack, row, log_prior, z)
        gone = row.isnan()
        torch.testing.assert_close(found.mean[n, gone], mean[gone], rtol=0, atol=1e-7)
        torch.testing.assert_close(
            found.standard_deviation[n, gone], deviation[gone], rtol=0, atol=1e-7
        )


def test_two_latents_agree_with_dense_quadrature(random_stack, observe):
    stack = random_stack(2, (6,), 5, 0.4, seed=3, standard_prior=True)
    x = observe(stack, 3)
    x[:, 1:3] = NAN
    side = torch.linspace(-7, 7, 701, dtype=torch.float64)
    z = torch.cartesian_prod(side, side)
    found = impute(stack, x)
    for n, row in enumerate(x):
        mean, deviation = quadrature(stack, row, -0.5 * z.square().sum(1), z)
        torch.testing.assert_close(found.mean[n, 1:3], mean[1:3], rtol=0, atol=1e-5)
        torch.testing.assert_close(
            found.standard_deviation[n, 1:3], deviation[1:3], rtol=0, atol=1e-5
        )


def test_later_training_does_not_change_draws(random_stack, observe):
    stack = random_stack(1, (4,), 3, 0.3)
    x = observe(stack, 2)
    x[:, 1] = NAN
    found = impute(stack, x)
    before = found.sample(5, torch.Generator().manual_seed(0))
    stack.weights[0].data.mul_(3.0)
    assert torch.equal(found.sample(5, torch.Generator().manual_seed(0)), before)
