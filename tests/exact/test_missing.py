"""Missing entries integrated out: against quadrature, closed forms and the engine row by row."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from pyrolvm.exact import (
    AffineStack,
    ObservationError,
    Partition,
    log_evidence,
    log_evidence_observed,
    solve,
    solve_observed,
)
from pyrolvm.exact.expectation import expect
from pyrolvm.exact.folding import fold

NAN = float("nan")


def drop(x: Tensor, *, seed: int = 0) -> Tensor:
    """Delete about half of the entries, never a whole row."""
    random = torch.Generator().manual_seed(seed)
    gone = torch.rand(x.shape, generator=random) < 0.5
    gone[torch.arange(len(x)), torch.randint(x.shape[1], (len(x),), generator=random)] = False
    return x.masked_fill(gone, NAN)


def grid_evidence(stack: AffineStack, x: Tensor, z: Tensor, log_weight: float) -> Tensor:
    """Log p of the observed entries on a grid of latents, by torch's own densities."""
    parts = []
    for component in stack.components():
        tril = component.prior_scale_tril
        prior = MultivariateNormal(component.prior_loc, scale_tril=tril)
        parts.append(prior.log_prob(z))
    weights = torch.zeros(1) if stack.prior_logits is None else stack.prior_logits
    log_prior = (torch.stack(parts, 1) + weights.log_softmax(0)).logsumexp(1)
    likelihood = Normal(stack.forward(z), stack.noise_scale)
    results = []
    for row in x:
        each = likelihood.log_prob(row.nan_to_num())
        seen = each.masked_fill(row.isnan(), 0.0).sum(1)
        results.append((log_prior + seen).logsumexp(0) + log_weight)
    return torch.stack(results)


def line_grid() -> tuple[Tensor, float]:
    z = torch.linspace(-12, 12, 60_001, dtype=torch.float64)
    return z[:, None], float((z[1] - z[0]).log())


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
def test_one_latent_agrees_with_dense_quadrature(random_stack, observe, activation):
    stack = random_stack(1, (6, 6), 4, 0.3, activation, seed=5)
    x = drop(observe(stack, 8))
    truth = grid_evidence(stack, x, *line_grid())
    torch.testing.assert_close(solve_observed(stack, x).log_evidence, truth, rtol=0, atol=1e-7)


def test_a_mixture_prior_agrees_with_dense_quadrature(random_stack, observe):
    stack = random_stack(1, (6,), 4, 0.3, seed=5)
    x = drop(observe(stack, 8))
    mixed = replace(
        stack,
        prior_loc=torch.tensor([[-1.0], [1.5]]).double(),
        prior_scale_tril=torch.tensor([[[0.5]], [[0.8]]]).double(),
        prior_logits=torch.tensor([0.2, -0.4]).double(),
    )
    truth = grid_evidence(mixed, x, *line_grid())
    posterior = solve_observed(mixed, x)
    torch.testing.assert_close(posterior.log_evidence, truth, rtol=0, atol=1e-7)
    torch.testing.assert_close(log_evidence_observed(mixed, x), truth, rtol=0, atol=1e-7)
    z = posterior.sample(100)
    assert z.shape == (100, 8, 1)
    torch.testing.assert_close(posterior.icdf(posterior.cdf(z[..., 0])), z[..., 0])


def test_two_latents_agree_with_dense_quadrature(random_stack, observe):
    stack = random_stack(2, (6,), 4, 0.6, seed=5, standard_prior=True)
    x = drop(observe(stack, 6))
    z = torch.linspace(-7, 7, 561, dtype=torch.float64)
    grid, log_weight = torch.cartesian_prod(z, z), 2 * float((z[1] - z[0]).log())
    with torch.no_grad():
        truth = grid_evidence(stack, x, grid, log_weight)
    torch.testing.assert_close(solve_observed(stack, x).log_evidence, truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_linear_generator_has_the_closed_form_for_all_patterns(random_stack, latent_dim):
    stack = random_stack(latent_dim, (), 4, 0.3, seed=2)
    (weight,), (bias,) = stack.weights, stack.biases
    factor = weight @ stack.prior_scale_tril
    covariance = factor @ factor.mT + stack.noise_scale.square().diag()
    mean = weight @ stack.prior_loc + bias
    patterns = [torch.tensor(seen) for seen in product([False, True], repeat=4) if any(seen)]
    random = torch.Generator().manual_seed(0)
    x = torch.randn(len(patterns), 4, generator=random, dtype=torch.float64)
    truth, latent = [], []
    for row, seen in zip(x, patterns, strict=True):
        inner = covariance[seen][:, seen]
        truth.append(MultivariateNormal(mean[seen], inner).log_prob(row[seen]))
        gain = stack.prior_scale_tril @ factor[seen].mT @ inner.inverse()
        latent.append(stack.prior_loc + gain @ (row[seen] - mean[seen]))
    found = solve_observed(stack, x.masked_fill(~torch.stack(patterns), NAN))
    torch.testing.assert_close(found.log_evidence, torch.stack(truth).detach())
    torch.testing.assert_close(found.mean, torch.stack(latent).detach())


@pytest.fixture(params=[1, 2], ids=["line", "plane"])
def holed(request, random_stack, observe):
    stack = random_stack(request.param, (8,), 6, 0.2, seed=3)
    return stack, drop(observe(stack, 12))


def test_joint_over_posterior_is_the_density_of_what_was_seen(holed):
    stack, x = holed
    posterior = solve_observed(stack, x)
    z = posterior.sample(30, torch.Generator().manual_seed(0))
    prior = MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril).log_prob(z)
    each = Normal(stack.forward(z), stack.noise_scale).log_prob(x.nan_to_num())
    joint = prior + each.masked_fill(x.isnan(), 0.0).sum(-1)
    error = joint - posterior.log_prob(z) - posterior.log_evidence
    assert error.abs().max() < 1e-8


def test_draws_have_the_posterior_moments(holed):
    stack, x = holed
    posterior = solve_observed(stack, x)
    z = posterior.sample(10_000, torch.Generator().manual_seed(1))
    deviation = posterior.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((z.mean(0) - posterior.mean) / (deviation / 100)).abs().max() < 5


def test_rows_keep_their_order_and_one_partition_serves_all(holed):
    stack, x = holed
    partition = Partition.of(stack)
    posterior = solve_observed(stack, x, partition=partition)
    assert len(posterior.parts) > 5
    assert all(part.partition is partition for part in posterior.parts)
    for n, row in enumerate(x):
        alone = solve(stack.observe(~row.isnan()), row[~row.isnan()][None])
        torch.testing.assert_close(posterior.log_evidence[n], alone.log_evidence[0])
        torch.testing.assert_close(posterior.covariance[n], alone.covariance[0])


def test_complete_rows_are_what_solve_makes_of_them(random_stack, observe):
    stack = random_stack(2, (8,), 6, 0.2)
    x = observe(stack, 5)
    torch.testing.assert_close(solve_observed(stack, x).log_evidence, solve(stack, x).log_evidence)
    assert log_evidence_observed(stack, x[:0]).shape == (0,)


def test_gradients_agree_with_finite_differences(holed):
    stack, x = holed
    x = x.clone().requires_grad_()
    tensors = [stack.weights[0], stack.weights[1], stack.biases[1]]
    found = torch.autograd.grad(log_evidence_observed(stack, x).sum(), [x, *tensors])
    assert (found[0][x.isnan()] == 0).all()
    assert (found[0][~x.isnan()] != 0).all()

    def value() -> float:
        with torch.no_grad():
            return log_evidence_observed(stack, x).sum().item()

    for tensor, gradient in zip(tensors, found[1:], strict=True):
        flat, step = tensor.data.view(-1), 1e-5
        for i in range(0, len(flat), 5):
            start = flat[i].item()
            flat[i] = start + step
            above = value()
            flat[i] = start - step
            below = value()
            flat[i] = start
            slope = (above - below) / (2 * step)
            assert gradient.view(-1)[i].item() == pytest.approx(slope, rel=2e-5, abs=2e-5)


def test_the_evidence_integrates_to_one(random_stack):
    stack = random_stack(2, (6,), 2, 0.4, seed=1)
    side = torch.linspace(-6, 6, 101, dtype=torch.float64)
    x = torch.cartesian_prod(side, side)
    cell = (side[1] - side[0]).square()
    assert (log_evidence(stack, x).exp().sum() * cell).item() == pytest.approx(1.0, abs=1e-6)
    one = torch.stack([side, torch.full_like(side, NAN)], 1)
    density = log_evidence_observed(stack, one).exp()
    assert (density.sum() * (side[1] - side[0])).item() == pytest.approx(1.0, abs=1e-6)
    # what is left after integrating the second coordinate out by hand
    by_hand = log_evidence(stack, x).exp().reshape(101, 101).sum(1) * (side[1] - side[0])
    torch.testing.assert_close(density, by_hand, rtol=0, atol=1e-8)


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_projecting_many_coordinates_changes_nothing(random_stack, observe, latent_dim):
    stack = random_stack(latent_dim, (8,), 784, 0.3, seed=6)
    x = drop(observe(stack, 3, away=3.0))
    for row in x:
        seen = ~row.isnan()
        partial = stack.observe(seen)
        folded = fold(partial)
        assert folded.basis is not None
        plain = replace(folded, basis=None, last=folded.basis @ folded.last)
        whole = expect(plain, row[seen][None].numpy(), Partition.of(partial))
        found = solve_observed(stack, row[None]).log_evidence.item()
        assert found == pytest.approx(whole.log_evidence[0] + whole.constant[0], rel=1e-11)


def test_rows_without_any_entry_are_refused(random_stack, observe):
    stack = random_stack(1, (4,), 3)
    x = observe(stack, 5)
    x[[1, 4]] = NAN
    for ask in (solve_observed, log_evidence_observed):
        with pytest.raises(ObservationError, match=r"all are missing in 2 of 5 rows \(1, 4\)"):
            ask(stack, x)
    with pytest.raises(ObservationError, match=r"shape \(N, 3\), but got \(5, 2\)"):
        solve_observed(stack, x[:, :2])
    x[[1, 4]] = torch.inf
    with pytest.raises(ObservationError, match="finite observations"):
        solve_observed(stack, x)
