"""The exact posterior of piecewise-affine generators as a guide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim

from pyrolvm import exact
from pyrolvm.core import Guide, IncompatiblePairError, evaluating, log_densities
from pyrolvm.guides import Exact, ExactCPA
from pyrolvm.models import VAE, CPAGenerator, LinearGaussian
from pyrolvm.testing import GuideContract


class TestExactCPA(GuideContract):
    def make_model(self) -> CPAGenerator:
        return CPAGenerator(latent_dim=2, obs_dim=4, hidden=(6,), noise_scale=0.3)

    def make(self, model: Any) -> Guide:
        return ExactCPA(model)

    @pytest.mark.parametrize("latent_dim", [1, 2])
    @pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
    def test_every_particle_weighs_the_evidence(self, latent_dim: int, activation: str) -> None:
        model = CPAGenerator(latent_dim, 5, (8, 8), noise_scale=0.1, activation=activation)
        guide, x = ExactCPA(model), model(size=9).detach()
        log_weights = log_densities(model, guide, x, num_particles=25).log_weights
        with evaluating(model, guide):
            evidence = guide.log_evidence(x.double())
        torch.testing.assert_close(log_weights, evidence.expand(25, 9), rtol=0, atol=1e-8)

    def test_any_gaussian_prior_is_served(self) -> None:
        tril = torch.tensor([[0.5, 0.0], [0.7, 1.5]])
        model = CPAGenerator(
            2, 4, (6,), isotropic=False, prior_loc=torch.tensor([1.0, -2.0]), prior_scale_tril=tril
        )
        x = model(size=5).detach()
        log_weights = log_densities(model, ExactCPA(model), x, num_particles=20).log_weights
        assert log_weights.std(0).max() < 1e-8

    def test_a_linear_generator_has_the_closed_form(self) -> None:
        model = LinearGaussian(latent_dim=2, obs_dim=4).double()
        x = torch.randn(6, 4, dtype=torch.float64)
        ours, truth = ExactCPA(model).posterior(x), Exact(model).posterior(x)
        torch.testing.assert_close(ours.mean, truth.mean)
        torch.testing.assert_close(ours.covariance_matrix, truth.covariance_matrix)
        torch.testing.assert_close(ours.variance, truth.variance)
        torch.testing.assert_close(ours.entropy(), truth.entropy())
        torch.testing.assert_close(ExactCPA(model).log_evidence(x), model.log_evidence(x))

    def test_draws_have_the_posterior_moments(self) -> None:
        model = self.make_model()
        posterior = ExactCPA(model).posterior(model(size=4).detach().double())
        z = posterior.sample((20_000,))
        error = (z.mean(0) - posterior.mean).abs()
        assert (error < 5 * z.std(0) / 20_000**0.5).all()
        assert (posterior.lost_mass < 1e-9).all()

    def test_expansion_adds_particles(self) -> None:
        model = self.make_model()
        posterior = ExactCPA(model).posterior(model(size=4).detach())
        wide = posterior.expand((3, 4))
        z = wide.sample((5,))
        assert z.shape == (5, 3, 4, 2)
        assert z.dtype == torch.float32
        torch.testing.assert_close(
            wide.log_prob(z), posterior.log_prob(z.reshape(15, 4, 2)).reshape(5, 3, 4)
        )
        assert wide.mean.shape == (3, 4, 2)
        assert wide.entropy().shape == wide.lost_mass.shape == (3, 4)

    def test_the_same_question_is_answered_from_memory(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), model(size=4).detach()
        first = guide.posterior(x).solved
        assert guide.posterior(x.clone()).solved is first
        assert guide.posterior(x + 1).solved is not first

    def test_new_weights_give_a_new_posterior(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), model(size=4).detach()
        before = guide.posterior(x).mean
        for parameter in model.parameters():
            parameter.data.mul_(1.5)
        torch.testing.assert_close(guide.posterior(x).mean, ExactCPA(model).posterior(x).mean)
        assert not torch.allclose(guide.posterior(x).mean, before)

    def test_regions_are_kept_while_the_hidden_layers_hold(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), model(size=4).detach()
        regions = guide.posterior(x).solved.partition
        assert guide.posterior(x + 0.01).solved.partition is regions

    def test_gradient_of_the_evidence_reaches_the_model(self) -> None:
        model = self.make_model().double()
        x = model(size=8).detach()
        guide = ExactCPA(model)
        found = torch.autograd.grad(guide.log_evidence(x).sum(), list(model.parameters()))
        truth = exact.log_evidence(model.affine_stack, x).sum()  # type: ignore[arg-type]
        for one, other in zip(
            found, torch.autograd.grad(truth, list(model.parameters())), strict=True
        ):
            torch.testing.assert_close(one, other)

    def test_svi_follows_the_gradient_of_the_evidence(self) -> None:
        """Fisher's identity: SVI's average gradient on the exact guide is that of log p(x)."""
        model = self.make_model().double()
        x, guide = model(size=3).detach(), ExactCPA(model)
        weight: Any = model.decoder[-1].weight
        elbo = Trace_ELBO(num_particles=1000, vectorize_particles=True, max_plate_nesting=1)
        draws = torch.stack(
            [
                torch.autograd.grad(-elbo.differentiable_loss(model, guide, x), weight)[0]
                for _ in range(10)
            ]
        )
        (truth,) = torch.autograd.grad(guide.log_evidence(x).sum(), weight)
        assert ((draws.mean(0) - truth).abs() < 6 * draws.std(0) / 10**0.5 + 1e-9).all()

    def test_training_the_model_raises_the_evidence(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), torch.randn(20, 4)
        before = guide.log_evidence(x).mean()
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.02}), Trace_ELBO())
        for _ in range(20):
            svi.step(x)
        assert guide.log_evidence(x).mean() > before

    def test_more_than_two_latents_are_refused(self) -> None:
        with pytest.raises(
            IncompatiblePairError, match="1 or 2 latent dimensions, but this one has 3"
        ) as caught:
            ExactCPA(CPAGenerator(latent_dim=3, obs_dim=4))
        assert "Guides that serve it: Amortized, Iterative" in str(caught.value)
        assert "Exact" not in str(caught.value).split("serve it")[1]

    @pytest.mark.parametrize("options", [{"likelihood": "bernoulli"}, {"activation": "tanh"}])
    def test_generators_of_another_kind_are_refused(self, options: Any) -> None:
        with pytest.raises(IncompatiblePairError, match=r"PiecewiseAffine.*Amortized"):
            ExactCPA(VAE(latent_dim=2, obs_dim=4, **options))

    def test_a_relu_vae_is_served(self) -> None:
        model = VAE(latent_dim=2, obs_dim=4, hidden=(6,))
        x = model(size=3).detach()
        assert (
            log_densities(model, ExactCPA(model), x, num_particles=9).log_weights.std(0).max()
            < 1e-8
        )
