"""The contract suites: a sound model passes, and each kind of broken one is caught."""

from __future__ import annotations

from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Normal
from torch import Tensor, nn

from pyrolvm.core import Guide, Model
from pyrolvm.testing import GuideContract, ModelContract


class Sound(Model):
    """A linear generator with standard normal latents, written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim, self.obs_dim = 2, 3
        self.decoder = nn.Linear(2, 3)

    def mean(self, z: Tensor) -> Tensor:
        return self.decoder(z)

    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        zeros = self.decoder.weight.new_zeros(2)
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            z = pyro.sample("z", Normal(zeros, 1.0).to_event(1))
            return pyro.sample("x", Normal(self.mean(z), 1.0).to_event(1), obs=x)


class Shared(Guide):
    """A normal with learned location and scale, the same for all data."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.net = nn.Linear(3, 4)

    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        loc, raw = self.net(self.observations(x, 3)).chunk(2, -1)
        with pyro.plate("data", len(loc), dim=-1):
            return pyro.sample("z", Normal(loc, raw.exp()).to_event(1))


class TestSound(ModelContract):
    def make(self) -> Model:
        return Sound()


class TestShared(GuideContract):
    def make_model(self) -> Model:
        return Sound()

    def make(self, model: Any) -> Guide:
        return Shared(model)


class MixesRows(Sound):
    """Lets the rows of a batch see one another."""

    def mean(self, z: Tensor) -> Tensor:
        return self.decoder(z) + z.mean(-2, keepdim=True).sum(-1, keepdim=True)


class IgnoresParticles(Sound):
    """Takes the first particle for all."""

    def mean(self, z: Tensor) -> Tensor:
        return self.decoder(z[0] if z.dim() > 2 else z)


class HasDeadWeight(Sound):
    """Holds a parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(1, 1)


class MisnamesItsSite(Sound):
    """Says that its latent site has another name."""

    latent_sites = ("w",)


class CentresTheBatch(Shared):
    """Normalises by batch statistics."""

    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        x = self.observations(x, 3)
        return super().forward(x - x.mean(0))


class AdoptsTheModel(Shared):
    """Registers the model as its own."""

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self.adopted = model


class ForgetsTheData(Shared):
    """Goes on without observations."""

    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        return super().forward(torch.zeros(1, 3) if x is None else x)


def run_model_fact(model: type[Model], fact: str) -> None:
    class Contract(ModelContract):
        def make(self) -> Model:
            return model()

    run(Contract(), fact)


def run_guide_fact(guide: type[Guide], fact: str) -> None:
    class Contract(GuideContract):
        def make_model(self) -> Model:
            return Sound()

        def make(self, model: Any) -> Guide:
            return guide(model)

    run(Contract(), fact)


def run(contract: Any, fact: str) -> None:
    contract.setup_method()
    try:
        getattr(contract, fact)()
    finally:
        contract.teardown_method()


@pytest.mark.parametrize(
    ("model", "fact"),
    [
        (MixesRows, "test_rows_are_independent"),
        (IgnoresParticles, "test_particles_score_like_single_runs"),
        (HasDeadWeight, "test_gradients_reach_every_parameter"),
        (MisnamesItsSite, "test_samples_the_latent_sites_it_names_in_ancestral_order"),
    ],
)
def test_a_broken_model_is_caught(model: type[Model], fact: str) -> None:
    run_model_fact(Sound, fact)
    with pytest.raises(AssertionError):
        run_model_fact(model, fact)


@pytest.mark.parametrize(
    ("guide", "fact"),
    [
        (CentresTheBatch, "test_rows_are_independent"),
        (AdoptsTheModel, "test_model_belongs_to_nobody_else"),
    ],
)
def test_a_broken_guide_is_caught(guide: type[Guide], fact: str) -> None:
    run_guide_fact(Shared, fact)
    with pytest.raises(AssertionError):
        run_guide_fact(guide, fact)


def test_a_guide_without_refusal_is_caught() -> None:
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        run_guide_fact(ForgetsTheData, "test_inference_without_data_is_refused")


def test_contracts_leave_random_numbers_and_store_alone() -> None:
    state, names = torch.get_rng_state(), set(pyro.get_param_store())
    run_guide_fact(Shared, "test_plain_pyro_trains_the_pair")
    assert torch.equal(torch.get_rng_state(), state)
    assert set(pyro.get_param_store()) == names
