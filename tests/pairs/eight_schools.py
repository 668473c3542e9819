"""Eight schools: effects of coaching on test scores, with one prior for all schools.

References:
    Rubin (1981), Estimation in Parallel Randomized Experiments, table 1.
    Gelman et al. (2013), Bayesian Data Analysis, section 5.5 (the half-Cauchy prior: Gelman 2006).
"""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import HalfCauchy, Normal
from pyro.infer.autoguide import AutoNormal

from tests.pairs.program import Program

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
STANDARD_ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])


def centred(y, sigma):
    mu = pyro.sample("mu", Normal(0.0, 5.0))
    tau = pyro.sample("tau", HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", Normal(mu, tau))
        pyro.sample("y", Normal(theta, sigma), obs=y)


def non_centred(y, sigma):
    mu = pyro.sample("mu", Normal(0.0, 5.0))
    tau = pyro.sample("tau", HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        eta = pyro.sample("eta", Normal(0.0, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        pyro.sample("y", Normal(theta, sigma), obs=y)


def _pair(model):
    data = {"y": EFFECTS, "sigma": STANDARD_ERRORS}
    return Program(model, AutoNormal(model), data, outside="mu", steps=200, learning_rate=0.05)


def centred_pair():
    return _pair(centred)


def non_centred_pair():
    return _pair(non_centred)
