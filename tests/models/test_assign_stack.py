"""Models whose layers, noise and prior can be set from a generator given as data."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core import AssignableStack
from pyrolvm.core.pairing import offers
from pyrolvm.exact import AffineStack
from pyrolvm.models import VAE, CPAGenerator, LinearGaussian

MAKERS = {
    "mixture": lambda: CPAGenerator(
        2, 3, (4, 5), activation="abs", isotropic=False, learn_noise=True, learn_prior=True,
        prior_components=3,
    ),
    "learned prior": lambda: CPAGenerator(2, 3, (4,), learn_noise=True, learn_prior=True),
    "autoencoder": lambda: VAE(2, 3, (4,)),
    "factor analysis": lambda: LinearGaussian(2, 3, isotropic=False),
}  # fmt: skip


def values(model):
    """What a model shows, as copies."""
    stack = AffineStack.of(model.affine_stack)
    tensors = (*stack.weights, *stack.biases, stack.noise_scale)
    prior = (stack.prior_loc, stack.prior_scale_tril, stack.prior_logits)
    return [t.detach().clone() for t in (*tensors, *prior) if t is not None]


@pytest.mark.parametrize("name", MAKERS)
def test_a_model_takes_over_what_another_one_shows(name):
    torch.manual_seed(0)
    model, other = MAKERS[name](), MAKERS[name]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.rand_like(parameter))
    assert offers(model, AssignableStack)
    assert any(not torch.equal(a, b) for a, b in zip(values(model), values(other), strict=True))
    model.assign_stack(other.affine_stack)
    for mine, theirs in zip(values(model), values(other), strict=True):
        assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_what_learns_carries_a_gradient(name):
    stack = AffineStack.of(MAKERS[name]().affine_stack)
    assert all(tensor.requires_grad for tensor in (*stack.weights, *stack.biases))
    assert stack.noise_scale.requires_grad
    learns = name in ("mixture", "learned prior")
    assert stack.prior_loc.requires_grad is learns
    assert stack.prior_scale_tril.requires_grad is learns
    assert (stack.prior_logits is not None) is (name == "mixture")


def test_fixed_noise_and_a_learned_floor_stay():
    fixed = CPAGenerator(1, 2, (3,), 0.3)
    stack = AffineStack.of(fixed.affine_stack)
    fixed.assign_stack(replace(stack, noise_scale=torch.tensor([0.7, 0.7])))
    assert_close(fixed.noise_scale, torch.tensor([0.3, 0.3]))
    learned = CPAGenerator(1, 2, (3,), 0.3, learn_noise=True)
    learned.assign_stack(replace(stack, noise_scale=torch.tensor([1e-6, 1e-6])))
    assert_close(learned.noise_scale, torch.full((2,), learned.noise.floor))


@pytest.mark.parametrize("options", [{"likelihood": "bernoulli"}, {"activation": "tanh"}])
def test_a_model_without_affine_layers_does_not_offer_it(options):
    assert not offers(VAE(2, 3, (4,), **options), AssignableStack)
