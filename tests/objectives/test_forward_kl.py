"""The forward KL on simulated pairs: its value, its gradient, its refusals."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Bernoulli, Delta, Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]

import pyrolvm as lvm
from pyrolvm.core import FactorisationError, IncompatiblePairError, SiteError
from pyrolvm.guides import Amortized, Exact, PerDatum, SignGuide
from pyrolvm.models import VAE, LinearGaussian, SignPermutation
from pyrolvm.objectives.forward_kl import forward_kl
from pyrolvm.registry import make_guide, make_model

SIZE = 20_000


def mean_loss(model, guide, size=SIZE, repeats=10):
    """Loss per row and its standard error."""
    with torch.no_grad():
        found = torch.stack(
            [forward_kl(model, guide, torch.zeros(size, model.obs_dim)) for _ in range(repeats)]
        )
    return found.mean() / size, found.std() / size / math.sqrt(repeats)


def test_of_the_posterior_itself_it_is_the_entropy():
    model = LinearGaussian(latent_dim=2, obs_dim=4)
    value, error = mean_loss(model, Exact(model))
    entropy = model.posterior(torch.zeros(1, 4)).entropy()[0]
    assert abs(value - entropy) < 5 * error


def test_of_an_affine_guide_it_is_the_closed_form():
    """q = N(B x + c, S): the residual z − B x − c is Gaussian under p(z, x)."""
    model = LinearGaussian(latent_dim=2, obs_dim=3, noise_scale=0.5)
    guide = Amortized(model, family="full", hidden=())
    guide.encoder[0].weight.data[2:] = 0
    guide.encoder[0].weight.data.mul_(5)
    loading, centre = (p.detach() for p in model.decoder[0].parameters())
    slope, offset = guide.encoder[0].weight.detach()[:2], guide.encoder[0].bias.detach()[:2]
    shape, away = torch.eye(2) - slope @ loading, slope @ centre + offset
    moment = shape @ shape.mT + 0.25 * slope @ slope.mT + torch.outer(away, away)
    covariance = guide.distribution(torch.zeros(1, 3)).covariance_matrix[0].detach()
    spread = torch.linalg.solve(covariance, moment).trace()
    truth = 0.5 * (spread + covariance.logdet() + 2 * math.log(2 * math.pi))
    value, error = mean_loss(model, guide)
    assert abs(value - truth) < 5 * error


def test_the_model_gets_no_gradient():
    model = VAE(latent_dim=2, obs_dim=4, hidden=(5,))
    guide = Amortized(model, hidden=(5,))
    forward_kl(model, guide, torch.zeros(8, 4)).backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for p in guide.parameters())


def test_the_data_do_not_matter_but_for_their_number():
    model = VAE(latent_dim=2, obs_dim=4, hidden=(5,))
    guide = Amortized(model, hidden=(5,))
    losses = []
    for x in (torch.zeros(8, 4), torch.randn(8, 4)):
        torch.manual_seed(1)
        losses.append(forward_kl(model, guide, x))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_fit_and_svi_take_it_as_a_loss(likelihood):
    model = VAE(latent_dim=2, obs_dim=4, hidden=(5,), likelihood=likelihood)
    x, guide = model(size=64).detach(), Amortized(model, family="full", hidden=(16,))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    fitted = lvm.fit(
        model, guide, x, steps=200, loss=forward_kl, train="guide", progress=False,
        learning_rate=1e-2,
    )  # fmt: skip
    assert fitted.losses[-50:].mean() < fitted.losses[:10].mean()
    svi = SVI(model, guide, Adam({"lr": 1e-3}), loss=forward_kl)
    assert all(math.isfinite(svi.step(x)) for _ in range(3))
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_it_teaches_the_signs():
    model = SignPermutation(latent_dim=3, permutation="gray-code")
    guide, x = SignGuide(model, hidden=(32,)), model(size=256)
    lvm.fit(model, guide, x, steps=300, learning_rate=2e-2, loss=forward_kl, train="guide",
            progress=False)  # fmt: skip
    sure = torch.sigmoid(guide.parameters_for(x) * model.signs_of(x)).prod(-1)
    assert (sure > 0.9).float().mean() > 0.95


def test_the_pathwise_gradient_of_the_elbo_says_nothing_about_signs():
    guide = Amortized(SignPermutation(3), family="full", hidden=(8,))
    x, gradients = torch.randn(16, 3), []
    for permutation in ("gray-code", "random"):
        torch.manual_seed(1)
        model = SignPermutation(3, permutation=permutation)
        loss = Trace_ELBO().differentiable_loss(model, guide, x)
        gradients.append(torch.autograd.grad(loss, list(guide.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def switch(y, covariate):
    """A discrete latent, a covariate, and observations by keyword."""
    with pyro.plate("rows", len(y)):
        side = pyro.sample("side", Bernoulli(torch.full((len(y),), 0.3)))
        return pyro.sample("outcome", Normal(4 * side + covariate, 0.1), obs=y)


def switch_guide(y, covariate):
    slope = pyro.param("slope", torch.tensor(0.0))
    with pyro.plate("rows", len(y)):
        pyro.sample("side", Bernoulli(logits=slope * (y - covariate - 2)))


def test_plain_functions_with_discrete_latents_and_covariates_learn():
    data = {"y": torch.zeros(100), "covariate": 10 * torch.randn(100)}
    svi = SVI(switch, switch_guide, Adam({"lr": 0.1}), loss=forward_kl)
    for _ in range(100):
        svi.step(**data)
    assert svi.evaluate_loss(**data) < 0.1 * 100
    assert pyro.param("slope") > 1


def global_model(x):
    shared = pyro.sample("shared", Normal(0.0, 1.0))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(shared, 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=x)


def local_model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(torch.zeros(len(x)), 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=x)


def with_factor(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(torch.zeros(len(x)), 1.0))
        pyro.factor("x", -((z - x) ** 2))


def subsampled(x):
    with pyro.plate("data", len(x), subsample_size=2) as rows:
        z = pyro.sample("z", Normal(torch.zeros(2), 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=x[rows])


def point_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Delta(x))


def silent_guide(x):
    return x


def auxiliary_guide(x):
    with pyro.plate("data", len(x)):
        u = pyro.sample("u", Normal(x, 1.0), infer={"is_auxiliary": True})
        pyro.sample("z", Normal(u, 1.0))


def fair_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Normal(x, 1.0))


@pytest.mark.parametrize(
    ("model", "guide", "kind", "part"),
    [
        (global_model, fair_guide, FactorisationError, "'shared'"),
        (with_factor, fair_guide, SiteError, "factor"),
        (subsampled, fair_guide, SiteError, "one argument"),
        (local_model, point_guide, SiteError, "no density"),
        (local_model, silent_guide, SiteError, "no density"),
        (local_model, auxiliary_guide, SiteError, "'u'"),
    ],
)
def test_what_it_cannot_score_is_refused(model, guide, kind, part):
    with pytest.raises(kind, match=part):
        forward_kl(model, guide, torch.randn(5))


def test_guides_of_single_data_are_refused():
    model = LinearGaussian(latent_dim=2, obs_dim=4)
    with pytest.raises(IncompatiblePairError, match="own rows"):
        forward_kl(model, PerDatum(model), torch.zeros(3, 4))


def test_a_model_that_draws_no_latents_is_refused():
    model = make_model("triangular-map", 3)
    with pytest.raises(SiteError, match="this model draws none"):
        forward_kl(model, make_guide("exact-code", model), torch.randn(5, 3))
