"""Small pairs whose densities can be written down by hand."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Normal


def model(x):
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", Normal(0.0, 1.0))
        pyro.sample(
            "x", Normal(z[..., None], 0.5).expand([*z.shape, x.shape[1]]).to_event(1), obs=x
        )


def guide(x):
    with pyro.plate("data", len(x), dim=-1):
        pyro.sample("z", Normal(0.3 * x.mean(-1), 0.7))


@pytest.fixture
def pair():
    """One scalar latent a datum, three observations of it."""
    return model, guide


@pytest.fixture
def x():
    return torch.randn(5, 3)
