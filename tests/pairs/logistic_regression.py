"""Bayesian logistic regression: zeros and ones from three covariates and an intercept.

References:
    Jaakkola & Jordan (2000), Bayesian Parameter Estimation via Variational Methods.
"""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Bernoulli, Normal
from pyro.infer.autoguide import AutoMultivariateNormal

from tests.pairs.program import Program, generator

WEIGHTS = torch.tensor([1.0, -0.5, 0.0])


def model(covariates, y):
    intercept = pyro.sample("intercept", Normal(0.0, 2.0))
    weights = pyro.sample("weights", Normal(torch.zeros(3), 2.0).to_event(1))
    with pyro.plate("data", len(covariates)):
        logits = intercept + (covariates * weights).sum(-1)
        pyro.sample("y", Bernoulli(logits=logits), obs=y)


def data():
    source = generator(1)
    covariates = torch.randn(60, 3, generator=source)
    chance = torch.sigmoid(0.3 + covariates @ WEIGHTS)
    return {"covariates": covariates, "y": torch.bernoulli(chance, generator=source)}


def pair():
    return Program(model, AutoMultivariateNormal(model), data(), outside="intercept")
