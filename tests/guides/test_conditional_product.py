"""The guide evidence times prior: the product by quadrature, and exactness where it must be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from pyro.distributions import Laplace, Normal
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm.core import DataError, IncompatiblePairError, log_densities
from pyrolvm.guides import ConditionalProduct
from pyrolvm.models import IVAE, VAE, AnchoredIVAE, EnvironmentPrior
from pyrolvm.testing import GuideContract

U = torch.tensor([0, 2, 1, 1, 2, 0])
LOC = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
SCALE = torch.tensor([[1.0, 0.5], [0.6, 1.2], [0.8, 0.9]])


class TestConditionalProduct(GuideContract):
    def make_model(self):
        return AnchoredIVAE(EnvironmentPrior(LOC, SCALE), obs_dim=4, hidden=(6,))

    def make(self, model):
        return ConditionalProduct(model, hidden=(6,))

    def make_data(self, model):
        with torch.no_grad():
            return {"x": model(u=U), "u": U}


class TestConditionalProductOfALearnedPrior(TestConditionalProduct):
    def make_model(self):
        return IVAE(2, 4, 3, hidden=(6,), learn_means=True)


def pair():
    model = AnchoredIVAE(EnvironmentPrior(LOC, SCALE), obs_dim=4).double()
    guide = ConditionalProduct(model).double()
    with torch.no_grad():
        guide.encoder[-1].weight.mul_(20.0)
    return model, guide


def test_the_density_is_the_normalised_product():
    """Multiply both densities on a grid, divide by the sum: the guide's density at each point."""
    model, guide = pair()
    x = torch.randn(6, 4, dtype=torch.float64)
    axis = torch.linspace(-9.0, 9.0, 601, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)[:, None]
    product = guide.evidence(x).log_prob(z) + model.conditional_prior(U).log_prob(z)
    normaliser = product.logsumexp(0) + 2 * (axis[1] - axis[0]).log()
    found = guide.distribution(x, U).log_prob(z)
    near = found > -12.0
    assert near.any(0).all()
    assert_close(found[near], (product - normaliser)[near], rtol=0, atol=1e-6)


def test_it_is_the_posterior_of_a_linear_model_with_orthogonal_loadings():
    """With W'W diagonal, x says N((W'W)⁻¹ W'(x − b), σ² (W'W)⁻¹) of z: an affine encoder."""
    model = AnchoredIVAE(EnvironmentPrior(LOC, SCALE), 4, hidden=(), noise_scale=0.5).double()
    guide = ConditionalProduct(model, hidden=()).double()
    loading = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64)).Q * torch.tensor([2.0, 0.7])
    squares = loading.square().sum(0)
    variance = model.noise().double().square()
    with torch.no_grad():
        model.decoder[0].weight.copy_(loading)
        bias = model.decoder[0].bias
        guide.encoder[0].weight[:2] = loading.T / squares[:, None]
        guide.encoder[0].bias[:2] = -(loading.T @ bias) / squares
        guide.encoder[0].weight[2:] = 0.0
        guide.encoder[0].bias[2:] = (squares / variance).log()
    data = {"x": model(u=U).detach(), "u": U}
    weights = log_densities(model, guide, data, num_particles=20).log_weights
    covariance = torch.einsum("id,nd,jd->nij", loading, SCALE[U].double().square(), loading)
    marginal = torch.distributions.MultivariateNormal(
        LOC[U].double() @ loading.T + model.decoder[0].bias,
        covariance + variance * torch.eye(4, dtype=torch.float64),
    )
    assert_close(weights, marginal.log_prob(data["x"]).detach().expand(20, -1))


def test_it_follows_a_prior_that_learns():
    model = IVAE(2, 4, 3, prior_hidden=(), learn_means=True)
    guide = ConditionalProduct(model)
    x = torch.randn(6, 4)
    before = guide.distribution(x, U).mean
    with torch.no_grad():
        model.environment_prior.network[-1].bias[:2] += 5.0
    assert (guide.distribution(x, U).mean - before > 1.0).all()


def test_an_encoder_without_information_leaves_the_prior():
    model, guide = pair()
    with torch.no_grad():
        guide.encoder[-1].weight.zero_()
        guide.encoder[-1].bias[2:] = -60.0
    q, prior = guide.distribution(torch.randn(6, 4).double(), U), model.conditional_prior(U)
    assert_close(q.mean, prior.mean)
    assert_close(q.variance, prior.variance)


def test_compare_and_diagnose_take_the_labels():
    model = AnchoredIVAE(EnvironmentPrior(LOC, SCALE), 4, hidden=(6,), noise_scale=0.5)
    data = {"x": model(u=U.repeat(5)).detach(), "u": U.repeat(5)}
    guide = ConditionalProduct(model, hidden=(6,))
    quiet = {"num_particles": 20, "num_pictures": 1, "progress": False}
    table = lvm.compare(model, {"product": guide}, data, steps=3, oracle_steps=0, **quiet)
    assert table.tree.attrs["evidence_method"] == "quadrature"
    assert (table.frame["gap"] > -1e-6).all()
    assert table.to_datatree("product")["prior"].to_dataset()["z"].shape[-1] == 2
    assert lvm.score(model, guide, data, num_particles=20).frame.shape[0] == 1


@pytest.mark.parametrize(
    ("u", "message"),
    [
        (None, "ConditionalProduct needs the environment of each datum"),
        (U[:-1], r"ConditionalProduct needs 6 labels.*\(5,\)"),
        (U + 1, "ConditionalProduct knows the environments 0 to 2"),
        (U.float(), "ConditionalProduct needs environments u as whole numbers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(u, message):
    _, guide = pair()
    with pytest.raises(DataError, match=message):
        guide(torch.randn(6, 4), u)


def test_other_models_are_refused():
    with pytest.raises(IncompatiblePairError, match="capability ConditionalPrior, which VAE"):
        ConditionalProduct(VAE(2, 4))
    laplace = SimpleNamespace(
        latent_sites=("z",), latent_dim=2, obs_dim=4, num_environments=3,
        conditional_prior=lambda u: Laplace(LOC[u], SCALE[u]).to_event(1),
    )  # fmt: skip
    with pytest.raises(IncompatiblePairError, match="multiplies independent normals"):
        ConditionalProduct(laplace)
    laplace.conditional_prior = lambda u: Normal(LOC[u], SCALE[u]).to_event(1)
    assert ConditionalProduct(laplace)(torch.randn(6, 4), U).shape == (6, 2)
