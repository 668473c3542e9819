"""What values the layers of a hierarchy take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pyro.distributions import (
    Beta,
    Binomial,
    Categorical,
    Normal,
    OneHotCategorical,
    Poisson,
    TorchDistribution,
)

from pyrolvm import models
from pyrolvm.core.layer_laws import first_layer_beyond, layer_laws, values_of


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (models.SigmoidBeliefNetwork((4, 3, 2), 5), ["binary"] * 3),
        (models.HierarchicalVAE((4, 3), 5), ["real"] * 2),
        (models.HierarchicalVAE((4, 3), 5, top="categorical"), ["one-hot", "real"]),
        (models.HierarchicalLinearGaussian((4, 3), 5), ["real"] * 2),
    ],
)
def test_layers_are_told_apart_by_the_support_of_their_prior(
    model: Any, values: list[str]
) -> None:
    state = torch.get_rng_state()
    laws = layer_laws(model)
    assert tuple(laws) == model.latent_sites
    assert [values_of(law) for law in laws.values()] == values
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("law", "values"),
    [
        (Poisson(torch.ones(3)).to_event(1), "discrete"),
        (Binomial(2, torch.full((3,), 0.5)).to_event(1), "discrete"),
        (Categorical(torch.ones(3)), "discrete"),
        (OneHotCategorical(torch.ones(3)), "one-hot"),
        (Beta(torch.ones(3), 1.0).to_event(1), "real"),
    ],
)
def test_other_counts_are_not_taken_for_zeros_and_ones(
    law: TorchDistribution, values: str
) -> None:
    assert values_of(law) == values


def test_the_first_layer_of_another_kind_is_described() -> None:
    binary_over_real = SimpleNamespace(
        latent_sites=("z_2", "z_1"),
        layer_dims={"z_2": 2, "z_1": 3},
        layer_prior=lambda site, above: (
            Normal(torch.zeros(2), 1.0).to_event(1) if site == "z_2" else binary()
        ),
    )
    found = first_layer_beyond(binary_over_real, "binary")
    assert found == "the layer 'z_2' of SimpleNamespace is drawn from a Normal"
    found = first_layer_beyond(binary_over_real, "real")
    assert found == "the layer 'z_1' of SimpleNamespace is of zeros and ones"
    assert first_layer_beyond(binary_over_real, "real", "binary") is None


def binary() -> TorchDistribution:
    return models.SigmoidBeliefNetwork(3, 2).layer_prior("z_1", {})
