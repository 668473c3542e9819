"""Facts that hold for every family of real vectors, and the numerics of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core import UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.families import (
    FAMILIES,
    Family,
    GaussianMixture,
    Mixture,
    PlanarFlow,
    Sign,
    make_family,
)
from pyrolvm.families.planar_flow import MARGIN, invert_level
from pyrolvm.families.triangular import colour, raw_of_scale_tril, scale_tril, whiten

NAMES = sorted(name for name, family in FAMILIES.items() if not family.is_binary)
EXACT = ["diagonal", "full", "mixture", "sign"]
PATHWISE = [name for name in NAMES if name != "sign"]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def some_parameters(family: Family, *batch: int, dtype: torch.dtype = torch.float64) -> Tensor:
    shift = torch.randn(*batch, family.num_parameters, dtype=dtype)
    return family.initial.to(dtype) + 0.7 * shift


def draw(q: Any, *shape: int) -> Tensor:
    """Draw with pathwise gradients where the family has them."""
    return q.rsample(shape) if q.has_rsample else q.sample(shape)


def cell_centres(reach: float, count: int) -> Tensor:
    """Points of the midpoint rule; the jump of the sign family at 0 falls between two of them."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) * (2 * reach / count) - reach


def some_gaussian(*batch: int, dim: int) -> tuple[Tensor, Tensor]:
    factor = torch.randn(*batch, dim, dim, dtype=torch.float64).tril(-1)
    factor = factor + torch.diag_embed(0.3 + torch.rand(*batch, dim, dtype=torch.float64))
    return torch.randn(*batch, dim, dtype=torch.float64), factor


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dim", [1, 3])
class TestEveryFamily:
    @pytest.mark.parametrize("batch", [(), (5,), (4, 5)])
    def test_shapes(self, name: str, dim: int, batch: tuple[int, ...]) -> None:
        family = make_family(name, dim)
        q = family.distribution(some_parameters(family, *batch))
        assert (q.batch_shape, q.event_shape) == (batch, (dim,))
        z = draw(q, 7)
        assert z.shape == (7, *batch, dim)
        assert q.log_prob(z).shape == (7, *batch)
        assert q.log_prob(torch.zeros(dim, dtype=torch.float64)).shape == batch

    def test_initial_is_about_standard_normal(self, name: str, dim: int) -> None:
        family = make_family(name, dim)
        assert family.initial.shape == (family.num_parameters,)
        z = torch.randn(1000, dim)
        truth = Normal(0.0, 1.0).expand([dim]).to_event(1).log_prob(z)
        gap = family.distribution(family.initial).log_prob(z) - truth
        assert gap.mean().abs() < 2e-3

    @pytest.mark.parametrize("source", ["draw", "anywhere"])
    def test_gradient_reaches_every_parameter(self, name: str, dim: int, source: str) -> None:
        family = make_family(name, dim)
        parameters = some_parameters(family, 6).requires_grad_()
        q = family.distribution(parameters)
        if source == "draw":
            z = draw(q, 50)
            loss = q.log_prob(z).mean() + (z.sum(-1) + z.pow(3).sum(-1)).mean()
        else:
            loss = q.log_prob(torch.randn(50, 6, dim, dtype=torch.float64)).mean()
        (gradient,) = torch.autograd.grad(loss, parameters)
        assert gradient.isfinite().all()
        assert (gradient.abs().sum(0) > 0).all()

    def test_arbitrary_points_score_like_own_draws(self, name: str, dim: int) -> None:
        family = make_family(name, dim)
        q = family.distribution(some_parameters(family, 4))
        z = draw(q, 100)
        torch.testing.assert_close(q.log_prob(z.clone()), q.log_prob(z), rtol=1e-9, atol=1e-9)

    def test_expand_keeps_the_density(self, name: str, dim: int) -> None:
        family = make_family(name, dim)
        q = family.distribution(some_parameters(family, 4))
        wide = q.expand((3, 4))
        z = draw(wide, 2)
        assert z.shape == (2, 3, 4, dim)
        torch.testing.assert_close(
            wide.log_prob(z), q.log_prob(z.reshape(6, 4, dim)).reshape(2, 3, 4)
        )
        one = family.distribution(some_parameters(family, 1)).expand((3, 4))
        assert one.log_prob(one.sample()).shape == (3, 4)
        assert one.expand((2, 3, 4)).sample().shape == (2, 3, 4, dim)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_keeps_the_precision(self, name: str, dim: int, dtype: torch.dtype) -> None:
        family = make_family(name, dim)
        q = family.distribution(some_parameters(family, 4, dtype=dtype))
        z = draw(q)
        assert z.dtype == q.log_prob(z).dtype == q.log_prob(z.clone()).dtype == dtype

    def test_starts_from_a_gaussian(self, name: str, dim: int) -> None:
        family = make_family(name, dim)
        loc, factor = some_gaussian(5, dim=dim)
        if name == "sign":
            pytest.skip("its nearest member is no Gaussian; see TestSign")
        if name == "diagonal":
            factor = torch.diag_embed(factor.diagonal(dim1=-2, dim2=-1))
        truth = MultivariateNormal(loc, scale_tril=factor)
        q = family.distribution(family.from_gaussian(loc, factor))
        z = truth.sample((4000,))
        gap = (truth.log_prob(z) - q.log_prob(z)).mean(0)
        assert (gap.abs() < (2e-3 if name == "mixture" else 1e-9)).all()

    @pytest.mark.parametrize(
        ("size", "dtype"), [(1e2, torch.float32), (1e2, torch.float64), (1e4, torch.float64)]
    )
    def test_large_parameters_never_give_nan(
        self, name: str, dim: int, size: float, dtype: torch.dtype
    ) -> None:
        family = make_family(name, dim)
        parameters = (size * torch.randn(50, family.num_parameters, dtype=dtype)).requires_grad_()
        q = family.distribution(parameters)
        z = draw(q, 3)
        log_density = q.log_prob(z)
        assert not z.isnan().any()
        assert not log_density.isnan().any()
        assert not q.log_prob(torch.randn_like(z)).isnan().any()
        (gradient,) = torch.autograd.grad(log_density.sum(), parameters)
        assert not gradient.isnan().any()

    def test_plain_pyro_samples_and_trains_it(self, name: str, dim: int) -> None:
        family = make_family(name, dim)
        data = torch.randn(5, dim)

        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                z = pyro.sample("z", Normal(torch.zeros(dim), 1.0).to_event(1))
                pyro.sample("x", Normal(z, 1.0).to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            parameters = pyro.param("parameters", lambda: family.initial.repeat(len(x), 1))
            with pyro.plate("data", len(x), dim=-1):
                pyro.sample("z", family.distribution(parameters))

        with pyro.get_param_store().scope(), pyro.validation_enabled():
            for vectorised in (False, True):
                elbo = Trace_ELBO(
                    num_particles=3, vectorize_particles=vectorised, max_plate_nesting=1
                )
                svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), elbo)
                assert all(math.isfinite(svi.step(data)) for _ in range(3))
            for parallel in (False, True):
                drawn = Predictive(model, guide=guide, num_samples=4, parallel=parallel)(data)
                assert drawn["z" if "z" in drawn else "x"].shape[0] == 4
            trace = poutine.trace(guide).get_trace(data)
            trace.compute_log_prob()
            assert trace.nodes["z"]["log_prob"].shape == (5,)


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one_over_a_line(name: str) -> None:
    family = make_family(name, 1)
    q = family.distribution(some_parameters(family, 3))
    grid = cell_centres(60, 60_000)
    mass = q.log_prob(grid.reshape(-1, 1, 1)).exp().sum(0) * (grid[1] - grid[0])
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_density_integrates_to_one_over_a_plane(name: str) -> None:
    family = make_family(name, 2)
    parameters = family.initial.double() + 0.3 * torch.randn(family.num_parameters).double()
    q = family.distribution(parameters)
    line = cell_centres(12, 480)
    plane = torch.cartesian_prod(line, line)
    mass = q.log_prob(plane).exp().sum() * (line[1] - line[0]) ** 2
    assert abs(mass.item() - 1) < 1e-5


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dim", [1, 3])
def test_moments_agree_with_draws(name: str, dim: int) -> None:
    family = make_family(name, dim)
    parameters = some_parameters(family, 3)
    z = family.distribution(parameters).sample((40_000,))
    error = z.mean(0) - family.mean(parameters)
    assert (error.abs() < 5 * z.std(0) / 200).all()
    centred = z - family.mean(parameters)
    products = centred.unsqueeze(-1) * centred.unsqueeze(-2)
    error = products.mean(0) - family.covariance(parameters)
    assert (error.abs() < 5 * products.std(0) / 200 + 1e-12).all()


def test_flow_says_that_it_has_no_moments() -> None:
    family = make_family("flow", 2)
    with pytest.raises(NotImplementedError, match="no closed form"):
        family.covariance(family.initial)
    with pytest.raises(NotImplementedError):
        family.mean(family.initial)


def expected_by_quadrature(
    family: Family, parameters: Tensor, f: Callable[[Tensor], Tensor]
) -> Tensor:
    line = torch.linspace(-14, 14, 561, dtype=torch.float64)
    points = line.unsqueeze(-1) if family.dim == 1 else torch.cartesian_prod(line, line)
    density = family.distribution(parameters).log_prob(points).exp()
    return (density * f(points)).sum() * (line[1] - line[0]) ** family.dim


@pytest.mark.parametrize("name", PATHWISE)
@pytest.mark.parametrize("dim", [1, 2])
def test_pathwise_gradient_is_unbiased(name: str, dim: int) -> None:
    family = make_family(name, dim)
    noise = torch.randn(family.num_parameters, dtype=torch.float64)
    parameters = (family.initial.double() + 0.3 * noise).requires_grad_()

    def f(z: Tensor) -> Tensor:
        return torch.sin(1.3 * z.sum(-1) + 0.4) + z.prod(-1) * z[..., 0]

    (truth,) = torch.autograd.grad(expected_by_quadrature(family, parameters, f), parameters)
    size = 2**15
    rows = parameters.detach().expand(size, -1).clone().requires_grad_()
    (each,) = torch.autograd.grad(f(family.distribution(rows).rsample()).sum(), rows)
    error = (each.mean(0) - truth).abs()
    assert (error < 5 * each.std(0) / math.sqrt(size) + 1e-5).all()


@pytest.mark.parametrize("name", ["mixture", "flow"])
def test_pathwise_gradient_is_the_same_under_expansion(name: str) -> None:
    family = make_family(name, 2)
    parameters = some_parameters(family, 3).requires_grad_()

    def gradient(expanded: bool) -> Tensor:
        torch.manual_seed(3)
        q = family.distribution(parameters)
        z = q.expand((4, 3)).rsample() if expanded else q.rsample((4,))
        return torch.autograd.grad(z.square().sum(), parameters)[0]

    torch.testing.assert_close(gradient(expanded=True), gradient(expanded=False))


class TestMixture:
    def test_conditional_distribution_functions_of_a_draw_do_not_move(self) -> None:
        """The defining property of the gradient: S(z(λ); λ) stays constant along dλ."""
        family = make_family("mixture", 2, num_components=3)
        parameters = some_parameters(family).requires_grad_()
        z = family.distribution(parameters).rsample()
        rows = [torch.autograd.grad(z[d], parameters, retain_graph=True)[0] for d in range(2)]
        step = 1e-5 * torch.randn_like(parameters)
        moved = z.detach() + torch.stack(rows).detach() @ step
        before = sequential_cdf(family, parameters.detach(), z.detach())
        after = sequential_cdf(family, parameters.detach() + step, moved)
        assert (after - before).abs().max() < 1e-8

    @pytest.mark.parametrize("far", [0.0, 8.0, 12.0])
    def test_gradient_of_draws_in_the_tail_is_that_of_the_nearest_component(
        self, far: float
    ) -> None:
        """In its far tail a mixture is its widest component, whose pathwise gradient is known."""
        logits = torch.tensor([0.3, -0.4], dtype=torch.float64)
        loc = torch.tensor([[0.5], [0.4]], dtype=torch.float64, requires_grad=True)
        scale = torch.tensor([[[1.0]], [[0.2]]], dtype=torch.float64)
        q = GaussianMixture(logits, loc, scale)
        value = torch.tensor([0.5 - far], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(q._attach(value).sum(), loc)
        assert gradient.isfinite().all()
        if far:
            torch.testing.assert_close(gradient, torch.tensor([[1.0], [0.0]], dtype=torch.float64))

    def test_single_component_is_the_full_family(self) -> None:
        mixture, full = make_family("mixture", 3, num_components=1), make_family("full", 3)
        loc, factor = some_gaussian(dim=3)
        z = torch.randn(20, 3, dtype=torch.float64)
        torch.testing.assert_close(
            mixture.distribution(mixture.from_gaussian(loc, factor)).log_prob(z),
            full.distribution(full.from_gaussian(loc, factor)).log_prob(z),
        )

    @pytest.mark.parametrize("num_components", [1, 2, 5, 32])
    @pytest.mark.parametrize("dim", [1, 3])
    def test_any_number_of_components_starts_from_a_gaussian(
        self, num_components: int, dim: int
    ) -> None:
        family = make_family("mixture", dim, num_components=num_components)
        loc, factor = some_gaussian(5, dim=dim)
        parameters = family.from_gaussian(loc, factor)
        assert parameters.shape == (5, family.num_parameters)
        torch.testing.assert_close(family.mean(parameters), loc)
        torch.testing.assert_close(family.covariance(parameters), factor @ factor.mT)
        assert family.distribution(parameters).rsample((2,)).isfinite().all()

    def test_starts_from_several_gaussians(self) -> None:
        family = Mixture(2, num_components=3)
        locs, factors = some_gaussian(5, 3, dim=2)
        log_weights = torch.randn(5, 3, dtype=torch.float64)
        q = family.distribution(family.from_gaussians(locs, factors, log_weights))
        z = torch.randn(7, 5, 2, dtype=torch.float64)
        each = MultivariateNormal(locs, scale_tril=factors).log_prob(z.unsqueeze(-2))
        truth = (log_weights.log_softmax(-1) + each).logsumexp(-1)
        torch.testing.assert_close(q.log_prob(z), truth)

    def test_another_number_of_gaussians_is_refused(self) -> None:
        locs, factors = some_gaussian(5, 2, dim=2)
        with pytest.raises(SettingError, match="Mixture"):
            Mixture(2, num_components=3).from_gaussians(locs, factors, torch.zeros(5, 2))

    def test_bad_factor_is_refused(self) -> None:
        with pytest.raises(ValueError, match="scale_tril"):
            GaussianMixture(
                torch.zeros(2), torch.zeros(2, 1), -torch.ones(2, 1, 1), validate_args=True
            )


def sequential_cdf(family: Family, parameters: Tensor, z: Tensor) -> Tensor:
    """S_1 and S_2 from the ordinary formulas of conditional Gaussians, component by component."""
    q: Any = family.distribution(parameters)
    weights = q.log_mixing.exp()
    covariance = q.scale_tril @ q.scale_tril.mT
    first = Normal(q.loc[:, 0], covariance[:, 0, 0].sqrt())
    slope = covariance[:, 1, 0] / covariance[:, 0, 0]
    mean = q.loc[:, 1] + slope * (z[0] - q.loc[:, 0])
    variance = covariance[:, 1, 1] - slope * covariance[:, 1, 0]
    given = weights * first.log_prob(z[0]).exp()
    second = Normal(mean, variance.sqrt()).cdf(z[1])
    return torch.stack([(weights * first.cdf(z[0])).sum(), (given * second).sum() / given.sum()])


class TestFlow:
    @pytest.mark.parametrize("rise", [MARGIN - 1, -0.5, 0.0, 0.7, 30.0, 1e5])
    def test_root_of_a_layer_is_found_to_rounding(self, rise: float) -> None:
        truth = torch.cat([torch.linspace(-40, 40, 2001), torch.logspace(-12, 0, 50)]).double()
        target = truth + rise * truth.tanh()
        found = invert_level(target, torch.tensor(rise, dtype=torch.float64))
        residual = found + rise * found.tanh() - target
        assert residual.abs().max() < 1e-13 * (1 + abs(rise) + 40)

    def test_gradient_of_the_root_is_exact(self) -> None:
        target = torch.linspace(-3, 3, 7, dtype=torch.float64).requires_grad_()
        rise = torch.linspace(-0.9, 4, 7, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(invert_level, (target, rise))

    def test_density_at_a_fixed_point_has_exact_gradients(self) -> None:
        family = make_family("flow", 2, num_layers=3)
        parameters = some_parameters(family).requires_grad_()
        z = torch.randn(4, 2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda p: family.distribution(p).log_prob(z), parameters)

    def test_density_of_a_draw_without_graph_still_trains(self) -> None:
        family = make_family("flow", 2)
        parameters = some_parameters(family, 3).requires_grad_()
        q = family.distribution(parameters)
        log_density = q.log_prob(q.sample())
        assert log_density.requires_grad

    def test_jacobian_gives_the_density(self) -> None:
        family = make_family("flow", 2)
        q = family.distribution(some_parameters(family))
        assert isinstance(q, PlanarFlow)

        def push(point: Tensor) -> Tensor:
            for layer in range(8):
                direction, shift, bias, _ = q._layer(layer)
                point = point + shift * torch.tanh(direction @ point + bias)
            return q.loc + q.scale_tril @ point

        noise = torch.randn(2, dtype=torch.float64)
        jacobian: Any = torch.autograd.functional.jacobian(push, noise)
        truth = Normal(0.0, 1.0).log_prob(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(q.log_prob(push(noise)), truth, rtol=1e-10, atol=1e-10)


class TestSign:
    def test_probability_of_a_sign_is_that_of_the_gaussian(self) -> None:
        loc, factor = some_gaussian(5, dim=3)
        family = Sign(3)
        positive = family.from_gaussian(loc, factor).sigmoid()
        scale = MultivariateNormal(loc, scale_tril=factor).stddev
        torch.testing.assert_close(positive, Normal(0.0, 1.0).cdf(loc / scale))

    def test_even_signs_are_the_standard_normal(self) -> None:
        z = torch.randn(20, 3)
        truth = Normal(0.0, 1.0).log_prob(z).sum(-1)
        torch.testing.assert_close(Sign(3).distribution(torch.zeros(3)).log_prob(z), truth)

    def test_sure_signs_have_the_entropy_of_half_normals(self) -> None:
        q = Sign(3).distribution(torch.tensor([60.0, -60.0, 60.0], dtype=torch.float64))
        z = q.sample((100_000,))
        surprise = -q.log_prob(z)
        half_normal = 0.5 * math.log(math.pi / 2) + 0.5
        error = surprise.mean() - 3 * half_normal
        assert error.abs() < 5 * surprise.std() / math.sqrt(len(z))
        assert torch.equal(z.sign()[0], torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))


class TestTriangular:
    def test_factor_round_trip(self) -> None:
        _, factor = some_gaussian(6, dim=4)
        torch.testing.assert_close(scale_tril(raw_of_scale_tril(factor), 4), factor)

    def test_whiten_undoes_colour(self) -> None:
        _, factor = some_gaussian(6, dim=4)
        z = torch.randn(2, 3, 6, 4, dtype=torch.float64)
        torch.testing.assert_close(whiten(factor, colour(factor, z)), z)
        torch.testing.assert_close(colour(factor, z), (factor @ z.unsqueeze(-1)).squeeze(-1))


class TestNames:
    def test_unknown_family_names_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'mixture'"):
            make_family("mixtur", 2)

    def test_unknown_option_names_the_known_ones(self) -> None:
        with pytest.raises(UnknownNameError, match="num_components"):
            make_family("mixture", 2, components=3)

    @pytest.mark.parametrize("bad", [0, -1, 1.5, True])
    def test_bad_dimension_is_refused(self, bad: Any) -> None:
        with pytest.raises(ValueError, match="positive whole number"):
            make_family("full", bad)
