"""Pairs as people bring them: functions, bound methods, Pyro's autoguides and messengers."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import autoguide
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from torch import nn
from torch.distributions import constraints
from torch.testing import assert_close

from pyrolvm.core import SiteError, log_densities, predictive, vectorising

PER_DATUM = ["AutoNormal"]
WHOLE = [
    "AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal",
    "AutoIAFNormal",
]  # fmt: skip
MESSENGERS = ["AutoNormalMessenger", "AutoHierarchicalNormalMessenger"]


def factor_model(x):
    """Two latents a datum, the linear map a constant of the module."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", Normal(z @ LOADING, 0.5).to_event(1), obs=x)


LOADING = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x():
    return torch.randn(4, 3)


def joint_by_hand(z, x):
    prior = torch.distributions.Normal(torch.zeros(()).double(), 1.0).log_prob(z).sum(-1)
    mean = z @ LOADING.double()
    return prior + torch.distributions.Normal(mean, 0.5).log_prob(x.double()).sum(-1)


@pytest.mark.parametrize("kind", PER_DATUM + MESSENGERS)
def test_guides_inside_the_plate_are_per_datum(kind, x):
    guide = getattr(autoguide, kind)(factor_model)
    guide(x)
    found = log_densities(factor_model, guide, x, num_particles=6, keep_values=True)
    assert not found.global_sites
    assert found.values["z"].shape == (6, 4, 2)
    assert_close(found.log_joint, joint_by_hand(found.values["z"], x))


@pytest.mark.parametrize("kind", WHOLE)
def test_guides_over_all_latents_make_one_datum(kind, x):
    guide = getattr(autoguide, kind)(factor_model)
    guide(x)
    found = log_densities(factor_model, guide, x, num_particles=6, keep_values=True)
    assert found.global_sites == (f"_{kind}_latent",)
    assert_close(found.log_joint[:, 0], joint_by_hand(found.values["z"], x).sum(1))


@pytest.mark.parametrize("kind", WHOLE + PER_DATUM + MESSENGERS)
def test_autoguides_run_vectorised_without_a_warning(kind, x, monkeypatch):
    monkeypatch.setattr(vectorising, "warn_sequential", lambda: pytest.fail("one after another"))
    guide = getattr(autoguide, kind)(factor_model)
    log_densities(factor_model, guide, x, num_particles=3)


def test_the_guide_density_of_a_multivariate_normal_is_that_of_its_vector(x):
    guide = autoguide.AutoMultivariateNormal(factor_model)
    guide(x)
    found = log_densities(factor_model, guide, x, num_particles=5, keep_values=True)
    flat = found.values["z"].reshape(5, 8)
    tril = (guide.scale[:, None] * guide.scale_tril).detach().double()
    own = torch.distributions.MultivariateNormal(guide.loc.detach().double(), scale_tril=tril)
    assert_close(found.log_guide[:, 0], own.log_prob(flat), rtol=1e-6, atol=1e-6)


def test_a_positive_latent_carries_its_jacobian():
    x = torch.rand(4) + 0.5

    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", pyro.distributions.Gamma(2.0, 1.0))
            pyro.sample("x", Normal(z, 0.5), obs=x)

    guide = AutoNormal(model)
    guide(x)
    found = log_densities(model, guide, x, num_particles=5, keep_values=True)
    z = found.values["z"]
    loc, scale = guide.locs.z.detach().double(), guide.scales.z.detach().double()
    by_hand = torch.distributions.LogNormal(loc, scale).log_prob(z)
    assert_close(found.log_guide, by_hand, rtol=1e-6, atol=1e-6)


def test_a_list_of_autoguides_covers_all_sites():
    x = torch.randn(5)

    def model(x):
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", Normal(0.0, 1.0))
            b = pyro.sample("b", Normal(a, 1.0))
            pyro.sample("x", Normal(b, 1.0), obs=x)

    guide = AutoGuideList(model)
    guide.append(AutoNormal(poutine.block(model, expose=["a"])))
    guide.append(AutoNormal(poutine.block(model, expose=["b"])))
    guide(x)
    found = log_densities(model, guide, x, num_particles=3)
    assert set(found.prior) == {"a", "b"}
    assert set(found.guide) >= {"a", "b"}
    assert found.log_weights.shape == (3, 5)


def test_autoguides_that_are_points_are_refused(x):
    point = autoguide.AutoDelta(factor_model)
    laplace = autoguide.AutoLaplaceApproximation(factor_model)
    listed = AutoGuideList(factor_model)
    listed.append(autoguide.AutoDelta(factor_model))
    for guide in (point, laplace, listed):
        guide(x)
        with pytest.raises(SiteError, match="'z' of the guide is a point mass"):
            log_densities(factor_model, guide, x)
    found = log_densities(factor_model, laplace.laplace_approximation(x), x, num_particles=3)
    assert found.log_weights.shape == (3, 1)


def test_a_point_beside_an_auxiliary_site_is_refused(x):
    def guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("u", Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", pyro.distributions.Delta(torch.zeros(len(x), 2)).to_event(1))

    with pytest.raises(SiteError, match="point mass"):
        log_densities(factor_model, guide, x)


@pytest.mark.parametrize("kind", MESSENGERS)
def test_messengers_do_not_count_the_observed_site_twice(kind, x):
    guide = getattr(autoguide, kind)(factor_model)
    guide(x)
    found = log_densities(factor_model, guide, x, num_particles=3)
    assert set(found.guide) == {"z"}
    assert set(found.likelihood) == {"x"}


@pytest.mark.parametrize("kind", MESSENGERS)
def test_messengers_predict(kind, x):
    guide = getattr(autoguide, kind)(factor_model)
    guide(x)
    assert predictive(factor_model, guide, x, 6).observations["x"].shape == (6, 4, 3)


def test_functions_with_parameters_in_the_store(x):
    def guide(x):
        loc = pyro.param("loc", torch.tensor([0.25, -0.5]))
        scale = pyro.param("scale", torch.tensor(0.7), constraint=constraints.positive)
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(loc, scale).to_event(1))

    guide(x)
    found = log_densities(factor_model, guide, x, num_particles=3, keep_values=True)
    scale = pyro.param("scale").detach().double()
    q = torch.distributions.Normal(pyro.param("loc").detach().double(), scale)
    assert_close(found.log_guide, q.log_prob(found.values["z"]).sum(-1), rtol=1e-7, atol=1e-7)


class TutorialVAE(nn.Module):
    """The form of Pyro's VAE tutorial: model and guide are methods that register modules."""

    def __init__(self):
        super().__init__()
        self.decoder, self.encoder = nn.Linear(2, 3), nn.Linear(3, 4)

    def model(self, x):
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", Normal(x.new_zeros(x.shape[0], 2), 1.0).to_event(1))
            pyro.sample("x", Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    def guide(self, x):
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", Normal(loc, log_scale.exp()).to_event(1))


def joint_of(vae, z, x):
    mean = z @ vae.decoder.weight.double().T + vae.decoder.bias.double()
    prior = torch.distributions.Normal(torch.zeros(()).double(), 1.0).log_prob(z).sum(-1)
    return (prior + torch.distributions.Normal(mean, 0.5).log_prob(x.double()).sum(-1)).detach()


def test_bound_methods_of_a_module(x):
    vae = TutorialVAE()
    found = log_densities(vae.model, vae.guide, x, num_particles=4, keep_values=True)
    assert_close(found.log_joint, joint_of(vae, found.values["z"], x))


def test_an_earlier_module_of_the_same_class_does_not_leak_in(x):
    old, new = TutorialVAE(), TutorialVAE()
    old.model(x)
    old.guide(x)
    found = log_densities(new.model, new.guide, x, num_particles=4, keep_values=True)
    assert_close(found.log_joint, joint_of(new, found.values["z"], x))


def test_an_earlier_autoguide_does_not_leak_in(x):
    old = AutoNormal(factor_model, init_scale=3.0)
    old(x)
    new = AutoNormal(factor_model, init_scale=0.01)
    found = log_densities(factor_model, new, x, num_particles=50, keep_values=True)
    assert found.values["z"].std(0).max() < 0.1


def test_networks_of_a_plain_object(x):
    class Plain:
        def __init__(self):
            self.networks = {"decoder": nn.Linear(2, 3)}

        def model(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", Normal(self.networks["decoder"](z), 0.5).to_event(1), obs=x)

        def guide(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))

    plain = Plain()
    found = log_densities(plain.model, plain.guide, x, num_particles=2)
    assert found.log_weights.dtype == torch.float64
    assert plain.networks["decoder"].weight.dtype == torch.float32


def test_programs_under_handlers(x):
    scaled = poutine.scale(poutine.block(factor_model, hide=[]), scale=2.0)
    guide = AutoNormal(factor_model)
    found = log_densities(scaled, guide, x, num_particles=3, keep_values=True)
    assert_close(found.log_joint, 2 * joint_by_hand(found.values["z"], x))


def test_conditioned_programs(x):
    def free(size):
        with pyro.plate("data", len(size)):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z @ LOADING, 0.5).to_event(1))

    model = poutine.condition(free, data={"x": x})

    def guide(size):
        with pyro.plate("data", len(size)):
            pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))

    found = log_densities(model, guide, torch.zeros(4), num_particles=3, keep_values=True)
    assert_close(found.log_joint, joint_by_hand(found.values["z"], x))
