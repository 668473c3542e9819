"""The Langevin guide: closed-form recursions of linear models, bounds, rates."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from pyro.distributions import MultivariateNormal
from torch import Tensor
from torch.distributions import kl_divergence

import pyrolvm as lvm
from pyrolvm.amortization import AffineReverse
from pyrolvm.core import Guide, SiteError, UnknownNameError, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Langevin
from pyrolvm.models import VAE, LinearGaussian, ResidualGenerator, SignPermutation
from pyrolvm.objectives.forward_kl import forward_kl
from pyrolvm.testing import GuideContract

KINDS = ["learned", "linearised", "annealed", "stationary"]


def linear_gaussian() -> LinearGaussian:
    model = LinearGaussian(latent_dim=2, obs_dim=3, noise_scale=0.6)
    return model.double().eval().requires_grad_(False)


def gaussians_of_the_chain(guide: Langevin, x: Tensor) -> list[MultivariateNormal]:
    """Distributions of z_0, …, z_T under a linear Gaussian model, by the closed recursion."""
    posterior = guide.model.posterior(x)
    step = guide.chain.step_size
    dim = posterior.event_shape[0]
    eye = torch.eye(dim, dtype=torch.float64)
    precision = posterior.precision_matrix[0]
    rest = torch.linalg.inv(precision @ (eye - step * precision / 2))
    start = guide.chain.start_scale_tril @ guide.chain.start_scale_tril.mT
    found = []
    for power in range(guide.chain.num_steps + 1):
        move = torch.matrix_power(eye - step * precision, power)
        mean = posterior.mean + (guide.centre(x) - posterior.mean) @ move.mT
        found.append(
            MultivariateNormal(mean, move @ start @ move.mT + rest - move @ rest @ move.mT)
        )
    return found


def gap(guide: Langevin, x: Tensor, num_particles: int = 20_000) -> tuple[Tensor, Tensor]:
    """Evidence less bound for each datum, and its standard error."""
    weights = log_densities(guide.model, guide, x, num_particles=num_particles).log_weights
    error = weights.std(0) / math.sqrt(num_particles)
    return guide.model.log_evidence(x) - weights.mean(0), error


def use_exact_kernels(guide: Langevin, x: Tensor) -> None:
    """r(z_t | z_{t+1}) = N(m_t + K (z_{t+1} − m_{t+1}), V_t − K V_{t+1} Kᵀ), K = V_t Aᵀ V⁻¹."""
    assert isinstance(guide.reverse, AffineReverse)
    precision = guide.model.posterior(x).precision_matrix[0]
    move = torch.eye(len(precision), dtype=torch.float64) - guide.chain.step_size * precision
    variances = [q.covariance_matrix[0] for q in gaussians_of_the_chain(guide, x)]
    gains = [before @ move.mT @ torch.linalg.inv(after) for before, after in pairwise(variances)]
    rests = [v - k @ w @ k.mT for v, w, k in zip(variances, variances[1:], gains, strict=False)]
    guide.reverse.assign(torch.stack(gains), torch.linalg.cholesky(torch.stack(rests)))


def learned(model: LinearGaussian) -> Langevin:
    return Langevin(model, num_descent=1, num_langevin=5, start_scale=1.2, reverse="learned")


class TestLangevin(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return Langevin(model, num_descent=3, num_langevin=4)

    def test_moments_follow_the_closed_recursion(self) -> None:
        model = linear_gaussian()
        guide, x = Langevin(model, num_descent=2, start_scale=1.5), model(size=1)
        truth = gaussians_of_the_chain(guide, x)[-1]
        size = 100_000
        with torch.no_grad():
            z = guide.run(x, size).end[:, 0]
        assert ((z.mean(0) - truth.mean[0]).abs() < 5 * z.std(0) / math.sqrt(size)).all()
        centred = z - truth.mean[0]
        products = centred.unsqueeze(-1) * centred.unsqueeze(-2)
        error = (products.mean(0) - truth.covariance_matrix[0]).abs()
        assert (error < 5 * products.std(0) / math.sqrt(size)).all()

    def test_bias_at_rest_is_that_of_the_unadjusted_algorithm(self) -> None:
        model = linear_gaussian()
        guide, x = Langevin(model, num_langevin=200, reverse="stationary"), model(size=1)
        posterior = model.posterior(x)
        found = kl_divergence(gaussians_of_the_chain(guide, x)[-1], posterior)
        shares = guide.chain.step_size * torch.linalg.eigvalsh(posterior.precision_matrix[0])
        ratio = 1 / (1 - shares / 2)
        torch.testing.assert_close(found[0], 0.5 * (ratio - 1 - ratio.log()).sum())
        small = 0.2 * shares
        ratio = 1 / (1 - small / 2)
        exact = 0.5 * (ratio - 1 - ratio.log()).sum()
        assert abs(exact / (small.square() / 16).sum() - 1) < 0.1

    def test_exact_backward_kernels_leave_the_gap_of_the_end_alone(self) -> None:
        model = linear_gaussian()
        guide, x = learned(model), model(size=4)
        use_exact_kernels(guide, x)
        found, error = gap(guide, x)
        truth = kl_divergence(gaussians_of_the_chain(guide, x)[-1], model.posterior(x))
        assert ((found - truth).abs() < 5 * error).all()

    @pytest.mark.parametrize("reverse", ["learned", "linearised"])
    def test_fitted_and_linearised_kernels_are_exact_for_linear_models(self, reverse: str) -> None:
        model = linear_gaussian()
        guide = Langevin(model, num_langevin=5, start_scale=1.2, reverse=reverse)
        x = model(size=4)
        guide.fit_reverse(x, num_chains=20_000)
        found, error = gap(guide, x)
        truth = kl_divergence(gaussians_of_the_chain(guide, x)[-1], model.posterior(x))
        assert ((found - truth).abs() < 5 * error + 1e-3).all()

    def test_other_kernels_lose_more(self) -> None:
        model = linear_gaussian()
        guide, x = learned(model), model(size=4)
        use_exact_kernels(guide, x)
        best, error = gap(guide, x)
        with torch.no_grad():
            guide.reverse.gain.mul_(0.7)  # type: ignore[union-attr,operator]
        worse, its_error = gap(guide, x)
        assert (worse - best > 5 * (error + its_error)).all()

    @pytest.mark.parametrize(
        ("share", "steps", "end", "extended"),
        [(0.1, 0, 6.39, 6.39), (0.1, 40, 0.0014, 6.013), (0.5, 10, 0.0228, 4.545)],
    )
    def test_the_bound_of_forward_kernels_never_forgets_the_start(
        self, share: float, steps: int, end: float, extended: float
    ) -> None:
        """Conjugate Gaussian of precision 10 and mean 0.78, started from the prior."""
        model = LinearGaussian(latent_dim=1, obs_dim=1, noise_scale=1 / 3).double()
        with torch.no_grad():
            for parameter, value in zip(model.decoder.parameters(), (1.0, 0.0), strict=True):
                parameter.fill_(value)
        guide = Langevin(
            model, hidden=None, num_descent=0, num_langevin=steps, step_size=share / 10,
            start_scale=1.0, reverse="stationary",
        )  # fmt: skip
        x = torch.full((1, 1), math.sqrt(6.08 / 10) / 0.9, dtype=torch.float64)
        with torch.no_grad():
            truth = kl_divergence(gaussians_of_the_chain(guide, x)[-1], model.posterior(x))
            found, error = gap(guide, x)
        assert truth.item() == pytest.approx(end, rel=0.02)
        assert abs(found.item() - extended) < 5 * error.item() + 5e-3

    @pytest.mark.parametrize("contraction", [0.3, 0.8])
    def test_descent_has_the_proven_rate(self, contraction: float) -> None:
        model = ResidualGenerator(latent_dim=3, contraction=contraction).double()
        least, most = model.certified_constants
        x = model(size=50).detach()
        misfit = (model.generate(torch.zeros(50, 3).double()) - x).norm(dim=-1).max().item()
        rate = 1 / (most**2 + model.second_order_bound * misfit)
        guide = Langevin(model, hidden=None, num_descent=60, num_langevin=0, descent_rate=rate)
        with torch.no_grad():
            points = torch.stack(guide.descent_path(x))
            squares = (model.generate(points) - x).square().sum(-1)
        bound = (1 - rate * least**2) ** torch.arange(61.0, dtype=torch.float64)
        assert (squares <= bound[:, None] * squares[0] * (1 + 1e-9)).all()

    @pytest.mark.parametrize("reverse", KINDS)
    def test_every_kind_bounds_the_evidence_and_trains(self, reverse: str) -> None:
        model = linear_gaussian().float()
        x = model(size=32)
        guide = Langevin(model, num_descent=2, num_langevin=4, reverse=reverse)
        found, error = gap(guide, x, 500)
        assert (found > -5 * error).all()
        lvm.fit(model, guide, x, steps=30, learning_rate=1e-2, train="guide", progress=False)
        after, its_error = gap(guide, x, 500)
        assert (after > -5 * its_error).all()
        assert after.mean() < found.mean() + 5 * error.mean()

    def test_every_parameter_gets_a_gradient(self) -> None:
        for reverse in KINDS:
            guide = Langevin(ResidualGenerator(2), hidden=(4,), reverse=reverse, num_langevin=3)
            x = guide.model(size=8).detach()
            svi = lvm.fit(guide.model, guide, x, steps=1, train="guide", progress=False)
            before = [p.detach().clone() for p in guide.parameters()]
            lvm.fit(svi.model, guide, x, steps=1, train="guide", progress=False)
            assert all(
                not torch.equal(a, b) for a, b in zip(before, guide.parameters(), strict=True)
            ), reverse

    def test_training_both_leaves_a_small_gap(self) -> None:
        model = LinearGaussian(latent_dim=2, obs_dim=4, noise_scale=0.5)
        x = model(size=128).detach() * 1.5
        guide = Langevin(model, num_descent=5, num_langevin=5)
        lvm.fit(model, guide, x, steps=100, learning_rate=1e-2, progress=False)
        found, _ = gap(guide, x.double(), 200)
        assert found.mean() < 0.15

    def test_steps_can_be_held(self) -> None:
        guide = Langevin(ResidualGenerator(2), step_size=0.01, learn_steps=False, num_langevin=2)
        x = guide.model(size=8).detach()
        lvm.fit(guide.model, guide, x, steps=3, train="guide", progress=False)
        assert guide.chain.step_size.item() == pytest.approx(0.01)

    @pytest.mark.parametrize("reverse", ["linearised", "annealed"])
    def test_parameters_do_not_grow_with_the_steps(self, reverse: str) -> None:
        counts = {
            Langevin(ResidualGenerator(2), num_langevin=steps, reverse=reverse).num_parameters
            for steps in (1, 20)
        }
        assert len(counts) == 1

    def test_reverse_kernels_are_counted_apart(self) -> None:
        guide = Langevin(ResidualGenerator(2), hidden=None, num_langevin=4, reverse="learned")
        assert guide.num_encoder_parameters == 3 + 2
        assert guide.num_parameters == 5 + 4 * (4 + 2 + 3)

    def test_marginal_of_no_steps_is_the_start(self) -> None:
        model = linear_gaussian()
        guide, x = Langevin(model, num_langevin=0), model(size=4)
        z = torch.randn(7, 4, 2, dtype=torch.float64)
        torch.testing.assert_close(
            guide.marginal_log_prob(x, z), guide.chain.start(guide.centre(x)).log_prob(z)
        )

    def test_marginal_tends_to_the_density_of_the_end(self) -> None:
        model = linear_gaussian()
        guide, x = Langevin(model, num_langevin=3, num_descent=1), model(size=4)
        truth = gaussians_of_the_chain(guide, x)[-1]
        z = truth.sample((50,))
        found = guide.marginal_log_prob(x, z, num_chains=20_000)
        error = (found - truth.log_prob(z)).abs()
        assert error.median() < 0.02
        marginal = guide.marginal(x, num_chains=20_000)
        assert (marginal.mean - truth.mean).abs().max() < 0.05

    def test_serves_other_likelihoods(self) -> None:
        model = VAE(latent_dim=2, obs_dim=5, likelihood="bernoulli")
        x = model(size=6).detach().long()
        assert (
            log_densities(model, Langevin(model), x, num_particles=3).log_weights.isfinite().all()
        )

    def test_gets_no_signal_from_signs(self) -> None:
        guide = Langevin(SignPermutation(3))
        x = guide.model(size=5)
        assert torch.equal(guide.descent_path(x)[0], guide.centre(x))

    def test_has_no_forward_kl(self) -> None:
        guide = Langevin(ResidualGenerator(2))
        with pytest.raises(SiteError, match="no density"):
            forward_kl(guide.model, guide, torch.zeros(3, 2))

    def test_unknown_kernels_name_the_known(self) -> None:
        with pytest.raises(UnknownNameError, match="linearised"):
            Langevin(ResidualGenerator(2), reverse="linear")

    @pytest.mark.parametrize("wrong", [{"step_size": 0.0}, {"num_langevin": -1}])
    def test_senseless_settings_are_refused(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(SettingError, match="should be"):
            Langevin(ResidualGenerator(2), **wrong)
