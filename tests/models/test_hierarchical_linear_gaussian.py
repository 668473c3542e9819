"""HierarchicalLinearGaussian against dense algebra, quadrature and its own derivatives."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from torch import Tensor
from torch.testing import assert_close

from pyrolvm.core import DataError, HasOptimalLayers, HasPosterior, Layered, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.models import HierarchicalLinearGaussian, LinearGaussian
from pyrolvm.testing import ModelContract

WEIGHTS = ((1.0, 1.0), (0.3, 3.0), (3.0, 0.3), (2.0, 2.0))
"""Weights of z_1 and z_2."""


class TestTwoLayers(ModelContract):
    def make(self) -> HierarchicalLinearGaussian:
        return HierarchicalLinearGaussian(latent_dims=(3, 2), obs_dim=5, learn_noise=True)


class TestFourLayers(ModelContract):
    def make(self) -> HierarchicalLinearGaussian:
        return HierarchicalLinearGaussian((2, 3, 1, 2), obs_dim=4, scales=(0.5, 0.7, 0.9))


def two_layers() -> HierarchicalLinearGaussian:
    """Two layers, with loadings of standard normal entries."""
    torch.manual_seed(0)
    model = HierarchicalLinearGaussian((3, 2), 5, scales=0.7, noise_scale=0.5).double()
    model.scales.fill_(0.7)
    with torch.no_grad():
        model.noise.raw.fill_(math.log(0.5))
        for loading, shape in zip(model.loadings, ((5, 3), (3, 2)), strict=True):
            loading.copy_(torch.randn(*shape, dtype=torch.float64))
    return model


def chain(num_layers: int, **options: Any) -> HierarchicalLinearGaussian:
    """Several layers of different widths."""
    torch.manual_seed(num_layers)
    scales = [0.4 + 0.2 * layer for layer in range(num_layers - 1)]
    widths = (3, 2, 4, 2)[:num_layers]
    return HierarchicalLinearGaussian(widths, 4, scales, noise_scale=0.6, **options).double()


def named(weights: Any) -> dict[str, Any]:
    """Weights by name, from weights that stand bottom first."""
    return {f"z_{layer}": weight for layer, weight in enumerate(weights, 1)}


def spanning(model: HierarchicalLinearGaussian) -> Tensor:
    """Observations whose second moments are exactly those of the model.

    The mean over them of anything quadratic and even in x is its expectation.
    """
    return math.sqrt(model.obs_dim) * torch.linalg.cholesky(model.data_covariance).mT.detach()


def observations(model: HierarchicalLinearGaussian, size: int = 7) -> Tensor:
    with torch.no_grad():
        return model(size=size)


def scale(model: HierarchicalLinearGaussian) -> Tensor:
    return model.noise().detach().squeeze()


def log_joint(model: HierarchicalLinearGaussian, z: Tensor, x: Tensor) -> Tensor:
    """Log p(x, z) of one datum, layers side by side, top first, from the program's own parts."""
    parts = z.split(list(model.layer_dims.values()))
    latents = dict(zip(model.latent_sites, parts, strict=True))
    total = model.layer_likelihood(latents).log_prob(x)
    for site in model.latent_sites:
        total = total + model.layer_prior(site, latents).log_prob(latents[site])
    return total


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_the_posterior_is_the_curvature_of_the_joint(num_layers: int) -> None:
    model = chain(num_layers).eval().requires_grad_(False)
    x, size = observations(model, 3), sum(model.layer_dims.values())
    posterior = model.joint_posterior(x)
    zero = torch.zeros(size, dtype=torch.float64)
    for row, datum in enumerate(x):
        precision = -torch.autograd.functional.hessian(partial(log_joint, model, x=datum), zero)
        slope = torch.autograd.functional.jacobian(partial(log_joint, model, x=datum), zero)
        assert_close(posterior.loc[row], torch.linalg.solve(precision, slope))
        assert_close(posterior.covariance_matrix[row], torch.linalg.inv(precision))


def test_a_layers_posterior_is_its_part_of_the_joint_one() -> None:
    model = chain(3)
    x = observations(model)
    joint, start = model.joint_posterior(x), 0
    for site, dim in model.layer_dims.items():
        marginal, here = model.layer_posterior(site, x), slice(start, start + dim)
        assert_close(marginal.loc, joint.loc[:, here])
        assert_close(marginal.covariance_matrix, joint.covariance_matrix[:, here, here])
        start += dim


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_evidence_is_joint_over_posterior_anywhere(num_layers: int) -> None:
    model = chain(num_layers)
    x = observations(model)
    z = model.joint_posterior(x).sample()
    joint = torch.stack([log_joint(model, *pair) for pair in zip(z, x, strict=True)])
    assert_close(model.log_evidence(x), joint - model.joint_posterior(x).log_prob(z))


def test_draws_have_the_evidence_of_their_covariance() -> None:
    model = chain(3)
    evidence = model.log_evidence(observations(model, 20_000)).detach()
    entropy = MultivariateNormal(torch.zeros(4).double(), model.data_covariance).entropy()
    error = evidence.std() / math.sqrt(len(evidence))
    assert (evidence.mean() + entropy).abs() < 5 * error


@pytest.mark.parametrize("weights", WEIGHTS)
def test_two_layers_have_the_closed_form_of_the_notes(weights: tuple[float, float]) -> None:
    low, high = weights
    model = two_layers().eval().requires_grad_(False)
    x, (v, w), s, sigma = observations(model), model.loadings, 0.7, 0.5
    eye = torch.eye(5).double()
    across, inner = v @ w, s**2 * v @ v.mT + low * sigma**2 * eye
    n = x.shape[-1]
    log_c1 = -(n / 2) * math.log(2 * math.pi * sigma**2) / low
    log_c1 += (n / 2) * math.log(2 * math.pi * low * sigma**2)
    outer = (high / low) * inner
    log_c2 = (low / high) * (-(n / 2) * math.log(2 * math.pi) - 0.5 * torch.logdet(inner))
    log_c2 = log_c2 + (n / 2) * math.log(2 * math.pi) + 0.5 * torch.logdet(outer)
    evidence = MultivariateNormal(x.new_zeros(n), across @ across.mT + outer).log_prob(x)
    wanted = -low * log_c1 - high * (log_c2 + evidence)
    found = model.optimal_layers(x, named(weights))
    assert_close(found.loss, wanted, rtol=0, atol=1e-11)
    assert_close(model.optimal_loss(x, named(weights)), wanted, rtol=0, atol=1e-11)

    top = model.optimal_layer("z_2", {}, x, named(weights))
    pull = (low / high) * across.mT @ torch.linalg.inv(inner)
    precision = torch.eye(2).double() + pull @ across
    assert_close(top.precision_matrix[0], precision)
    assert_close(top.loc, x @ torch.linalg.solve(precision, pull).mT)
    z = top.sample()
    bottom = model.optimal_layer("z_1", {"z_2": z}, x, named(weights))
    precision = torch.eye(3).double() / s**2 + v.mT @ v / (low * sigma**2)
    assert_close(bottom.precision_matrix[0], precision)
    pulled = z @ w.mT / s**2 + x @ v / (low * sigma**2)
    assert_close(bottom.loc, torch.linalg.solve(precision, pulled.mT).mT)


@pytest.mark.parametrize("num_layers", [1, 2, 3, 4])
def test_with_weights_of_one_the_smallest_loss_is_the_negative_evidence(num_layers: int) -> None:
    model = chain(num_layers)
    x = observations(model)
    assert_close(model.optimal_loss(x, {}), -model.log_evidence(x), rtol=0, atol=1e-11)
    assert_close(model.optimal_layers(x, {}).loss, -model.log_evidence(x), rtol=0, atol=1e-11)


@pytest.mark.parametrize("weight", [0.2, 1.0, 5.0])
def test_one_layer_has_the_tempered_posterior(weight: float) -> None:
    """Dividing the log likelihood by the weight multiplies the noise variance by it."""
    model = chain(1).eval().requires_grad_(False)
    flat: Any = LinearGaussian(
        3, 4, noise_scale=0.6 * math.sqrt(weight), learn_noise=False
    ).double()
    with torch.no_grad():
        flat.decoder[0].weight.copy_(model.loadings[0])
        flat.decoder[0].bias.zero_()
    x = observations(model)
    tempered, found = flat.posterior(x), model.optimal_layer("z_1", {}, x, {"z_1": weight})
    assert_close(found.loc, tempered.loc, rtol=1e-5, atol=1e-6)  # scales are stored in single
    assert_close(found.covariance_matrix, tempered.covariance_matrix, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.3, 4.0])
@pytest.mark.parametrize("num_layers", [2, 3, 4])
def test_equal_weights_have_the_tempered_posterior(num_layers: int, weight: float) -> None:
    """Layer by layer it is the joint Gaussian p(z) p(x | z)^(1 / weight)."""
    model = chain(num_layers).eval().requires_grad_(False)
    x = observations(model)
    weights = dict.fromkeys(model.latent_sites, weight)
    latents: dict[str, Tensor] = {}
    found = torch.zeros(len(x)).double()
    for site in model.latent_sites:
        q = model.optimal_layer(site, latents, x, weights)
        latents[site] = q.sample()
        found = found + q.log_prob(latents[site])
    model.noise.raw.add_(0.5 * math.log(weight))
    joint = torch.cat([latents[site] for site in model.latent_sites], -1)
    assert_close(found, model.joint_posterior(x).log_prob(joint))


@pytest.mark.parametrize("weights", [(0.3, 3.0, 0.7), (2.0, 0.5, 1.0), (0.5, 1.5, 3.0, 0.8)])
def test_unequal_weights_have_the_recursion_by_quadrature(weights: tuple[float, ...]) -> None:
    r"""V_l = -β_l log ∫ p(z_l | z_{l+1}) exp(-V_{l-1} / β_l) dz_l, one dimension a layer."""
    torch.manual_seed(5)
    count = len(weights)
    model = HierarchicalLinearGaussian((1,) * count, 2, scales=0.8, noise_scale=0.7).double()
    model.eval().requires_grad_(False)
    x = observations(model, 1)
    axis = torch.linspace(-14, 14, 1201, dtype=torch.float64)[:, None]
    log_step = torch.log(axis[1, 0] - axis[0, 0])
    value = -model.layer_likelihood({"z_1": axis}).log_prob(x)
    names = model.latent_sites[::-1]
    for site, weight in zip(names, weights, strict=True):
        above = dict.fromkeys(model.latent_sites, axis[:, None])  # (z_{l+1}, z_l, 1)
        prior = model.layer_prior(site, above).log_prob(axis)
        integrand = prior - value / weight
        value = -weight * (integrand.logsumexp(-1) + log_step)
        if site != names[-1]:
            q = model.optimal_layer(site, above, x, named(weights))
            wanted = integrand - integrand.logsumexp(-1, keepdim=True) - log_step
            near = slice(300, 901)
            assert_close(q.log_prob(axis)[near, near], wanted[near, near], rtol=1e-8, atol=1e-8)
    assert_close(model.optimal_layers(x, named(weights)).loss, value.reshape(1))


@pytest.mark.parametrize("weights", [*WEIGHTS, (0.3, 2.0, 0.9), (0.5, 1.5, 3.0, 0.8)])
def test_terms_add_up_to_the_smallest_loss(weights: tuple[float, ...]) -> None:
    model = chain(len(weights))
    x = observations(model)
    found = model.optimal_layers(x, named(weights))
    weighted = sum(named(weights)[site] * found.rates[site] for site in model.latent_sites)
    assert tuple(found.rates) == model.latent_sites
    assert all((rate > 0).all() for rate in found.rates.values())
    assert_close(found.loss, found.distortion + weighted, rtol=0, atol=1e-12)
    assert_close(found.loss, model.optimal_loss(x, named(weights)), rtol=0, atol=1e-11)


@pytest.mark.parametrize("weights", [*WEIGHTS, (0.3, 2.0, 0.9), (0.5, 1.5, 3.0, 0.8)])
def test_the_loss_falls_with_a_weight_as_fast_as_its_rate(weights: tuple[float, ...]) -> None:
    model = (
        (two_layers() if len(weights) == 2 else chain(len(weights))).eval().requires_grad_(False)
    )
    x, step = observations(model), 3e-5
    rates = model.optimal_layers(x, named(weights)).rates
    for site in model.latent_sites:
        there, back = (
            model.optimal_loss(x, {**named(weights), site: named(weights)[site] + change})
            for change in (step, -step)
        )
        assert ((there - back) / (2 * step) - rates[site]).abs().max() < 1e-7


def rate_derivatives(model: HierarchicalLinearGaussian, weights: tuple[float, ...]) -> Tensor:
    """Derivative of each rate (rows, bottom first), averaged over data, in each weight."""
    x = spanning(model)

    def rates(values: Tensor) -> Tensor:
        found = model.optimal_layers(x, named(values.unbind())).rates
        return torch.stack([found[site].mean() for site in reversed(model.latent_sites)])

    point = torch.tensor(weights, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(rates, point)
    assert isinstance(jacobian, Tensor)
    return jacobian


@pytest.mark.parametrize("weights", [*WEIGHTS, (0.3, 2.0, 0.9), (0.5, 1.5, 3.0, 0.8)])
def test_rates_fall_with_their_own_weight_and_depend_on_others_alike(
    weights: tuple[float, ...],
) -> None:
    model = (
        (two_layers() if len(weights) == 2 else chain(len(weights))).eval().requires_grad_(False)
    )
    jacobian = rate_derivatives(model, weights)
    assert (jacobian.diagonal() < -1e-3).all()
    assert_close(jacobian, jacobian.mT, rtol=1e-9, atol=1e-11)


def test_a_heavier_upper_layer_moves_information_down() -> None:
    assert rate_derivatives(two_layers().eval().requires_grad_(False), (1.0, 1.0))[0, 1] > 0.1


def test_with_weights_of_one_rates_are_informations() -> None:
    """R_2 = I(z_2; x), R_1 = I(x; z_1 | z_2), and D + R_1 + R_2 = h(x)."""
    model = two_layers().eval().requires_grad_(False)
    (v, _), sigma = model.loadings, 0.5
    given_top = 0.7**2 * v @ v.mT + sigma**2 * torch.eye(5).double()
    found = model.optimal_layers(spanning(model), {})
    whole = torch.logdet(model.data_covariance)
    upper = 0.5 * (whole - torch.logdet(given_top))
    lower = 0.5 * (torch.logdet(given_top) - 5 * math.log(sigma**2))
    entropy = 0.5 * (whole + 5 * math.log(2 * math.pi * math.e))
    assert_close(found.rates["z_2"].mean(), upper)
    assert_close(found.rates["z_1"].mean(), lower)
    assert_close(found.loss.mean(), entropy)


def test_terms_are_averages_over_draws_of_the_best_guide() -> None:
    model = chain(3).eval().requires_grad_(False)
    weights = named((0.4, 2.5, 0.8))
    x = observations(model, 2)
    wanted = model.optimal_layers(x, weights)
    many = x.expand(20_000, 2, 4)
    latents: dict[str, Tensor] = {}
    drawn: dict[str, Tensor] = {}
    for site in model.latent_sites:
        q = model.optimal_layer(site, latents, many, weights)
        latents[site] = q.sample()
        prior = model.layer_prior(site, latents)
        drawn[site] = q.log_prob(latents[site]) - prior.log_prob(latents[site])
    drawn["x"] = -model.layer_likelihood(latents).log_prob(many)
    for site, exact in {**wanted.rates, "x": wanted.distortion}.items():
        error = drawn[site].std(0) / math.sqrt(20_000)
        assert ((drawn[site].mean(0) - exact).abs() < 5 * error).all()


def test_the_best_guide_keeps_the_type_of_the_model() -> None:
    model = HierarchicalLinearGaussian()
    x = model(size=3).detach()
    assert model.optimal_layer("z_2", {}, x, {"z_1": 0.5}).sample().dtype == torch.float32
    assert model.optimal_layers(x, {"z_1": 0.5}).loss.dtype == torch.float64


def test_gradients_of_the_loss_reach_every_parameter() -> None:
    model = chain(3, learn_noise=True)
    model.optimal_layers(observations(model), {"z_2": 0.5}).loss.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_offers_layers_and_their_best_guide_but_no_single_vector() -> None:
    model = HierarchicalLinearGaussian()
    assert offers(model, Layered)
    assert offers(model, HasOptimalLayers)
    assert not offers(model, HasPosterior)


def test_layers_are_the_linear_map_of_the_next() -> None:
    model = chain(4)
    for above, site in pairwise(model.latent_sites):
        z = torch.randn(5, model.layer_dims[above]).double()
        prior = model.layer_prior(site, {above: z})
        layer = int(site[2:])
        wanted = Normal(z @ model.loadings[layer].mT, model.scales[layer - 1]).to_event(1)
        value = torch.randn(5, model.layer_dims[site]).double()
        assert_close(prior.log_prob(value), wanted.log_prob(value))


@pytest.mark.parametrize("scales", [(0.5, 0.5), (0.0,), -1.0, ()])
def test_scales_that_do_not_fit_are_refused(scales: Any) -> None:
    with pytest.raises(SettingError, match="1 layers below the top need one positive scale"):
        HierarchicalLinearGaussian((3, 2), 5, scales=scales)


def test_wrong_requests_are_refused() -> None:
    model = HierarchicalLinearGaussian()
    x = torch.zeros(2, 5)
    with pytest.raises(SettingError, match="positive and finite rate_weights, but that of 'z_1'"):
        model.optimal_layers(x, {"z_1": 0.0})
    with pytest.raises(UnknownNameError, match="Unknown layer 'z_3'"):
        model.optimal_layers(x, {"z_3": 1.0})
    with pytest.raises(UnknownNameError, match="Unknown layer 'z'"):
        model.layer_prior("z", {})
    with pytest.raises(DataError, match=r"\(N, 5\), but got \(2, 4\)"):
        model.log_evidence(x[:, :4])
    with pytest.raises(SettingError, match="num_layers should be at least 1"):
        HierarchicalLinearGaussian(())
