"""Hierarchical regression with two plates: counties with intercepts of their own, and houses.

References:
    Gelman & Hill (2007), Data Analysis Using Regression and Multilevel/Hierarchical Models,
    chapter 12 (radon in houses of Minnesota; the data here are simulated).
"""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import HalfNormal, Normal
from pyro.infer.autoguide import AutoNormal

from tests.pairs.program import Program, generator

COUNTIES = 5


def model(county, floor, log_radon):
    mean = pyro.sample("mean", Normal(0.0, 2.0))
    spread = pyro.sample("spread", HalfNormal(1.0))
    slope = pyro.sample("slope", Normal(0.0, 1.0))
    noise = pyro.sample("noise", HalfNormal(1.0))
    with pyro.plate("counties", COUNTIES):
        intercept = pyro.sample("intercept", Normal(mean, spread))
    with pyro.plate("data", len(county)):
        expected = intercept[..., county] + slope * floor
        pyro.sample("log_radon", Normal(expected, noise), obs=log_radon)


def data():
    source = generator(4)
    county = torch.randint(COUNTIES, (40,), generator=source)
    floor = torch.randint(2, (40,), generator=source).float()
    intercepts = 1.3 + 0.4 * torch.randn(COUNTIES, generator=source)
    noise = 0.7 * torch.randn(40, generator=source)
    return {
        "county": county, "floor": floor, "log_radon": intercepts[county] - 0.6 * floor + noise,
    }  # fmt: skip


def pair():
    return Program(model, AutoNormal(model), data(), outside="mean", steps=150)
