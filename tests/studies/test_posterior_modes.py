"""Modes of exact posteriors, against valleys and masses on a dense grid."""

from __future__ import annotations

import math

import pytest
import torch

from pyrolvm.exact import AffineStack
from pyrolvm.models import CPAGenerator, LinearGaussian
from pyrolvm.studies.posterior_modes import mode_entropy, mode_results

GRID = torch.linspace(-9, 9, 60_001, dtype=torch.float64)


def on_a_grid(model, x):
    """Entropy of the masses between local minima of p(x, z)."""
    z = GRID[:, None]
    with torch.no_grad():
        joint = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    inner = joint[1:-1]
    valleys = (inner < joint[:-2]) & (inner < joint[2:])
    mode = torch.cat([torch.zeros(1), valleys.double().cumsum(0), torch.zeros(1)]).long()
    mode[-1] = mode[-2]
    mass = torch.zeros(int(mode.max()) + 1, dtype=torch.float64)
    mass.index_add_(0, mode, (joint - joint.logsumexp(0)).exp())
    return torch.special.entr(mass).sum().item(), len(mass)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
def test_it_is_the_entropy_of_masses_between_valleys(activation):
    torch.manual_seed(3)
    model = CPAGenerator(1, 2, (6, 4), 0.4, activation, prior_loc=torch.tensor([0.3])).double()
    x = model(size=25).detach().double()
    found = mode_entropy(AffineStack.of(model.affine_stack), x)
    wanted = [on_a_grid(model, row) for row in x]
    assert max(modes for _, modes in wanted) > 1
    torch.testing.assert_close(found, torch.tensor([h for h, _ in wanted], dtype=torch.float64),
                               atol=2e-3, rtol=0)  # fmt: skip


def test_two_equal_modes_have_the_logarithm_of_two():
    model = CPAGenerator(1, 1, (1,), 0.05, "abs").double()
    with torch.no_grad():
        for layer, weight, bias in ((0, 1.0, 0.0), (2, 1.0, 0.0)):
            model.decoder[layer].weight.fill_(weight)
            model.decoder[layer].bias.fill_(bias)
    found = mode_entropy(AffineStack.of(model.affine_stack), torch.ones(1, 1).double())
    assert found.item() == pytest.approx(math.log(2))


def test_a_linear_generator_has_one_mode():
    model = LinearGaussian(1, 3).double()
    found = mode_entropy(AffineStack.of(model.affine_stack), torch.randn(5, 3).double())
    assert found.abs().max() < 1e-9


def test_results_are_mean_error_median_and_upper_decile():
    found = mode_results(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert found["mode_entropy"] == found["mode_entropy_median"] == pytest.approx(0.5)
    assert found["mode_entropy_q90"] == pytest.approx(0.9)
    assert set(mode_results(None).values()) == {None}
