"""Sums over draws: against scored traces, the diagnostics, exact sums, and double precision."""

from __future__ import annotations

import math

import pytest
import torch

from pyrolvm import diagnostics, guides, models
from pyrolvm.core import evaluating
from pyrolvm.core.log_densities import log_densities
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.enumeration import layer_sums
from pyrolvm.inference.helmholtz import particle_sums as module_function
from pyrolvm.inference.helmholtz.particle_sums import (
    drawn,
    log_joint,
    log_recognition,
    particle_sums,
    rounding_error,
)


def pair(layers, obs_dim, spread, seed=0):
    torch.manual_seed(seed)
    model = models.SigmoidBeliefNetwork(layers=layers, obs_dim=obs_dim)
    guide = guides.HelmholtzCoupled(model)
    with torch.no_grad():
        for parameter in (*model.parameters(), *guide.parameters()):
            parameter.uniform_(-spread, spread)
    return model, guide, model(size=30).detach()


@pytest.fixture(scope="module")
def small():
    return pair((4, 3, 2), 6, 0.7)


def test_densities_are_those_of_the_traced_programs(small):
    model, guide, x = small
    traced = log_densities(model, guide, x, num_particles=7, keep_values=True)
    with evaluating(model, guide):
        joint = log_joint(model, x.double(), traced.values)
        recognition = log_recognition(model, guide, x.double(), traced.values)
    torch.testing.assert_close(joint, traced.log_joint)
    torch.testing.assert_close(recognition, traced.log_guide)


def test_sums_say_what_the_diagnostics_say_of_the_same_draws(small):
    model, guide, x = small
    sums = particle_sums(model, guide, x, 50, seed=3, dtype=torch.float64)
    with evaluating(model, guide), own_randomness(3):
        values, log_guide = drawn(model, guide, x.double(), 50)
        log_weights = log_joint(model, x.double(), values) - log_guide
    torch.testing.assert_close(sums.log_evidence, diagnostics.iwae(log_weights))
    torch.testing.assert_close(sums.log_weight, diagnostics.elbo(log_weights))
    torch.testing.assert_close(sums.root_ess, diagnostics.sqrt_weight_ess(log_weights))
    torch.testing.assert_close(sums.ess, diagnostics.effective_sample_size(log_weights) / 50)
    bound = 2 * ((log_weights / 2).logsumexp(0) - math.log(50))
    torch.testing.assert_close(sums.log_bound, bound)


def test_sums_in_chunks_reach_the_exact_values_row_by_row(small, monkeypatch):
    model, guide, x = small
    monkeypatch.setitem(module_function.__globals__, "CPU_ELEMENTS", 6 * 7 * 100)
    monkeypatch.setitem(module_function.__globals__, "MOST_ROWS", 7)
    size = 20_050  # 200 whole chunks of 100 and a half one
    sums, exact = particle_sums(model, guide, x, size), layer_sums(model, guide)
    error = torch.sqrt((1 / sums.ess - 1) / size)
    assert error.max() < 0.06
    assert ((sums.log_evidence - exact.log_evidence(x)).abs() < 5 * error).all()
    root_error = 2 * torch.sqrt((1 / sums.root_ess - 1) / size)
    assert ((sums.log_bound - exact.log_bound(x)).abs() < 5 * root_error).all()
    assert (sums.root_ess - exact.overlap(x)).abs().max() < 0.02
    assert exact.log_evidence(x).std() > 0.2  # so that rows in another order would be noticed


def test_single_precision_is_enough_on_a_wide_net():
    model, guide, x = pair((100, 70, 50, 25), 123, 0.3)
    assert 0 < rounding_error(model, guide, x) < 1e-3


def test_leaves_the_pair_and_random_numbers_as_they_were(small):
    model, guide, x = small
    state = torch.get_rng_state()
    particle_sums(model, guide, x, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.dtype == torch.float32
    assert next(guide.parameters()).requires_grad
