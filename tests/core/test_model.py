"""Programs state the parameters of a part once a run, and in every run."""

from __future__ import annotations

import copy
from collections import Counter

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger

from pyrolvm import guides, models


class Counting(Messenger):
    """Counts the parameter statements."""

    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def _pyro_param(self, msg):
        self.seen[msg["name"]] += 1


def test_every_parameter_is_stated_once_in_every_run():
    model = models.SigmoidBeliefNetwork(layers=(4, 3, 2), obs_dim=5)
    guide = guides.HelmholtzCoupled(model)
    x = torch.zeros(6, 5)
    for program in (model, guide):
        names = {id(parameter) for parameter in program.parameters()}
        for _ in range(2):
            with Counting() as counting, poutine.trace(param_only=True) as found:
                program(x)
            assert set(counting.seen.values()) == {1}
            values = [site["value"].unconstrained() for site in found.trace.nodes.values()]
            assert {id(value) for value in values} == names


def test_a_part_that_was_exchanged_between_runs_is_the_new_one():
    model = models.SigmoidBeliefNetwork(layers=(2,), obs_dim=3)
    model(size=4)
    model.layers = copy.deepcopy(model.layers)
    pyro.clear_param_store()
    with poutine.trace(param_only=True) as found:
        model(size=4)
    values = {id(site["value"].unconstrained()) for site in found.trace.nodes.values()}
    assert values == {id(parameter) for parameter in model.parameters()}
