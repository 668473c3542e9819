"""LeakyGenerator: its inverse, its constants, and orthogonality under training."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core import evaluating
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Amortized
from pyrolvm.inference.invertibility import invertibility
from pyrolvm.models import LeakyGenerator
from pyrolvm.testing import ModelContract


class TestLeakyGenerator(ModelContract):
    def make(self):
        return LeakyGenerator(latent_dim=3, num_layers=2)

    @pytest.mark.parametrize("slope", [1.0, 0.5, 0.01])
    @pytest.mark.parametrize("sharpness", [0.5, 4.0, 100.0])
    def test_the_inverse_gives_z_back(self, slope, sharpness):
        model = LeakyGenerator(3, num_layers=3, slope=slope, sharpness=sharpness)
        z = 2 * torch.randn(200, 3).double()
        with evaluating(model):
            assert_close(model.inverse(model.generate(z)), z, rtol=1e-9, atol=1e-9)

    def test_every_point_has_its_latents(self):
        model, x = self.make(), 100 * torch.randn(50, 3).double()
        with evaluating(model):
            assert_close(model.generate(model.inverse(x)), x, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("slope", [0.2, 0.5, 0.9])
    @pytest.mark.parametrize("num_layers", [1, 3])
    def test_sampled_constants_obey_the_certificate(self, slope, num_layers):
        found = invertibility(LeakyGenerator(3, num_layers=num_layers, slope=slope))
        low, high = found.certified
        assert low == slope**num_layers
        assert low - 1e-9 < min(found.pairs[0], found.jacobian[0])
        assert max(found.pairs[1], found.jacobian[1]) < high + 1e-6

    def test_without_a_leak_it_is_an_isometry(self):
        found = invertibility(LeakyGenerator(3, slope=1.0))
        assert_close(found.jacobian, (1.0, 1.0), rtol=0, atol=1e-6)

    def test_one_layer_attains_its_certificate(self):
        found = invertibility(LeakyGenerator(1, num_layers=1, slope=0.3, sharpness=20.0))
        assert_close(found.jacobian, found.certified, rtol=0, atol=1e-3)

    def test_training_keeps_the_matrices_orthogonal(self):
        model = self.make()
        x = 3 * torch.randn(64, 3) + 1
        before = model.rotations[0]().detach()
        lvm.fit(model, Amortized(model), x, steps=50, learning_rate=0.05, progress=False)
        after = model.rotations[0]().detach()
        assert (after - before).abs().max() > 0.05
        assert_close(after.T @ after, torch.eye(3), rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"slope": 0.0}, r"slope in \(0, 1\]"),
            ({"slope": 1.2}, r"slope in \(0, 1\]"),
            ({"sharpness": 0.0}, "positive sharpness"),
            ({"num_layers": 0}, "num_layers should be at least 1"),
        ],
    )
    def test_what_is_not_invertible_is_refused(self, options, sentence):
        with pytest.raises(SettingError, match=sentence):
            LeakyGenerator(2, **options)
