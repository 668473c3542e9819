"""SigmoidBeliefNetwork: its densities by enumeration, how it starts, and what it refuses."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor, nn
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides
from pyrolvm.core import (
    BinaryLayers,
    DataError,
    IncompatiblePairError,
    Layered,
    UnknownNameError,
    VectorLatent,
)
from pyrolvm.core.data import Data
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.core.tracing import log_density_at
from pyrolvm.models import SigmoidBeliefNetwork
from pyrolvm.objectives import CoupledELBO
from pyrolvm.testing import ModelContract


class TestOneLayer(ModelContract):
    def make(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=3, obs_dim=4)


class TestThreeLayers(ModelContract):
    def make(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(4, 3, 2), obs_dim=5)


class TestDeterministicLayers(ModelContract):
    def make(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(4, 3), obs_dim=5, num_deterministic=2)


class TestManyLayers(ModelContract):
    def make(self) -> SigmoidBeliefNetwork:
        return SigmoidBeliefNetwork(layers=(3, 2, 2, 2, 2, 2, 2, 2, 1), obs_dim=4)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def random_network(*layers: int, obs_dim: int, num_deterministic: int = 0) -> SigmoidBeliefNetwork:
    """A network in double precision whose units depend on each other strongly."""
    model = SigmoidBeliefNetwork(layers, obs_dim, num_deterministic).double().eval()
    for parameter in model.requires_grad_(False).parameters():
        parameter.uniform_(-2, 2)
    return model


def states(width: int) -> Tensor:
    """All vectors of zeros and ones, shape ``(2^width, width)``."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=width)), dtype=torch.float64)


def all_states(model: SigmoidBeliefNetwork) -> dict[str, Tensor]:
    """Every joint state of x and all layers by name, rows alike."""
    widths = {**model.layer_dims, "x": model.obs_dim}
    parts = states(sum(widths.values())).split(list(widths.values()), -1)
    return dict(zip(widths, parts, strict=True))


def program_densities(model: SigmoidBeliefNetwork, every: dict[str, Tensor]) -> dict[str, Tensor]:
    """Log density of each site of the Pyro program, a row of states a datum."""
    latents = {site: every[site][None] for site in model.latent_sites}
    found = log_density_at(model, Data.of(every["x"]), latents, -2)
    return {site: density.squeeze(0) for site, density in found.items()}


def log_bernoulli(value: Tensor, logits: Tensor) -> Tensor:
    on = 1 / (1 + (-logits).exp())
    return (value * on.log() + (1 - value) * (1 - on).log()).sum(-1)


@pytest.mark.parametrize(
    ("layers", "num_deterministic"), [((4,), 0), ((4, 3), 0), ((3, 2, 2), 0), ((3, 2, 2), 1)]
)
def test_probabilities_of_all_states_sum_to_one(
    layers: tuple[int, ...], num_deterministic: int
) -> None:
    model = random_network(*layers, obs_dim=4, num_deterministic=num_deterministic)
    densities = program_densities(model, all_states(model))
    assert set(densities) == {*model.latent_sites, "x"}
    total = sum(densities.values(), torch.zeros(()).double()).exp().sum()
    assert_close(total.item(), 1.0, rtol=0, atol=1e-12)


def test_each_site_has_the_density_written_out_by_hand() -> None:
    model = random_network(4, 3, 2, obs_dim=3)
    every = all_states(model)
    found = program_densities(model, every)
    assert_close(found["z_3"], log_bernoulli(every["z_3"], model.top_logits))
    for site, above in (("z_2", "z_3"), ("z_1", "z_2"), ("x", "z_1")):
        layer: Any = model.layers[site]
        affine = layer.network[0]
        logits = every[above] @ affine.weight.T + affine.bias
        assert_close(found[site], log_bernoulli(every[site], logits))


def test_a_deterministic_layer_passes_tanh_of_the_layer_above() -> None:
    model = random_network(4, obs_dim=3, num_deterministic=1)
    layer: Any = model.layers["x"]
    first, _, last = layer.network
    z = states(4)
    between = (z @ first.weight.T + first.bias).tanh()
    assert between.shape == (16, 4)
    assert_close(model.layer_logits("x", z), between @ last.weight.T + last.bias)


def test_draws_have_the_enumerated_probabilities() -> None:
    model, size = random_network(3, 2, obs_dim=2), 40_000
    every = all_states(model)
    densities = program_densities(model, every)
    joint = sum(densities.values(), torch.zeros(()).double()).exp()
    places = torch.tensor([2.0, 1.0]).double()
    exact = torch.zeros(4).double().index_add(0, (every["x"] @ places).long(), joint)
    drawn = torch.bincount((model(size=size) @ places).long(), minlength=4) / size
    assert ((drawn - exact).abs() < 5 * (exact * (1 - exact) / size).sqrt()).all()


def test_layers_are_laws_of_the_log_odds() -> None:
    model = random_network(4, 3, obs_dim=5)
    z_2, z_1 = states(3), states(4)
    assert_close(model.layer_prior("z_2", {}).mean, model.layer_logits("z_2", None).sigmoid())
    below = model.layer_prior("z_1", {"z_2": z_2})
    assert (below.batch_shape, below.event_shape) == ((8,), (4,))
    assert_close(below.mean, model.layer_logits("z_1", z_2).sigmoid())
    assert_close(model.layer_likelihood({"z_1": z_1}).mean, model.generate({"z_1": z_1}))


@pytest.mark.parametrize("layers", [(100, 70, 50, 25), (8,)])
def test_a_new_network_starts_as_the_reference_code_does(layers: tuple[int, ...]) -> None:
    model = SigmoidBeliefNetwork(layers, obs_dim=123)
    top, *others = model.layers.values()
    assert isinstance(top.logits, nn.Parameter)
    assert top.logits.tolist() == [-1] * layers[-1]
    widths = [*reversed(layers), 123]
    for (above, below), layer in zip(itertools.pairwise(widths), others, strict=True):
        (affine,) = layer.network  # type: ignore[misc]
        assert affine.weight.shape == (below, above)
        bound = math.sqrt(6 / (above + below)) / above
        assert 0.9 * bound < affine.weight.abs().max() <= bound
        assert (affine.bias == -1).all()


@pytest.mark.parametrize("num_layers", [1, 2, 3, 9])
def test_layers_are_named_from_the_bottom_and_listed_from_the_top(num_layers: int) -> None:
    widths = tuple(range(3, 3 + num_layers))
    model = SigmoidBeliefNetwork(list(widths), obs_dim=7)
    assert model.latent_sites == tuple(f"z_{layer}" for layer in range(num_layers, 0, -1))
    assert model.layer_dims == {f"z_{i}": width for i, width in enumerate(widths, 1)}
    assert offers(model, Layered)
    assert offers(model, BinaryLayers)
    assert not offers(model, VectorLatent)


def test_training_raises_the_bound() -> None:
    x = torch.rand(400, 1).lt(0.5).float().expand(400, 8).contiguous()
    model = SigmoidBeliefNetwork((6, 3), obs_dim=8)
    fitted = lvm.fit(
        model, guides.HelmholtzCoupled(model), x, steps=300, learning_rate=3e-2,
        loss=CoupledELBO(num_particles=5), progress=False,
    )  # fmt: skip
    assert fitted.losses[:10].mean() > 4
    assert fitted.losses[-20:].mean() < 1.5  # the entropy of these data is log 2


def test_networks_of_a_class_do_not_share_parameters() -> None:
    one, other = (SigmoidBeliefNetwork((3, 2), obs_dim=4) for _ in range(2))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    x = one(size=20)
    other(x)
    svi = SVI(one, guides.HelmholtzCoupled(one), ClippedAdam({"lr": 0.01}), Trace_ELBO())
    old = [parameter.detach().clone() for parameter in one.parameters()]
    svi.step(x)
    assert all(not torch.equal(p, q) for p, q in zip(old, one.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_whole_numbers_and_truth_values_are_data() -> None:
    model = SigmoidBeliefNetwork((3, 2), obs_dim=4)
    for x in (torch.ones(5, 4, dtype=torch.long), torch.ones(5, 4, dtype=torch.bool)):
        assert_close(model(x), torch.ones(5, 4))


@pytest.mark.parametrize(
    ("x", "part"),
    [
        (torch.full((3, 4), 0.25), r"zeros and ones, but it got values in \[0.25, 0.25\]"),
        (torch.tensor([[0.0, 1.0, float("nan"), 0.0]]), "zeros and ones, but it got NaN"),
        (torch.full((3, 4), -1), r"values in \[-1, -1\]. Binarise them"),
        (torch.ones(3, 5), r"observations of shape \(N, 4\), but got \(3, 5\)"),
    ],
)
def test_data_of_another_kind_are_one_clear_sentence(x: Tensor, part: str) -> None:
    with pytest.raises(DataError, match=part):
        SigmoidBeliefNetwork((3, 2), obs_dim=4)(x)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"layers": ()}, "num_layers should be at least 1"),
        ({"layers": (3, 0)}, r"positive whole numbers, but they are \(3, 0\) and 4"),
        ({"layers": (3, 2.5)}, "positive whole numbers"),
        ({"layers": 3, "obs_dim": 0}, "positive whole numbers"),
        ({"layers": 3, "num_deterministic": -1}, "num_deterministic should be at least 0"),
    ],
)
def test_a_wrong_setting_is_one_clear_sentence(options: dict[str, Any], part: str) -> None:
    with pytest.raises(SettingError, match=part):
        SigmoidBeliefNetwork(**{"obs_dim": 4, **options})


def test_unknown_layers_and_guides_for_real_vectors_are_refused() -> None:
    model = SigmoidBeliefNetwork((3, 2), obs_dim=4)
    for ask in (lambda: model.layer_prior("z", {}), lambda: model.layer_logits("z_3", None)):
        with pytest.raises(UnknownNameError, match="Unknown layer"):
            ask()
    with pytest.raises(IncompatiblePairError, match="BottomUp, HelmholtzCoupled, Layerwise"):
        guides.Exact(model)
