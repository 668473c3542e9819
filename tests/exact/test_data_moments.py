"""Moments of the marginal p(x) against closed forms and a million draws of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyrolvm.exact import AffineStack, Partition, PartitionMismatchError, data_moments


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_a_linear_generator_has_the_closed_form(random_stack, latent_dim):
    stack = random_stack(latent_dim, (), 5, 0.3, seed=2)
    factor = (stack.weights[0] @ stack.prior_scale_tril).detach()
    found = data_moments(stack)
    torch.testing.assert_close(
        found.covariance, factor @ factor.mT + stack.noise_scale.square().diag()
    )
    mean = stack.weights[0] @ stack.prior_loc + stack.biases[0]
    torch.testing.assert_close(found.mean, mean.detach())


def test_a_rectified_normal_variable_has_its_known_moments():
    one, none = torch.eye(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    stack = AffineStack((one, one), (none, none), (0.0,), torch.tensor(0.5).double(), none, one)
    found = data_moments(stack)
    mean = (2 * torch.pi) ** -0.5
    assert found.mean.item() == pytest.approx(mean, rel=1e-14)
    assert found.covariance.item() == pytest.approx(0.5 - mean**2 + 0.25, rel=1e-14)


def agree(stack: AffineStack, z: Tensor, random: torch.Generator) -> None:
    num, found = len(z), data_moments(stack)
    noise = torch.randn(num, stack.obs_dim, generator=random, dtype=torch.float64)
    with torch.no_grad():
        rest = stack.forward(z) + stack.noise_scale * noise - found.mean
    assert (rest.mean(0) / (rest.std(0) / num**0.5)).abs().max() < 5
    for i in range(stack.obs_dim):
        for j in range(i + 1):
            outer = rest[:, i] * rest[:, j]
            error = (outer.mean() - found.covariance[i, j]) / (outer.std() / num**0.5)
            assert abs(error) < 5


@pytest.mark.parametrize(("latent_dim", "activation"), [(1, "relu"), (2, "relu"), (2, "abs")])
def test_moments_agree_with_a_million_draws(random_stack, latent_dim, activation):
    stack = random_stack(latent_dim, (8, 6), 4, 0.2, activation, seed=5)
    random = torch.Generator().manual_seed(0)
    z = torch.randn(1_000_000, latent_dim, generator=random, dtype=torch.float64)
    agree(stack, stack.prior_loc + z @ stack.prior_scale_tril.mT, random)


def test_a_mixture_prior_agrees_with_draws(random_stack):
    stack = replace(
        random_stack(2, (8,), 3, 0.2, seed=5),
        prior_loc=torch.tensor([[-1.0, 0.0], [1.5, 2.0]]).double(),
        prior_scale_tril=torch.stack([torch.eye(2), 0.3 * torch.eye(2)]).double(),
        prior_logits=torch.tensor([0.0, 1.0]).double(),
    )
    random, num = torch.Generator().manual_seed(1), 300_000
    chosen = torch.multinomial(stack.prior_logits.exp(), num, True, generator=random)
    z = torch.randn(num, 2, generator=random, dtype=torch.float64)
    tril = stack.prior_scale_tril[chosen]
    agree(stack, stack.prior_loc[chosen] + (tril @ z[..., None])[..., 0], random)


def test_regions_can_be_handed_over(random_stack):
    stack = random_stack(2, (8,), 3)
    partition = Partition.of(stack)
    torch.testing.assert_close(
        data_moments(stack, partition=partition).covariance, data_moments(stack).covariance
    )
    with pytest.raises(PartitionMismatchError):
        data_moments(random_stack(2, (8,), 3, seed=1), partition=partition)
