"""Which guide serves which model, and what a refusal says."""

from __future__ import annotations

from types import SimpleNamespace

import pyro
import pytest
import torch

from pyrolvm import guides, models
from pyrolvm.core import (
    Guide,
    HasPosterior,
    IncompatiblePairError,
    PiecewiseAffine,
    UnknownNameError,
    VectorLatent,
    mean_over_data,
    serves,
)
from pyrolvm.core.pairing import offers


def test_a_refusal_names_what_is_missing_and_the_guides_that_would_do():
    model = models.VAE(2, 4, likelihood="bernoulli")
    with pytest.raises(IncompatiblePairError, match=r"Exact needs .* HasPosterior.*VAE") as caught:
        guides.Exact(model)
    usable = str(caught.value).partition("Guides that serve it: ")[2].rstrip(".").split(", ")
    assert {"Amortized", "PerDatum"} <= set(usable)
    assert not {"Exact", "ExactCPA"} & set(usable)


def test_a_property_that_raises_does_not_count():
    assert offers(models.VAE(2, 4), PiecewiseAffine)
    assert not offers(models.VAE(2, 4, activation="tanh"), PiecewiseAffine)
    assert not offers(models.VAE(2, 4), HasPosterior)


def test_any_object_with_the_members_will_do():
    facts = SimpleNamespace(latent_sites=("z",), latent_dim=2, obs_dim=3)
    assert serves(guides.Amortized, facts)
    assert not serves(guides.Exact, facts)


def test_a_users_guide_of_the_same_name_does_not_hide_ours():
    class Amortized(Guide):
        def forward(self, x=None, *, size=None):
            return None

    with pytest.raises(IncompatiblePairError, match=r"serve it: Amortized, .*PerDatum"):
        guides.Exact(models.VAE(2, 4, activation="tanh"))


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (1, "Narrow serves models with 1 latent dimension, but this one has 4"),
        (2, "Narrow serves models with 1 or 2 latent dimensions, but this one has 4"),
        (3, "Narrow serves models with up to 3 latent dimensions, but this one has 4"),
    ],
)
def test_a_guide_may_limit_the_latent_dimensions(limit, sentence):
    class Narrow(Guide):
        requires = (VectorLatent,)
        max_latent_dim = limit

        def forward(self, x=None, *, size=None):
            return None

    assert serves(Narrow, models.VAE(limit, 5))
    assert not serves(Narrow, models.VAE(4, 5))
    with pytest.raises(IncompatiblePairError) as caught:
        Narrow(models.VAE(4, 5))
    said = str(caught.value)
    assert said.startswith(f"{sentence}. Guides that serve it: Amortized, ")
    assert "Narrow" not in said.removeprefix(sentence)


def test_a_missing_capability_is_named_before_a_limit():
    with pytest.raises(IncompatiblePairError, match="capability PiecewiseAffine"):
        guides.ExactCPA(models.VAE(3, 4, activation="tanh"))


@pytest.mark.parametrize(("latent_dim", "is_suggested"), [(5, True), (6, False)])
def test_a_suggestion_keeps_to_the_limit(latent_dim, is_suggested):
    with pytest.raises(IncompatiblePairError) as caught:
        guides.Exact(models.CPAGenerator(latent_dim, 4))
    assert ("ExactCPA" in str(caught.value)) == is_suggested


def test_several_latent_sites_are_refused_by_name():
    facts = SimpleNamespace(latent_sites=("z_2", "z_1"), latent_dim=2, obs_dim=3)
    with pytest.raises(IncompatiblePairError, match=r"2: 'z_2', 'z_1'"):
        guides.Amortized(facts)


def test_a_guide_does_not_register_its_models_weights():
    model = models.VAE(2, 4)
    guide = guides.Amortized(model)
    own = {id(p) for p in guide.parameters()}
    assert not own & {id(p) for p in model.parameters()}


def test_two_modules_of_a_class_have_two_names():
    one, two = models.VAE(2, 4), models.VAE(2, 4)
    assert one._pyro_name != two._pyro_name
    one(size=2), two(size=2)
    assert len(list(pyro.get_param_store())) == 2 * len(list(one.parameters()))


def test_an_unknown_name_gets_the_nearest_known_one():
    error = UnknownNameError("guide", "amortised", ["amortized", "exact"])
    assert "Did you mean 'amortized'?" in str(error)


def test_a_mean_over_data_has_its_standard_error():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    found = mean_over_data(values)
    assert found.value == 3.0
    assert found.standard_error == pytest.approx(values.std().item() / 2)
    assert mean_over_data(values[:1]).standard_error == float("inf")
