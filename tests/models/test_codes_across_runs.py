"""Equal likelihoods, and codes that agree across runs only where the map is triangular."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

import pyrolvm as lvm
from pyrolvm import models
from pyrolvm.datasets.triangular_toy import TriangularToy


def raw_r2(z, other):
    """Share of variance that codes explain of others, without alignment."""
    return float((1 - (z - other).square().sum(0) / (z - z.mean(0)).square().sum(0)).mean())


@pytest.mark.slow
def test_triangular_codes_agree_and_generic_ones_do_not_at_equal_likelihood():
    toy = TriangularToy().dataset(4000, seed=0)
    losses, agreements = {}, {}
    for kind in (models.TriangularMap, models.GenericFlow):
        codes, found = [], []
        for seed in range(4):
            torch.manual_seed(seed)
            model = kind(2)
            lvm.fit_exact(
                model, toy.train, optimizer="adam", steps=300, batch_size=512, seed=seed,
                progress=False,
            )  # fmt: skip
            codes.append(model.encode(toy.test).detach())
            found.append(-float(lvm.log_evidence(model, toy.test).value.mean().detach()))
        losses[kind] = sum(found) / 4
        agreements[kind] = [raw_r2(a, b) for a, b in permutations(codes, 2)]
    assert abs(losses[models.TriangularMap] - losses[models.GenericFlow]) < 0.02
    assert min(agreements[models.TriangularMap]) > 0.99
    assert sum(agreements[models.GenericFlow]) / 12 < 0.5


@pytest.mark.slow
def test_anchors_make_the_codes_of_a_vae_agree():
    torch.manual_seed(0)
    z = torch.randn(2000, 2)
    hidden = torch.tanh(z @ torch.randn(2, 6)) @ torch.randn(6, 6)
    first = z[:, :1] + 0.5 * z[:, :1].sin()
    x = torch.cat([first, z[:, 1:] * (0.3 * first).exp() + 0.5 * first**2, hidden], -1)
    x = x + 0.1 * torch.randn_like(x)
    agreements = {}
    for kind in (models.TriangularVAE, models.VAE):
        codes = []
        for seed in range(3):
            torch.manual_seed(seed)
            options = {"activation": "tanh", "noise_scale": 0.1, "learn_noise": False}
            model = kind(2, 8, hidden=(32,), **options)
            guide = lvm.guides.Amortized(model, family="full", hidden=(64,)).standardise_by(x)
            lvm.fit(model, guide, x, steps=1500, learning_rate=5e-3, seed=seed, progress=False)
            codes.append(guide.distribution(x).mean.detach())
        agreements[kind] = [raw_r2(a, b) for a, b in permutations(codes, 2)]
    assert min(agreements[models.TriangularVAE]) > 0.95
    assert sum(agreements[models.VAE]) / 6 < 0.5
