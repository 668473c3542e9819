"""The exact posterior of piecewise-affine generators as a guide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim

from pyrolvm import exact
from pyrolvm.core import Guide, IncompatiblePairError, evaluating, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.exact import ObservationError
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

    def test_entries_that_are_missing_are_integrated_out(self) -> None:
        model = self.make_model().double()
        guide, x = ExactCPA(model), model(size=6).detach()
        x[:3, 1] = torch.nan
        found = guide.log_evidence(x, missing="nan")
        stack: Any = model.affine_stack
        seen = torch.tensor([True, False, True, True])
        torch.testing.assert_close(found[:3], exact.log_evidence(stack.observe(seen), x[:3, seen]))
        torch.testing.assert_close(found[3:], guide.log_evidence(x[3:]))
        found.sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        with torch.no_grad():
            torch.testing.assert_close(guide.log_evidence(x, missing="nan"), found.detach())
            torch.testing.assert_close(guide.anomaly_score(x, missing="nan"), -found.detach())
        posterior = guide.posterior(x, missing="nan")
        assert posterior.sample((7,)).shape == (7, 6, 2)
        assert posterior.mean.shape == (6, 2)
        assert posterior.lost_mass.shape == (6,)
        assert guide.posterior(x.clone(), missing="nan").solved is posterior.solved
        for ask in (posterior.entropy, lambda: posterior.region_probabilities):
            with pytest.raises(NotImplementedError):
                ask()

    def test_missing_entries_are_refused_unless_they_are_announced(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), model(size=6).detach()
        x[4, 1] = torch.nan
        for ask in (guide.log_evidence, guide.posterior, guide.anomaly_score):
            with pytest.raises(ObservationError, match=r'1 of 6 .* row 4.*missing="nan"'):
                ask(x)
        with pytest.raises(SettingError, match="None or \"nan\", but is 'zero'"):
            guide.log_evidence(x, missing="zero")  # type: ignore[arg-type]
        x[2] = torch.nan
        with pytest.raises(ObservationError, match=r"all are missing in 1 of 6 rows \(2\)"):
            guide.impute(x)

    def test_imputation_keeps_what_was_seen(self) -> None:
        model = self.make_model()
        guide, x = ExactCPA(model), model(size=6).detach()
        x[:3, 1] = torch.nan
        found = guide.impute(x)
        assert torch.equal(found.mean[3:], x[3:].double())
        assert (found.standard_deviation[:3, 1] > 0.29).all()
        assert found.sample(4).shape == (4, 6, 4)
        torch.testing.assert_close(
            found.log_evidence, guide.log_evidence(x, missing="nan").detach()
        )

    def test_moments_are_those_of_the_model(self) -> None:
        model = self.make_model().double()
        found, x = ExactCPA(model).data_moments(), model(size=100_000).detach()
        error = (x.mean(0) - found.mean) / (x.std(0) / len(x) ** 0.5)
        assert error.abs().max() < 5
        torch.testing.assert_close(found.covariance, x.T.cov(), rtol=0.05, atol=0.01)

    def test_ordinary_data_have_uniform_pvalues(self) -> None:
        model = self.make_model().double()
        guide, reference = ExactCPA(model), model(size=999).detach()
        share = guide.anomaly_pvalue(model(size=2000).detach(), reference)
        assert share.min() >= 0.001
        assert share.max() <= 1.0
        # 0.3 of 2000, judged by 999: standard deviation 0.018
        assert (share <= 0.3).double().mean().item() == pytest.approx(0.3, abs=0.09)
        strange = guide.anomaly_pvalue(torch.full((1, 4), 30.0).double(), reference)
        assert strange.item() == pytest.approx(0.001)
        middle = guide.anomaly_score(reference).argsort()[499]
        assert guide.anomaly_pvalue(reference[middle][None], reference).item() == 0.501

    def test_one_latent_has_a_distribution_function(self) -> None:
        model = CPAGenerator(1, 3, (6,), noise_scale=0.3).double()
        posterior = ExactCPA(model).posterior(model(size=4).detach())
        z = posterior.sample((5,))
        share = posterior.cdf(z)
        assert share.shape == (5, 4)
        torch.testing.assert_close(posterior.icdf(share), z)
        wide = posterior.expand((2, 4))
        assert wide.icdf(torch.tensor(0.5, dtype=torch.float64)).shape == (2, 4, 1)
        assert wide.cdf(z[0]).shape == (2, 4)
        assert posterior.region_probabilities.dense().shape[0] == 4
        plane = ExactCPA(self.make_model()).posterior(torch.zeros(2, 4))
        with pytest.raises(exact.LatentDimensionError, match="one latent"):
            plane.cdf(torch.zeros(2, 2))

    def test_three_latents_are_served(self) -> None:
        model = CPAGenerator(latent_dim=3, obs_dim=4, hidden=(5,), noise_scale=0.3)
        guide, x = ExactCPA(model), model(size=5).detach()
        log_weights = log_densities(model, guide, x, num_particles=20).log_weights
        assert log_weights.std(0).max() < 1e-8
        assert (guide.posterior(x).standard_error == 0).all()
        x[:2, 1] = torch.nan
        found = guide.impute(x)
        z = guide.posterior(x.double(), missing="nan").sample((20_000,))
        outputs = model.double().generate(z)[:, :2, 1].detach()
        error = (outputs.mean(0) - found.mean[:2, 1]) / (outputs.std(0) / 20_000**0.5)
        assert error.abs().max() < 5

    def test_more_latents_than_regions_allow_are_refused(self) -> None:
        with pytest.raises(
            IncompatiblePairError, match=r"up to 5 latent dimensions, but .* 6"
        ) as caught:
            ExactCPA(CPAGenerator(latent_dim=6, obs_dim=4))
        named = str(caught.value).split("serve it: ")[1]
        assert {"Amortized", "Iterative", "LineGibbs"} <= set(named.rstrip(".").split(", "))
        assert "Exact" not in named

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
