"""Models, guides and families make no tensor on another device than theirs.

The device ``meta`` stands for a GPU: whatever meets a tensor of the CPU there is refused.
"""

from __future__ import annotations

import pyro
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyrolvm import guides, models
from pyrolvm.core import Data, prior_predictive
from pyrolvm.core.sites import log_density
from pyrolvm.core.tracing import run_vectorised
from pyrolvm.families import FAMILIES, make_family
from pyrolvm.inference.pictures import grid_values, picture_grid

TRANSFERS = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
MODELS = {
    "linear-gaussian": lambda: models.LinearGaussian(2, 4),
    "cpa-generator": lambda: models.CPAGenerator(2, 4, (5,)),
    "vae": lambda: models.VAE(2, 4, (5,)),
    "residual-generator": lambda: models.ResidualGenerator(4),
    "leaky-generator": lambda: models.LeakyGenerator(4),
    "conv-generator": lambda: models.ConvGenerator(2, 4),
    "manifold-generator": lambda: models.ManifoldGenerator(2, 4),
    "sign-permutation": lambda: models.SignPermutation(4),
}


REAL_FAMILIES = [name for name, family in FAMILIES.items() if not family.is_binary]


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices, as CUDA does; numbers may lie anywhere."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        devices = {t.device.type for t in tensors if t.dim() > 0}
        assert len(devices) < 2 or func in TRANSFERS, f"{func} on {devices}"
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def one_device():
    with pyro.validation_enabled(False), OneDevice():
        yield


def meta(*shape):
    return torch.zeros(shape, device="meta")


@pytest.mark.parametrize(
    "make", [models.Folding, models.InjectiveSlope, lambda: models.SignPermutation(1)]
)
def test_exact_posteriors_stay_on_the_device(make):
    model = make().to("meta")
    z = model(size=6)
    assert z.device.type == "meta"
    posterior = model.posterior(meta(6, 1)).expand((3, 6))
    assert posterior.log_prob(posterior.sample()).device.type == "meta"
    assert model.log_evidence(meta(6, 1)).device.type == "meta"


@pytest.mark.parametrize("family", REAL_FAMILIES)
@pytest.mark.parametrize("name", MODELS)
def test_a_step_stays_on_the_device(name, family):
    model = MODELS[name]().to("meta")
    guide = guides.Amortized(model, family).to("meta")
    pair = run_vectorised(model, guide, Data.of(meta(6, 4)), 3, -2)
    densities = [log_density(site, -2, per_datum=True) for _, site in pair.all_sites()]
    torch.stack(densities).sum().backward()
    assert {density.device.type for density in densities} == {"meta"}
    assert {parameter.grad.device.type for parameter in guide.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", [guides.Layerwise, guides.Ladder, guides.BottomUp])
@pytest.mark.parametrize("top", ["gaussian", "categorical"])
def test_a_step_of_a_hierarchy_stays_on_the_device(kind, top):
    model = models.HierarchicalVAE((3, 2), 4, (5,), top=top, skip=True).to("meta")
    guide = kind(model, hidden=(5,)).to("meta")
    pair = run_vectorised(model, guide, Data.of(meta(6, 4)), 3, -2)
    densities = [log_density(site, -2, per_datum=True) for _, site in pair.all_sites()]
    torch.stack(densities).sum().backward()
    assert {density.device.type for density in densities} == {"meta"}
    assert {parameter.grad.device.type for parameter in guide.parameters()} == {"meta"}


class UncheckedBeliefNetwork(models.SigmoidBeliefNetwork):
    """Takes data without looking at their values, which tensors on ``meta`` do not have."""

    def batch_size(self, x, size):
        return x.shape[-2]


BINARY_GUIDES = {
    "helmholtz-coupled": lambda model: guides.HelmholtzCoupled(model, num_deterministic=1),
    "layerwise": lambda model: guides.Layerwise(model, hidden=(5,)),
    "bottom-up": lambda model: guides.BottomUp(model, hidden=(5,)),
    "amortized": lambda model: guides.Amortized(model, "bernoulli", hidden=(5,)),
}


@pytest.mark.parametrize("name", BINARY_GUIDES)
def test_a_step_of_a_belief_network_stays_on_the_device(name):
    model = UncheckedBeliefNetwork((3, 2), 4, num_deterministic=1).to("meta")
    guide = BINARY_GUIDES[name](model).to("meta")
    pair = run_vectorised(model, guide, Data.of(meta(6, 4)), 3, -2)
    densities = [log_density(site, -2, per_datum=True) for _, site in pair.all_sites()]
    torch.stack(densities).sum().backward()
    assert {density.device.type for density in densities} == {"meta"}
    for program in (model, guide):
        assert {parameter.grad.device.type for parameter in program.parameters()} == {"meta"}


def test_the_best_guide_of_a_linear_hierarchy_stays_on_the_device():
    model = models.HierarchicalLinearGaussian((3, 2), 4).to("meta")
    posterior, terms = model.joint_posterior(meta(6, 4)), model.optimal_layers(meta(6, 4), {})
    assert {posterior.sample().device.type, terms.loss.device.type} == {"meta"}
    guide = guides.Layerwise.optimal(model)
    assert guide(meta(6, 4))["z_1"].device.type == "meta"
    assert model.log_evidence(meta(6, 4)).device.type == "meta"


@pytest.mark.parametrize("name", MODELS)
def test_the_prior_stays_on_the_device(name):
    draws = prior_predictive(MODELS[name]().to("meta"), 5)
    assert draws.observations["x"].device.type == "meta"


def test_the_closed_form_stays_on_the_device():
    model = models.LinearGaussian(2, 4).to("meta")
    assert model.posterior(meta(6, 4)).mean.device.type == "meta"
    assert model.log_evidence(meta(6, 4)).device.type == "meta"


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_near_a_gaussian_stay_on_the_device(family):
    found = make_family(family, 2).from_gaussian(meta(6, 2), meta(6, 2, 2))
    assert found.device.type == "meta"


def test_grids_of_pictures_stay_on_the_device():
    assert grid_values(picture_grid(meta(50, 3, 2))).device.type == "meta"
