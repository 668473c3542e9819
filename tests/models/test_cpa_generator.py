"""CPAGenerator: its options, and the stack of affine layers that it shows."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core import DataError, UnknownNameError, prior_predictive
from pyrolvm.models import CPAGenerator
from pyrolvm.testing import ModelContract

TRIL = torch.tensor([[1.5, 0.0], [0.4, 0.3]])


class TestCPAGenerator(ModelContract):
    def make(self):
        return CPAGenerator(latent_dim=2, obs_dim=5, hidden=(4,), learn_noise=True)

    @pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
    def test_the_stack_computes_what_the_decoder_does(self, activation):
        model = CPAGenerator(2, 5, hidden=(4, 3), activation=activation)
        stack, value = model.affine_stack, torch.randn(7, 2)
        out = value
        for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
            out = out @ weight.T + bias
            if layer < len(stack.slopes):
                out = torch.where(out > 0, out, stack.slopes[layer] * out)
        assert_close(out, model.decoder(value))

    def test_the_stack_is_live(self):
        model = self.make()
        stack = model.affine_stack
        total = sum(w.sum() for w in stack.weights) + stack.noise_scale.sum()
        total.backward()
        assert model.decoder[0].weight.grad is not None
        assert model.noise.raw.grad is not None

    def test_any_gaussian_prior(self):
        loc = torch.tensor([3.0, -1.0])
        model = CPAGenerator(2, 5, hidden=(4,), prior_loc=loc, prior_scale_tril=TRIL)
        z = prior_predictive(model, 50_000).latents["z"]
        assert_close(z.mean(0), loc.double(), rtol=0, atol=0.05)
        assert_close(z.T.cov(), (TRIL @ TRIL.T).double(), rtol=0, atol=0.08)
        assert_close(model.affine_stack.prior_scale_tril, TRIL)

    def test_the_prior_is_copied(self):
        loc = torch.zeros(2)
        model = CPAGenerator(2, 5, prior_loc=loc)
        loc.add_(1.0)
        assert torch.equal(model.latent_prior.loc, torch.zeros(2))

    def test_fixed_noise_has_no_parameter_and_no_floor(self):
        model = CPAGenerator(2, 5, noise_scale=1e-4)
        assert "noise.raw" not in dict(model.named_parameters())
        assert model.noise_scale[0].item() == pytest.approx(1e-4)

    def test_diagonal_noise(self):
        model = CPAGenerator(2, 5, isotropic=False, learn_noise=True)
        with torch.no_grad():
            model.noise.raw[0] = 0.0
        assert model.noise_scale[0] > 1.0 > model.noise_scale[1]
        assert_close(model.affine_stack.noise_scale, model.noise_scale)

    def test_smooth_activations_are_refused(self):
        with pytest.raises(UnknownNameError, match="piecewise-affine activation 'tanh'"):
            CPAGenerator(2, 5, activation="tanh")

    @pytest.mark.parametrize(
        ("prior", "sentence"),
        [
            ({"prior_loc": torch.zeros(3)}, r"mean of shape \(2,\).*got \(3,\)"),
            ({"prior_scale_tril": torch.ones(2)}, r"factor of shape \(2, 2\)"),
            ({"prior_scale_tril": torch.ones(2, 2)}, "lower triangular"),
            ({"prior_scale_tril": -torch.eye(2)}, "positive diagonal"),
        ],
    )
    def test_what_is_no_prior_is_refused(self, prior, sentence):
        with pytest.raises(ValueError, match=sentence):
            CPAGenerator(2, 5, **prior)

    def test_one_observation_without_its_row_is_refused(self):
        with pytest.raises(DataError, match="one observation in a row"):
            self.make()(torch.zeros(5))
