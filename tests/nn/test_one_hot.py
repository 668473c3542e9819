"""One-hot draws with straight-through gradients."""

from __future__ import annotations

import math

import pytest
import torch
from pyro.distributions import OneHotCategorical
from torch import Tensor
from torch.distributions import kl_divergence
from torch.testing import assert_close

from pyrolvm.nn.one_hot import OneHotHead, StraightThroughOneHot

LOGITS = torch.tensor([0.3, -1.0, 1.2, 0.0])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def one_hot(logits: Tensor = LOGITS) -> StraightThroughOneHot:
    return StraightThroughOneHot(torch.tensor(0.5), logits=logits)


def test_draws_are_one_hot_vectors_of_the_right_frequencies() -> None:
    z = one_hot().rsample(torch.Size([20_000]))
    assert ((z == 0) | (z == 1)).all()
    assert (z.sum(-1) == 1).all()
    probabilities = LOGITS.softmax(-1)
    error = (probabilities * (1 - probabilities) / 20_000).sqrt()
    assert ((z.mean(0) - probabilities).abs() < 5 * error).all()


def test_densities_are_those_of_the_categorical_variable() -> None:
    assert_close(one_hot().log_prob(torch.eye(4)), LOGITS.log_softmax(-1))
    with pytest.raises(ValueError, match="support"):
        StraightThroughOneHot(torch.tensor(0.5), logits=LOGITS, validate_args=True).log_prob(
            torch.full((4,), 0.25)
        )


def test_the_divergence_from_samples_is_the_exact_one() -> None:
    q, p = one_hot(), OneHotCategorical(logits=torch.zeros(4))
    z = q.sample(torch.Size([20_000]))
    drawn = q.log_prob(z) - p.log_prob(z)
    exact = (LOGITS.softmax(-1) * (LOGITS.log_softmax(-1) + math.log(4))).sum()
    assert_close(kl_divergence(q, p), exact)
    assert (drawn.mean() - exact).abs() < 5 * drawn.std() / math.sqrt(20_000)


def test_gradients_pass_and_point_uphill() -> None:
    """The mean of a linear function of z rises along the estimated gradient."""
    reward = torch.tensor([0.0, 1.0, 3.0, -1.0])
    logits = LOGITS.clone().requires_grad_()
    (one_hot(logits).rsample(torch.Size([5000])) @ reward).mean().backward()
    exact = torch.autograd.functional.jacobian(lambda t: t.softmax(-1) @ reward, LOGITS)
    assert logits.grad is not None
    assert torch.cosine_similarity(logits.grad, exact, dim=0) > 0.9


def test_batches_expand_on_the_left() -> None:
    q = one_hot(torch.randn(6, 4)).expand(torch.Size([3, 6]))
    assert isinstance(q, StraightThroughOneHot)
    assert q.rsample().shape == (3, 6, 4)
    assert q.log_prob(q.sample()).shape == (3, 6)


def test_a_head_starts_near_uniform() -> None:
    q = OneHotHead(3, (8,), 5)(torch.randn(50, 3))
    assert (q.probs - 0.2).abs().max() < 0.05
