"""Starts of chains are wider apart than the posterior."""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Normal

from pyrolvm.inference.reference.starts import flattened_draws, overdispersed_starts
from pyrolvm.inference.rows import space_at_rows


def two_sided(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(0.0, 2.0))
        pyro.sample("x", Normal(z.square(), 0.3), obs=x)


def test_flattened_draws_are_wider_than_the_posterior(linear):
    model, x = linear
    with space_at_rows(model, x, range(20)) as space:
        draws = flattened_draws(space, 16)
    posterior = model.posterior(x[:20].double())
    assert draws.var(0).mean() > 1.5 * posterior.variance.mean()


def test_flattened_draws_lie_in_both_modes():
    with space_at_rows(two_sided, torch.full((5,), 4.0)) as space:
        draws = flattened_draws(space, 16)
    assert (draws > 0).any(0).all()
    assert (draws < 0).any(0).all()


def test_half_of_the_chains_start_around_the_guide():
    with space_at_rows(two_sided, torch.full((3,), 4.0)) as space:
        guide = 50.0 + torch.randn(8, 3, 1, dtype=torch.float64)
        starts = overdispersed_starts(space, 4, guide)
    assert (starts[1::2] > 30).all()
    assert (starts[::2].abs() < 20).all()
    centre = guide.mean(0)
    assert torch.allclose(starts[1] - centre, 2 * (guide[1] - centre))
