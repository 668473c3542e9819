"""The recorded gradient against the live one."""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Gamma, Normal, Poisson

from pyrolvm.inference.reference.potential import potential_of, recorded_slope
from pyrolvm.inference.rows import space_at_rows


def smooth(x):
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", Gamma(2.0, 0.5))
        pyro.sample("x", Poisson(rate), obs=x)


def branching(x):
    z = pyro.sample("z", Normal(0.0, 1.0))
    scale = 1.0 if z > 0 else 3.0
    pyro.sample("x", Normal(z, scale).expand([len(x)]).to_event(1), obs=x)


def test_what_is_recorded_equals_what_runs():
    x = torch.tensor([1.0, 4.0])
    with space_at_rows(smooth, x) as space:
        slope = recorded_slope(space, space.prior_points(3))
        for points in space.prior_points(5):
            value, gradient = slope(points)
            expected, live = space.gradient(points[None])
            assert torch.allclose(value, expected.sum())
            assert torch.allclose(gradient, live[0])
        assert isinstance(slope, torch.fx.GraphModule)


def test_a_program_that_branches_on_values_is_not_recorded():
    x = torch.tensor([1.0, 2.0])
    with space_at_rows(branching, x) as space:
        slope = recorded_slope(space, torch.ones(2, 1, 1, dtype=torch.float64))
        for z in (-1.5, 2.5):
            scale = 1.0 if z > 0 else 3.0
            value, gradient = slope(torch.full((1, 1), z, dtype=torch.float64))
            expected = Normal(0.0, 1.0).log_prob(torch.tensor(z))
            expected = expected + Normal(z, scale).log_prob(x).sum()
            assert torch.allclose(value, expected.double(), atol=1e-6)
            assert abs(gradient.item() - (-z + ((x - z) / scale**2).sum().item())) < 1e-6


def test_the_potential_is_minus_the_log_joint_with_its_gradient():
    def slope(points):
        return -0.5 * points.square().sum(), -points

    points = torch.tensor([[1.0, -2.0]], requires_grad=True)
    energy = potential_of(slope)({"points": points})
    energy.backward()
    assert energy.item() == 2.5
    assert torch.equal(points.grad, points.detach())
