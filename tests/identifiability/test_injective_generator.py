"""Whether a piecewise-affine generator is one to one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrolvm.exact import AffineStack
from pyrolvm.identifiability.injective_generator import curve_is_injective, is_injective


def relu_curve(kinks, directions, start=(0.0, 0.0)):
    """A curve that turns at given kinks: direction k holds from kink k − 1 to kink k."""
    directions = torch.tensor(directions)
    changes = torch.cat([directions[:1], directions[1:] - directions[:-1]])
    first, last = nn.Linear(1, len(kinks) + 2), nn.Linear(len(kinks) + 2, directions.shape[1])
    with torch.no_grad():
        first.weight.fill_(1.0)
        first.weight[1] = -1.0
        first.bias.copy_(torch.tensor([0.0, 0.0, *(-k for k in kinks)]))
        last.weight.copy_(torch.stack([changes[0], -changes[0], *changes[1:]], -1))
        last.bias.copy_(torch.tensor(start))
    return AffineStack.from_sequential(nn.Sequential(first, nn.ReLU(), last).double(), 0.1)


SHAPES = {
    "line": ([], [[1.0, 0.0]], True),
    "corner": ([0.0], [[1.0, 0.0], [0.0, 1.0]], True),
    "turns back on itself": ([0.0], [[1.0, 0.0], [-1.0, 0.0]], False),
    "stands still": ([0.0, 1.0], [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], False),
    "loop": (
        [0.0, 1.0, 2.0, 3.0],
        [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.0, -1.0]],
        False,
    ),
    "spiral that stops short": ([0.0, 2.0], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5]], True),
    "rays that cross far out": ([0.0, 2.0], [[1.0, 0.0], [0.0, 1.0], [-1.0, -0.01]], False),
    "parallel rays": ([0.0, 2.0], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], True),
    "past itself in three dimensions": (
        [0.0, 1.0, 2.0],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]],
        True,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_curves_that_meet_themselves_are_found(shape):
    kinks, directions, expected = SHAPES[shape]
    stack = relu_curve(kinks, directions, (0.0,) * len(directions[0]))
    assert curve_is_injective(stack) is expected
    if expected:
        z = torch.linspace(-5, 8, 400, dtype=torch.float64)
        x = generate(stack, z[:, None])
        apart = (z[:, None] - z).abs() > 0.1
        assert torch.cdist(x, x)[apart].min() > 1e-3


def generate(stack, z):
    first, last = stack.weights
    hidden = torch.relu(z @ first.detach().mT + stack.biases[0].detach())
    return hidden @ last.detach().mT + stack.biases[1].detach()


def stack_of(*layers):
    return AffineStack.from_sequential(nn.Sequential(*layers).double(), 0.1)


def test_leaky_layers_that_never_get_narrower_are_one_to_one():
    leaky = [nn.Linear(2, 3), nn.LeakyReLU(0.1), nn.Linear(3, 3), nn.LeakyReLU(0.1)]
    assert is_injective(stack_of(*leaky, nn.Linear(3, 5))) is True
    assert is_injective(stack_of(*leaky, nn.Linear(3, 2))) is None


def test_matrices_without_full_rank_are_not():
    flat = nn.Linear(2, 3)
    nn.init.ones_(flat.weight)
    assert is_injective(stack_of(flat)) is False
    assert is_injective(stack_of(flat, nn.LeakyReLU(0.1), nn.Linear(3, 3))) is False
    assert is_injective(stack_of(nn.Linear(2, 1))) is False


def test_relu_layers_of_several_latents_are_left_open():
    assert is_injective(stack_of(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8))) is None


def test_rounding_in_single_precision_does_not_make_a_matrix_one_to_one():
    """An outer product has rank 1, and a few 1e-9 beside it once it is rounded."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 6, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.outer(torch.randn(6), torch.randn(3)))
    assert int(torch.linalg.matrix_rank(layer.weight.detach().double())) > 1
    layer.bias = nn.Parameter(torch.zeros(6))
    assert is_injective(AffineStack.from_sequential(nn.Sequential(layer), 0.1)) is False
