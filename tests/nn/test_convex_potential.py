"""Strongly convex networks: derivatives by hand against autograd, convexity, and inversion."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import SettingError
from pyrolvm.nn.convex_potential import ConvexGradientMap, ConvexPotential


@pytest.fixture(params=[(1, (8,)), (2, (16, 8)), (4, (8, 8, 8))], ids=str)
def gradient_map(request):
    torch.manual_seed(0)
    dim, hidden = request.param
    made = ConvexGradientMap(ConvexPotential(dim, hidden))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    return made.double()


def points(part, size=40):
    return 3 * torch.randn(size, part.dim, dtype=torch.float64)


def test_gradients_and_hessians_are_those_of_autograd(gradient_map):
    x = points(gradient_map, 5)
    _, gradient, hessian = gradient_map.potential(x)
    value = lambda u: gradient_map.potential(u)[0]  # noqa: E731
    first = torch.stack([torch.autograd.functional.jacobian(value, u) for u in x])
    second = torch.stack([torch.autograd.functional.hessian(value, u) for u in x])
    assert_close(gradient, first, rtol=1e-10, atol=1e-10)
    assert_close(hessian, second, rtol=1e-10, atol=1e-10)


def test_the_hessian_is_symmetric_with_the_least_curvature(gradient_map):
    hessian = gradient_map.potential(points(gradient_map))[2]
    assert_close(hessian, hessian.mT, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(hessian).min() >= gradient_map.potential.convexity


def test_the_log_determinant_is_that_of_the_hessian(gradient_map):
    x = points(gradient_map)
    dense = torch.linalg.slogdet(gradient_map.potential(x)[2])[1]
    assert_close(gradient_map(x)[1], dense, rtol=0, atol=1e-10)


def test_gradients_are_cyclically_monotone(gradient_map):
    z = gradient_map
    for _ in range(200):
        x = points(z, 5)
        assert (z(x)[0] * (x - x.roll(1, 0))).sum() >= 0
    turned = lambda u: z(u)[0].flip(-1) * torch.tensor([1.0, -1.0])  # noqa: E731
    if z.dim == 2:  # and a rotated gradient is not
        cycles = (points(z, 5) for _ in range(99))
        assert min((turned(x) * (x - x.roll(1, 0))).sum() for x in cycles) < 0


def test_the_inverse_undoes_the_map_and_the_map_the_inverse(gradient_map):
    x = points(gradient_map)
    with torch.no_grad():
        assert_close(gradient_map.inverse(gradient_map(x)[0]), x, rtol=0, atol=1e-8)
        far = 30 * points(gradient_map)
        assert_close(gradient_map(gradient_map.inverse(far))[0], far, rtol=1e-9, atol=1e-8)


def test_gradients_through_the_inverse_are_those_of_the_implicit_function(gradient_map):
    z = points(gradient_map, 3).requires_grad_()
    x = gradient_map.inverse(z)
    hessian = gradient_map.potential(x.detach())[2]
    for index in range(gradient_map.dim):
        found = torch.autograd.grad(x[:, index].sum(), z, retain_graph=True)[0]
        assert_close(found, torch.linalg.inv(hessian)[:, index], rtol=1e-8, atol=1e-8)


def test_the_inverse_depends_on_the_parameters_as_finite_differences_say():
    torch.manual_seed(1)
    part = ConvexGradientMap(ConvexPotential(2, (4, 4))).double()
    z = points(part, 3)
    bias = part.potential.readers[0].bias
    found = torch.autograd.grad(part.inverse(z).sum(), bias)[0][0]
    with torch.no_grad():
        bias[0] += 1e-5
        above = part.inverse(z).sum()
        bias[0] -= 2e-5
        below = part.inverse(z).sum()
    assert_close(found, (above - below) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "dim should be at least 1"),
        ((2, ()), "layers should be at least 1"),
        ((2, (8, 0)), "hidden should be at least 1"),
        ((2, (8,), 0.0), "convexity should be positive"),
    ],
)
def test_settings_without_sense_are_refused(arguments, message):
    with pytest.raises(SettingError, match=message):
        ConvexPotential(*arguments)
