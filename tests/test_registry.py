"""Names and specifications of models and guides."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pyrolvm.core import IncompatiblePairError, UnknownNameError
from pyrolvm.registry import (
    GUIDES,
    MODELS,
    build_model,
    default_guides,
    default_trainer,
    guides_for,
    make_guide,
    make_model,
    parse,
)
from pyrolvm.studies.specification import resolved_guide, resolved_model

ROOT = Path(__file__).parents[1]


ZOO = [*((k, "models") for k in MODELS.values()), *((k, "guides") for k in GUIDES.values())]


@pytest.mark.parametrize(("kind", "folder"), ZOO)
def test_every_registered_name_has_a_docstring_and_a_test_file(kind, folder):
    module = kind.__module__.rsplit(".", 1)[1]
    assert (ROOT / folder / f"{module}.py").exists()
    assert (ROOT / "tests" / folder / f"test_{module}.py").exists()
    assert kind.__doc__


@pytest.mark.parametrize("folder", ["models", "guides"])
def test_every_file_of_the_zoo_is_registered(folder):
    registered = {k.__module__.rsplit(".", 1)[1] for k in [*MODELS.values(), *GUIDES.values()]}
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert files <= registered


def test_a_model_takes_its_dimension_widths_and_options():
    model = make_model("cpa-generator:1:16x8:activation=abs:noise_scale=0.3", obs_dim=5)
    assert (model.latent_dim, model.obs_dim) == (1, 5)
    assert [layer.out_features for layer in model.decoder if hasattr(layer, "weight")] == [
        16,
        8,
        5,
    ]
    assert model.noise_scale[0].item() == pytest.approx(0.3)


def test_a_guide_takes_its_family_and_the_widths_of_its_encoder():
    model = make_model("vae", obs_dim=5)
    guide = make_guide("amortized:mixture:32x16:num_components=3", model)
    assert guide.family.num_components == 3
    widths = [layer.out_features for layer in guide.encoder if hasattr(layer, "weight")]
    assert widths[:2] == [32, 16]


def test_a_family_alone_is_an_amortized_guide():
    guide = make_guide("flow:affine", make_model("vae", obs_dim=5))
    assert guide.family.name == "flow"
    assert len(guide.encoder) == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("amortised:full", "Did you mean 'amortized'"),
        ("amortized:ful", "Did you mean 'full'"),
        ("amortized:full:num_layer=3", "num_layer"),
        ("exact-cpa:full", "takes no such word"),
        ("exact-cpa:32x32", "has no encoder"),
        ("amortized::full", "parts are words"),
    ],
)
def test_a_wrong_guide_is_one_clear_sentence(text, part):
    with pytest.raises(UnknownNameError, match=part):
        make_guide(text, make_model("cpa-generator:2:8", obs_dim=5))


@pytest.mark.parametrize(
    ("text", "part"),
    [("cpa", "Known:"), ("vae:2:8:likelyhood=x", "likelyhood"), ("vae:relu", "a model takes")],
)
def test_a_wrong_model_is_one_clear_sentence(text, part):
    with pytest.raises(UnknownNameError, match=part):
        make_model(text, obs_dim=5)


def test_a_guide_that_cannot_serve_names_those_that_can():
    with pytest.raises(IncompatiblePairError, match=r"Exact needs .* ExactCPA"):
        make_guide("exact", make_model("cpa-generator:2:8", obs_dim=5))


def test_the_guides_for_a_model_follow_its_capabilities():
    assert guides_for(make_model("vae:2:8:likelihood=bernoulli", obs_dim=3)) == [
        "amortized",
        "per-datum",
        "semi-amortized",
        "iterative",
        "sign-guide",
        "langevin",
    ]
    assert "exact-cpa" in guides_for(make_model("cpa-generator:5:8", obs_dim=5))
    assert "exact-cpa" not in guides_for(make_model("cpa-generator:6:8", obs_dim=5))
    assert default_guides(make_model("linear-gaussian:3", obs_dim=5))[-1] == "exact"


def test_a_value_may_be_a_list_of_numbers():
    model = make_model("hierarchical-vae:8x8:latent_dims=16x4", obs_dim=5)
    assert model.layer_dims == {"z_2": 4, "z_1": 16}
    guide = make_guide("layerwise:rate_weights=0.3x3:32", model)
    assert guide.rate_weights == {"z_2": 3, "z_1": 0.3}
    assert parse("vae:likelihood=mixture").options == {"likelihood": "mixture"}


def test_noise_learns_except_in_hierarchies():
    assert make_model("vae:2", obs_dim=5).noise.learns
    assert not make_model("hierarchical-vae:latent_dims=3x2", obs_dim=5).noise.learns
    assert make_model("hierarchical-vae:2:learn_noise=true", obs_dim=5).noise.learns


def test_studies_record_hierarchies_and_their_guides():
    model = resolved_model("hierarchical-vae:8x8:latent_dims=16x4", 64)
    assert (model["latent_dims"], model["hidden"], model["learn_noise"]) == (
        [16, 4],
        [8, 8],
        False,
    )
    guide = resolved_guide("layerwise:optimal:rate_weights=0.3x3")
    assert (guide["family"], guide["rate_weights"], guide["standardise"]) == (
        "optimal",
        [0.3, 3],
        True,
    )


def test_one_number_is_a_hierarchy_of_one_layer():
    assert make_model("hierarchical-vae:3:8", obs_dim=5).layer_dims == {"z_1": 3}


def test_a_hierarchy_is_compared_with_the_guides_for_layers():
    model = make_model("hierarchical-linear-gaussian:latent_dims=3x2", obs_dim=5)
    assert default_guides(model) == ("layerwise", "ladder", "bottom-up")
    assert guides_for(model) == ["layerwise", "ladder", "bottom-up"]


@pytest.mark.parametrize(
    ("text", "layer_dims"),
    [
        ("sigmoid-belief-network:10x7x5", {"z_3": 5, "z_2": 7, "z_1": 10}),
        ("sigmoid-belief-network:8", {"z_1": 8}),
        ("sigmoid-belief-network:layers=4x3:num_deterministic=1", {"z_2": 3, "z_1": 4}),
    ],
)
def test_widths_of_a_belief_network_are_its_latent_layers(text, layer_dims):
    model = make_model(text, obs_dim=6)
    assert (model.layer_dims, model.obs_dim) == (layer_dims, 6)
    recorded = resolved_model(text, 6)
    assert recorded["layers"] == list(reversed(layer_dims.values()))
    assert model_of(recorded, 6).layer_dims == layer_dims


def model_of(recorded, obs_dim):
    arguments = {key: value for key, value in recorded.items() if key != "name"}
    return build_model(recorded["name"], arguments, obs_dim)


@pytest.mark.parametrize(
    ("part", "sentence"),
    [(":8:4x3", "one list of widths"), (":affine", "one list"), (":hidden=8", "'hidden'")],
)
def test_a_belief_network_has_no_hidden_layers(part, sentence):
    with pytest.raises(UnknownNameError, match=sentence):
        make_model(f"sigmoid-belief-network{part}", obs_dim=5)


def test_a_belief_network_is_compared_with_the_guides_for_binary_layers():
    model = make_model("sigmoid-belief-network:4x3", obs_dim=5)
    names = default_guides(model)
    assert (names[0], default_trainer(model)) == ("helmholtz-coupled", "helmholtz-coupled")
    assert [make_guide(name, model)(x=torch.ones(6, 5))["z_1"].shape for name in names] == [
        (6, 4)
    ] * 4
    assert guides_for(model) == [
        "amortized",
        "per-datum",
        "layerwise",
        "bottom-up",
        "helmholtz-coupled",
    ]


def test_networks_of_all_guides_for_layers_have_the_same_width():
    model = make_model("hierarchical-vae:latent_dims=3x2", obs_dim=5)
    for name in default_guides(model):
        assert any(layer.out_features == 128 for layer in linear_layers(make_guide(name, model)))


def linear_layers(module):
    return [part for part in module.modules() if hasattr(part, "out_features")]


def test_numbers_before_widths():
    parts = parse("cpa-generator:2:32", numbers=1)
    assert (parts.numbers, parts.widths) == ((2,), (32,))
