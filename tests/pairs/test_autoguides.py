"""Each of Pyro's automatic guides under three models of the zoo."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Categorical, Normal
from pyro.infer import SVI, Trace_ELBO, autoguide
from pyro.infer.autoguide import AutoDelta, AutoGuideList, AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch.testing import assert_close

from pyrolvm import models
from pyrolvm.core import SiteError, log_densities
from pyrolvm.core.latent_space import latent_space

ZOO = {
    "linear-gaussian": lambda: models.LinearGaussian(2, 4, noise_scale=0.5),
    "cpa-generator": lambda: models.CPAGenerator(2, 4, hidden=(6,), noise_scale=0.3),
    "hierarchical-vae": lambda: models.HierarchicalVAE((3, 2), 4, hidden=(6,)),
}
PER_DATUM = (
    "AutoNormal", "AutoNormalMessenger", "AutoHierarchicalNormalMessenger",
    "AutoRegressiveMessenger",
)  # fmt: skip
WHOLE = (
    "AutoDiagonalNormal", "AutoMultivariateNormal", "AutoLowRankMultivariateNormal",
    "AutoStructured", "AutoIAFNormal", "AutoNormalizingFlow", "AutoLaplaceApproximation",
    "AutoGuideList",
)  # fmt: skip


def coupling(dim):
    return pyro.distributions.transforms.affine_coupling(dim, hidden_dims=[8])


@pytest.fixture(params=ZOO)
def model(request):
    return ZOO[request.param]().eval().requires_grad_(False)


def make(kind, model, x):
    if kind == "AutoNormalizingFlow":
        guide = autoguide.AutoNormalizingFlow(model, coupling)
    elif kind == "AutoGuideList":
        first, *others = model.latent_sites
        guide = AutoGuideList(model)
        guide.append(AutoNormal(poutine.block(model, expose=[first])))
        for site in others:
            guide.append(autoguide.AutoMultivariateNormal(poutine.block(model, expose=[site])))
    else:
        guide = getattr(autoguide, kind)(model)
    svi = SVI(model, guide, Adam({"lr": 0.03}), Trace_ELBO())
    for _ in range(100 if kind == "AutoLaplaceApproximation" else 2):
        svi.step(x)
    return guide.laplace_approximation(x) if kind == "AutoLaplaceApproximation" else guide


@pytest.mark.parametrize("kind", PER_DATUM + WHOLE)
def test_weights_are_joint_minus_guide(kind, model):
    x = model(size=3).detach()
    guide = make(kind, model, x)
    found = log_densities(model, guide, x, num_particles=5, keep_values=True)
    alone = kind in PER_DATUM or (kind == "AutoGuideList" and len(model.latent_sites) == 1)
    assert found.log_weights.shape == (5, 3 if alone else 1)
    assert found.log_weights.isfinite().all()
    assert len(found.log_weights.unique()) == found.log_weights.numel()
    with latent_space(model, x) as space:
        values = found.values if found.factorises else {
            site: value.reshape(5, 3, -1) for site, value in found.values.items()
        }  # fmt: skip
        joint = space.log_joint(space.to_points(values))
    assert_close(found.log_joint.sum(1), joint.sum(1))


def test_a_point_is_refused(model):
    x = model(size=3).detach()
    guide = AutoDelta(model)
    guide(x)
    with pytest.raises(SiteError, match=f"'{model.latent_sites[0]}' of the guide is a point mass"):
        log_densities(model, guide, x)


def test_discrete_sites_with_a_guide_of_their_own_are_sampled():
    x = torch.tensor([-1.0, 0.5, 3.0])

    def model(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", Categorical(torch.ones(3)), infer={"enumerate": "parallel"})
            pyro.sample("x", Normal(k.to(x.dtype), 1.0), obs=x)

    guide = autoguide.AutoDiscreteParallel(model)
    guide(x)
    found = log_densities(model, guide, x, num_particles=50, keep_values=True)
    k = found.values["k"]
    likelihood = torch.distributions.Normal(k.double(), 1.0).log_prob(x.double())
    assert set(k.unique().tolist()) == {0, 1, 2}
    assert_close(
        found.log_joint, likelihood - torch.tensor(3.0).double().log(), rtol=1e-6, atol=1e-6
    )
