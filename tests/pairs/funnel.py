"""Neal's funnel: the scale of nine variables is itself unknown; there are no data.

A factor of one stands where an observation would be, so that the posterior is the funnel and the
log evidence is 0. In the non-centred form the mean-field family holds the posterior.

References:
    Neal (2003), Slice Sampling, section 8.
"""

from __future__ import annotations

import pyro
import torch
from pyro.distributions import Normal
from pyro.infer.autoguide import AutoNormal

from tests.pairs.program import Program

DIM = 9


def centred():
    v = pyro.sample("v", Normal(0.0, 3.0))
    with pyro.plate("dims", DIM):
        pyro.sample("x", Normal(0.0, torch.exp(v / 2)))
    pyro.factor("nothing_observed", torch.zeros(()))


def non_centred():
    v = pyro.sample("v", Normal(0.0, 3.0))
    with pyro.plate("dims", DIM):
        eps = pyro.sample("eps", Normal(0.0, 1.0))
        pyro.deterministic("x", eps * torch.exp(v / 2))
    pyro.factor("nothing_observed", torch.zeros(()))


def _pair(model):
    return Program(
        model, AutoNormal(model), None, outside="v", log_evidence=0.0, steps=200,
        learning_rate=0.05,
    )  # fmt: skip


def centred_pair():
    return _pair(centred)


def non_centred_pair():
    return _pair(non_centred)
