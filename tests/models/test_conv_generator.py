"""ConvGenerator: injective on sampled pairs, though pooling forgets."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pyrolvm.core.errors import SettingError
from pyrolvm.inference.invertibility import invertibility
from pyrolvm.models import ConvGenerator
from pyrolvm.testing import ModelContract


class TestConvGenerator(ModelContract):
    def make(self):
        return ConvGenerator(latent_dim=2, obs_dim=5, channels=3)

    def test_pooling_forgets_differences_of_neighbours(self):
        pooling = next(layer for layer in self.make().decoder if isinstance(layer, nn.AvgPool1d))
        signal = torch.tensor([[1.0, -1.0, 2.0, -2.0]])
        assert torch.equal(pooling(signal), torch.zeros(1, 2))

    @pytest.mark.parametrize(("latent_dim", "obs_dim"), [(1, 4), (2, 8), (4, 16)])
    def test_no_sampled_pair_meets(self, latent_dim, obs_dim):
        found = invertibility(ConvGenerator(latent_dim, obs_dim))
        assert found.certified is None
        assert min(found.pairs[0], found.jacobian[0]) > 1e-3

    def test_it_is_not_affine(self):
        model = self.make()
        one, two = torch.randn(2, 10, 2)
        middle = model.generate((one + two) / 2)
        assert (middle - (model.generate(one) + model.generate(two)) / 2).abs().max() > 0.1

    @pytest.mark.parametrize("options", [{"latent_dim": 6}, {"kernel_size": 4}])
    def test_what_cannot_be_injective_or_centred_is_refused(self, options):
        with pytest.raises(SettingError, match=r"no more latents than observations.*odd"):
            ConvGenerator(**{"latent_dim": 2, "obs_dim": 5, **options})
