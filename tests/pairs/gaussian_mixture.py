"""Mixture of two normal laws with unknown weights, means and common scale; labels summed out.

References:
    Bishop (2006), Pattern Recognition and Machine Learning, section 10.2.
"""

from __future__ import annotations

import pyro
import torch
from pyro import poutine
from pyro.distributions import Categorical, Dirichlet, LogNormal, Normal
from pyro.infer.autoguide import AutoNormal

from tests.pairs.program import Program

COMPONENTS = 2
OBSERVED = torch.tensor([-0.4, 0.1, 0.3, 0.8, 5.0, 5.6, 6.3])


def model(x):
    weights = pyro.sample("weights", Dirichlet(torch.ones(COMPONENTS)))
    scale = pyro.sample("scale", LogNormal(0.0, 1.0))
    with pyro.plate("components", COMPONENTS):
        locs = pyro.sample("locs", Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", Categorical(weights), infer={"enumerate": "parallel"})
        loc = sum(torch.where(k == i, locs[..., i : i + 1], 0.0) for i in range(COMPONENTS))
        pyro.sample("x", Normal(loc, scale), obs=x)


def pair():
    guide = AutoNormal(poutine.block(model, hide=["k"]))
    return Program(model, guide, OBSERVED, outside="weights", summed_out=("k",))
