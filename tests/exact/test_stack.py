"""Reading networks as data."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrolvm.core.errors import PyroLVMError
from pyrolvm.exact import AffineStack, GeneratorError, NotPiecewiseAffineError, solve


class Abs(nn.Module):
    def forward(self, inputs):
        return inputs.abs()


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(2, 3)),
        nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3)),
        nn.Sequential(nn.Linear(2, 5, bias=False), nn.Linear(5, 4), Abs(), nn.Linear(4, 3)),
        nn.Sequential(nn.Linear(2, 5), nn.Identity(), nn.LeakyReLU(0.2), nn.Linear(5, 3)),
        nn.Sequential(nn.Sequential(nn.Linear(2, 5), nn.ReLU()), nn.Linear(5, 3), nn.ReLU()),
        nn.Sequential(nn.ReLU(), nn.Linear(2, 3), Abs(), nn.ReLU()),
    ],
    ids=["linear", "relu", "linear-linear", "leaky", "nested", "activations-outside"],
)
def test_stack_computes_what_the_module_computes(module):
    stack = AffineStack.from_sequential(module, 0.1)
    z = torch.randn(7, 4, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stack.forward(z), module(z))
    assert torch.isfinite(solve(stack, torch.zeros(2, 3)).log_evidence).all()


def test_parameters_are_shared():
    module = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 3))
    assert AffineStack.from_sequential(module, 0.1).weights[0] is module[0].weight


def test_a_number_as_noise_keeps_its_digits():
    stack = AffineStack.from_sequential(nn.Sequential(nn.Linear(1, 3)), 0.1)
    assert stack.noise_scale.tolist() == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("bad", [nn.Tanh(), nn.PReLU(), nn.Dropout(), nn.ReLU6()])
def test_other_modules_are_refused_by_name(bad):
    module = nn.Sequential(nn.Linear(2, 5), bad, nn.Linear(5, 3))
    with pytest.raises(NotPiecewiseAffineError, match=rf"'1' is {type(bad).__name__}") as error:
        AffineStack.from_sequential(module, 0.1)
    assert isinstance(error.value, PyroLVMError)


def test_a_network_without_linear_layers_is_refused():
    with pytest.raises(NotPiecewiseAffineError, match="at least one Linear"):
        AffineStack.from_sequential(nn.Sequential(nn.ReLU()), 0.1)


def test_shapes_that_do_not_fit_are_refused(random_stack):
    stack = random_stack(2, (4,), 3)
    rest = (stack.slopes, stack.noise_scale, stack.prior_loc, stack.prior_scale_tril)
    with pytest.raises(GeneratorError, match="order of the layers"):
        AffineStack(stack.weights[::-1], stack.biases[::-1], *rest)
    with pytest.raises(GeneratorError, match="one slope a hidden layer"):
        AffineStack(stack.weights, stack.biases, (0.0, 0.0), *rest[1:])
    with pytest.raises(GeneratorError, match=r"noise_scale of shape \(3,\)"):
        AffineStack(stack.weights, stack.biases, stack.slopes, torch.ones(2), *rest[2:])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_bad_noise_is_refused(scale):
    stack = AffineStack.from_sequential(nn.Sequential(nn.Linear(1, 3)), scale)
    with pytest.raises(
        GeneratorError, match=r"noise scale must be positive|noise_scale holds NaN"
    ):
        solve(stack, torch.zeros(1, 3))


def test_bad_prior_is_refused():
    tril = -torch.eye(1)
    stack = AffineStack.from_sequential(nn.Sequential(nn.Linear(1, 3)), 1.0, prior_scale_tril=tril)
    with pytest.raises(GeneratorError, match="positive diagonal"):
        solve(stack, torch.zeros(1, 3))
