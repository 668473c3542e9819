"""A learned prior finds the sources of segmented data, up to order, sign and scale."""

from __future__ import annotations

import pytest
import torch

from pyrolvm import fit_restarts
from pyrolvm.datasets import SegmentedSources
from pyrolvm.guides import ConditionalProduct
from pyrolvm.identifiability import mcc
from pyrolvm.models import IVAE


@pytest.mark.slow
@pytest.mark.parametrize("law", [0, 1, 2])
def test_the_start_of_the_best_bound_finds_the_sources(law):
    sources = SegmentedSources.random(
        2, 4, 40, centred=True, scale_range=(0.5, 3.0), noise_scale=0.0, seed=law
    )
    data = sources.dataset(1000, seed=law)

    def make(seed):
        model = IVAE(latent_dim=2, obs_dim=4, num_environments=40)
        return model, ConditionalProduct(model).standardise_by(data.train)

    found = fit_restarts(
        make, data.train_data, seeds=range(4), steps=6000, batch_size=256, learning_rate=1e-2,
        num_particles=20, progress=False,
    )  # fmt: skip
    with torch.no_grad():
        scores = [
            mcc(data.train_codes, run.guide.distribution(**data.train_data).mean)
            for run in found.fits
        ]
    print(f"law {law}: MCC by falling ELBO", scores, "ELBOs", found.elbos, found.seconds, "s")
    assert scores[0] >= 0.9
