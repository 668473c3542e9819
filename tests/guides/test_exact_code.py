"""ExactCode: a guide that samples nothing, under models without noise."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import IncompatiblePairError, log_densities
from pyrolvm.testing import GuideContract


class TestExactCode(GuideContract):
    def make_model(self):
        return models.TriangularMap(2, hidden=(8,))

    def make(self, model):
        return guides.ExactCode(model)


def test_every_particle_weighs_the_evidence():
    model = models.GenericFlow(2, hidden=(8,))
    x = model(size=5).detach()
    found = log_densities(model, guides.ExactCode(model), x, num_particles=3)
    assert found.log_weights.shape == (3, 5)
    evidence = model.log_evidence(x).double().expand(3, 5)
    assert_close(found.log_weights, evidence, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.log_guide, torch.zeros(3, 5, dtype=torch.float64))


def test_code_and_evidence_are_those_of_the_model():
    model = models.TriangularMap(2, hidden=(8,))
    guide, x = guides.ExactCode(model), torch.randn(5, 2)
    assert_close(guide.code(x), model.encode(x))
    assert_close(guide.log_evidence(x), model.log_evidence(x))


def test_its_gap_is_zero():
    model = models.TriangularMap(2, hidden=(8,))
    table = lvm.score(model, guides.ExactCode(model), torch.randn(20, 2), num_particles=10)
    assert abs(table.frame["gap"].iloc[0]) < 1e-9


def test_models_with_noise_are_refused():
    with pytest.raises(IncompatiblePairError, match=r"ExactCode needs .* HasCode, which VAE"):
        guides.ExactCode(models.VAE(2, 5))


def test_guides_of_latent_sites_refuse_a_model_without_and_name_this_one():
    for make in (guides.Amortized, guides.PerDatum, guides.Langevin, guides.Exact):
        with pytest.raises(IncompatiblePairError, match=r"does not offer.*ExactCode"):
            make(models.TriangularMap(2))
