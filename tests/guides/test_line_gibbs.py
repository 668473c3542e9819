"""Chains of exact line updates as a guide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from pyro.infer import Predictive
from torch.distributions import MixtureSameFamily

import pyrolvm as lvm
from pyrolvm.core import DataError, Guide, IncompatiblePairError, NoDensityError
from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics.chains import chain_ess, chain_rhat
from pyrolvm.exact import ObservationError
from pyrolvm.guides import Amortized, Exact, ExactCPA, LineGibbs
from pyrolvm.models import VAE, CPAGenerator, LinearGaussian
from pyrolvm.testing import GuideContract


def generator(latent_dim: int = 2, activation: str = "relu", **options: Any) -> CPAGenerator:
    with torch.random.fork_rng():
        torch.manual_seed(latent_dim)
        model = CPAGenerator(
            latent_dim, 4, (6,), noise_scale=0.3, activation=activation, **options
        )
    return model.double().eval().requires_grad_(False)


def observed(model: CPAGenerator, size: int) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return model(size=size).detach()


class TestLineGibbs(GuideContract):
    def make_model(self) -> CPAGenerator:
        return CPAGenerator(latent_dim=3, obs_dim=4, hidden=(6,), noise_scale=0.3)

    def make(self, model: Any) -> Guide:
        return LineGibbs(model, num_chains=2, warmup=10, seed=0)

    @pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
    def test_moments_are_exact(self, activation: str) -> None:
        model = generator(2, activation)
        x = observed(model, 3)
        draws = LineGibbs(model, warmup=100, seed=1).sample(x, num_draws=800, progress=False)
        truth = ExactCPA(model).posterior(x)
        assert draws.rhat.max() < 1.02
        assert ((draws.mean - truth.mean).abs() < 5 * draws.standard_error).all()
        spread = draws.covariance / truth.covariance_matrix.diagonal(dim1=1, dim2=2).amax()
        wanted = truth.covariance_matrix / truth.covariance_matrix.diagonal(dim1=1, dim2=2).amax()
        torch.testing.assert_close(spread, wanted, rtol=0, atol=0.2)

    def test_many_latents_of_a_linear_generator_have_the_closed_form(self) -> None:
        model = LinearGaussian(latent_dim=12, obs_dim=15).double()
        x = torch.randn(2, 15).double()
        draws = LineGibbs(model, warmup=60, seed=0).sample(x, num_draws=300, progress=False)
        truth = Exact(model).posterior(x)
        assert ((draws.mean - truth.mean).abs() < 5 * draws.standard_error).all()
        assert draws.converged.all()

    def test_a_mixture_prior_is_served(self) -> None:
        model = generator(2, prior_components=3)
        assert isinstance(model.prior(), MixtureSameFamily)
        x = observed(model, 3)
        draws = LineGibbs(model, warmup=100, seed=1).sample(x, num_draws=800, progress=False)
        z = model.prior().sample((200_000,))
        for n in range(3):
            share = model.likelihood(z).log_prob(x[n]).softmax(0)
            mean = share @ z
            theirs = (share[:, None] * (z - mean)).square().sum(0)
            error = (theirs + draws.standard_error[n] ** 2).sqrt()
            assert ((draws.mean[n] - mean).abs() < 5 * error).all()

    def test_shapes_and_verdict(self) -> None:
        model = generator(4)
        x = observed(model, 3)
        draws = LineGibbs(model, num_chains=3, warmup=30, seed=0).sample(
            x, num_draws=200, progress=False
        )
        assert draws.z.shape == (3, 200, 3, 4)
        assert draws.z.dtype == torch.float64
        assert draws.rhat.shape == draws.ess.shape == draws.mean.shape == (3, 4)
        assert draws.covariance.shape == (3, 4, 4)
        assert draws.converged.shape == (3,)
        assert (draws.ess > 0).all()
        assert (draws.rhat < 1.1).all()
        torch.testing.assert_close(draws.rhat, chain_rhat(draws.z))
        assert "3 chains of 200 draws for 3 data, 4 latents" in repr(draws)

    def test_chains_that_disagree_are_called_so(self) -> None:
        model = generator(2)
        draws = LineGibbs(model, warmup=10, seed=0).sample(
            observed(model, 2), num_draws=200, progress=False
        )
        apart = draws.z.clone()
        apart[0, :, 1] += 3 * apart.std()
        found = replace(draws, z=apart)
        assert found.converged.tolist() == [True, False]
        assert "1 of 2 NOT converged" in repr(found)

    def test_more_goes_on_where_the_chains_stopped(self) -> None:
        model = generator(3)
        x, guide = observed(model, 2), LineGibbs(model, warmup=20, thin=2, seed=5)
        whole = guide.sample(x, num_draws=30, progress=False)
        part = guide.sample(x, num_draws=10, progress=False)
        assert torch.equal(part.more(20, progress=False).z, whole.z)
        assert torch.equal(part.more(20, progress=False).z, whole.z)
        assert part.z.shape[1] == 10
        with pytest.raises(SettingError, match="num_draws should be at least 1"):
            part.more(0)

    def test_the_tree_is_one_that_arviz_reads(self) -> None:
        from arviz_stats import ess, rhat  # type: ignore[attr-defined]

        model = generator(2)
        draws = LineGibbs(model, warmup=20, seed=0).sample(
            observed(model, 2), num_draws=50, progress=False
        )
        tree = draws.to_datatree()
        assert tree["posterior"]["z"].dims == ("chain", "draw", "datum", "latent")
        assert tree.attrs["sampling"] == "markov_chains"
        np.testing.assert_allclose(ess(tree)["z"], draws.ess)
        np.testing.assert_allclose(rhat(tree)["z"], draws.rhat)

    def test_a_seed_gives_the_same_draws(self) -> None:
        model = generator(2)
        x = observed(model, 2)
        one, other = (LineGibbs(model, warmup=5, seed=s).sample(x, num_draws=5, progress=False).z
                      for s in (3, 3))  # fmt: skip
        assert torch.equal(one, other)
        guide = LineGibbs(model, warmup=5)
        torch.manual_seed(0)
        one = guide.sample(x, num_draws=5, progress=False).z
        torch.manual_seed(0)
        assert torch.equal(guide.sample(x, num_draws=5, progress=False).z, one)
        assert not torch.equal(guide.sample(x, num_draws=5, progress=False).z, one)

    def test_float_data_are_solved_in_double_precision(self) -> None:
        model = generator(2)
        x = observed(model, 2).float()
        guide = LineGibbs(model, warmup=5, seed=0)
        z = guide.sample(x, num_draws=5, progress=False).z
        assert torch.equal(guide.sample(x.double(), num_draws=5, progress=False).z, z)
        assert guide(x).dtype == torch.float32

    def test_predictive_draws_have_the_posterior_mean(self) -> None:
        model = generator(2)
        x, guide = observed(model, 2), LineGibbs(model, warmup=50, seed=0)
        z = Predictive(model, guide=guide, num_samples=1600, parallel=True)(x)["z"]
        chains = z.reshape(400, 4, 2, 2).swapaxes(0, 1)
        error = z.std(0) / chain_ess(chains, "mean").sqrt()
        assert ((z.mean(0) - ExactCPA(model).posterior(x).mean).abs() < 5 * error).all()

    def test_every_state_is_handed_out_once(self) -> None:
        model = generator(2)
        x, guide = observed(model, 1), LineGibbs(model, num_chains=3, warmup=5, seed=0)
        single = torch.stack([guide(x) for _ in range(6)])
        assert len(single.reshape(6, 2).unique(dim=0)) == 6
        whole = LineGibbs(model, num_chains=3, warmup=5, seed=0).sample(
            x, num_draws=2, progress=False
        )
        torch.testing.assert_close(single, whole.z.swapaxes(0, 1).flatten(0, 1))

    def test_chains_are_kept_until_data_or_weights_change(self) -> None:
        model = generator(2)
        x, guide = observed(model, 2), LineGibbs(model, warmup=5, seed=0)
        first = guide.posterior(x).supply
        assert guide.posterior(x.clone()).supply is first
        assert guide.posterior(x + 1).supply is not first
        first = guide.posterior(x).supply
        next(model.parameters()).data.mul_(1.1)
        assert guide.posterior(x).supply is not first

    def test_a_density_is_refused_with_the_reason(self) -> None:
        model = generator(2)
        x, guide = observed(model, 4), LineGibbs(model, warmup=5, seed=0)
        amortized = Amortized(model, family="diagonal", hidden=(4,))
        trace = poutine.trace(guide).get_trace(x)
        for score in (
            lambda: guide.posterior(x).log_prob(torch.zeros(4, 2)),
            trace.log_prob_sum,
            lambda: lvm.log_densities(model, guide, x),
            lambda: lvm.fit(model, guide, x, steps=1, progress=False),
            lambda: lvm.score(model, guide, x),
            lambda: lvm.compare(model, {"full": amortized, "chains": guide}, x, progress=False),
        ):
            with pytest.raises(NoDensityError, match=r"LineGibbs .* no log q\(z \| x\)"):
                score()

    def test_a_comparison_is_refused_before_anything_is_trained(self) -> None:
        model = generator(2)
        amortized = Amortized(model, family="diagonal", hidden=(4,))
        before = [p.detach().clone() for p in amortized.parameters()]
        with pytest.raises(NoDensityError):
            lvm.compare(
                model, {"diagonal": amortized, "chains": LineGibbs(model)}, observed(model, 20)
            )
        assert all(map(torch.equal, before, amortized.parameters()))

    def test_bad_data_are_refused(self) -> None:
        guide = LineGibbs(generator(2), warmup=5)
        with pytest.raises(DataError, match=r"shape \(N, 4\), but got \(3, 5\)"):
            guide.sample(torch.zeros(3, 5))
        with pytest.raises(DataError, match="as a tensor, but got ndarray"):
            guide.sample(np.zeros((3, 4)))  # type: ignore[arg-type]
        with pytest.raises(ObservationError, match="2 of 3 rows hold NaN"):
            guide.sample(torch.tensor([[0.0], [torch.nan], [torch.inf]]).expand(3, 4))
        with pytest.raises(DataError, match="need at least 4 draws"):
            _ = guide.sample(torch.zeros(2, 4), num_draws=3, progress=False).rhat

    @pytest.mark.parametrize(
        "options",
        [{"num_draws": 0}, {"num_chains": 0}, {"warmup": -1}, {"thin": 0}, {"seed": -1}],
    )
    def test_bad_settings_are_refused(self, options: Any) -> None:
        model, name = generator(2), next(iter(options))
        with pytest.raises(SettingError, match=name):
            LineGibbs(model, **options)
        with pytest.raises(SettingError, match=name):
            LineGibbs(model).sample(torch.zeros(2, 4), **options)

    @pytest.mark.parametrize("options", [{"likelihood": "bernoulli"}, {"activation": "tanh"}])
    def test_generators_of_another_kind_are_refused(self, options: Any) -> None:
        with pytest.raises(IncompatiblePairError, match=r"LineGibbs.*PiecewiseAffine.*Amortized"):
            LineGibbs(VAE(latent_dim=2, obs_dim=4, **options))

    def test_no_data_and_too_few_draws_are_no_trouble(self) -> None:
        guide = LineGibbs(generator(2), warmup=5)
        assert guide.sample(torch.empty(0, 4), progress=False).z.shape == (4, 500, 0, 2)
        assert "too few to judge" in repr(
            guide.sample(torch.zeros(1, 4), num_draws=2, progress=False)
        )
