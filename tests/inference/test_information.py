"""Mutual information: against the closed form of a linear model, and the noise that gives it."""

from __future__ import annotations

import pytest
import torch

from pyrolvm import models
from pyrolvm.core import EvidenceError
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.information import mutual_information, noise_for_information


def linear(noise: float = 0.5) -> models.LinearGaussian:
    torch.manual_seed(0)
    return models.LinearGaussian(2, 3, noise_scale=noise, learn_noise=False)


def closed_form(model):
    loading = model.decoder[0].weight.detach().double()
    noise = model.noise_scale[0].item()
    return 0.5 * torch.logdet(torch.eye(2) + loading.mT @ loading / noise**2).item()


def test_it_is_half_the_log_determinant_of_a_linear_model():
    found = mutual_information(linear(), num_pairs=4000)
    assert abs(found.value - closed_form(linear())) < 5 * found.standard_error


def test_quadrature_gives_that_of_a_smooth_model():
    torch.manual_seed(1)
    model = models.VAE(1, 2, (4,), activation="tanh", noise_scale=0.3)
    found = mutual_information(model)
    assert found.method == "quadrature"
    assert 0 < found.value < 4


def test_the_noise_for_an_information_gives_it():
    noise = noise_for_information(linear, 1.5, num_pairs=2000)
    again = mutual_information(linear(noise), num_pairs=2000)
    assert again.value == pytest.approx(1.5, abs=0.01)
    assert closed_form(linear(noise)) == pytest.approx(1.5, abs=6 * again.standard_error)


def test_an_information_out_of_reach_is_refused():
    with pytest.raises(SettingError, match=r"at 0\.2 it is"):
        noise_for_information(linear, 50.0, num_pairs=50)


def test_a_model_without_evidence_is_refused():
    with pytest.raises(EvidenceError, match="1 or 2 latents"):
        mutual_information(models.VAE(3, 4, activation="tanh"))
