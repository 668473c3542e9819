"""The amortized guide."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor
from torch.distributions import kl_divergence

import pyrolvm as lvm
from pyrolvm.core import DataError, Guide, IncompatiblePairError, UnknownNameError, log_densities
from pyrolvm.families import FAMILIES, make_family
from pyrolvm.guides import Amortized
from pyrolvm.models import LinearGaussian
from pyrolvm.testing import GuideContract

REAL_FAMILIES = sorted(name for name, family in FAMILIES.items() if not family.is_binary)


class TestAmortized(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return Amortized(model, family="full", hidden=(8,))

    @pytest.mark.parametrize("family", REAL_FAMILIES)
    def test_starts_near_the_standard_normal(self, family: str) -> None:
        guide = Amortized(self.make_model(), family=family)
        with torch.no_grad():
            z = guide.distribution(torch.randn(200, 4)).sample((50,)).reshape(-1, 2)
        assert z.mean(0).abs().max() < 0.1
        assert (z.std(0) - 1).abs().max() < 0.15

    @pytest.mark.parametrize("family", REAL_FAMILIES)
    def test_every_family_trains_under_plain_pyro(self, family: str) -> None:
        model = self.make_model().eval().requires_grad_(False)
        x = model(size=64)
        guide = Amortized(model, family=family, hidden=(8,))
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.02}), Trace_ELBO())
        before = log_densities(model, guide, x, num_particles=50).log_weights.mean()
        for _ in range(60):
            svi.step(x)
        assert log_densities(model, guide, x, num_particles=50).log_weights.mean() > before

    def test_no_hidden_layers_make_an_affine_encoder(self) -> None:
        guide = Amortized(self.make_model(), hidden=())
        a, b = torch.randn(2, 3, 4).unbind()
        middle = guide.parameters_for((a + b) / 2)
        torch.testing.assert_close(middle, (guide.parameters_for(a) + guide.parameters_for(b)) / 2)

    @pytest.mark.parametrize("family", ["full", "diagonal"])
    def test_an_affine_encoder_reaches_the_optimum_of_a_linear_model(self, family: str) -> None:
        """Full: the posterior itself. Diagonal: var_i = 1/Λ_ii, and the gap that this leaves."""
        model = LinearGaussian(latent_dim=2, obs_dim=4).eval().requires_grad_(False)
        guide = Amortized(model, family=family, hidden=())
        lvm.fit(
            model, guide, model(size=1024), steps=1000, learning_rate=3e-2, num_particles=8,
            train="guide", progress=False,
        )  # fmt: skip
        x = model(size=50)
        posterior, q = model.posterior(x), guide.distribution(x)
        ours = MultivariateNormal(q.mean, guide.family.covariance(guide.parameters_for(x)))
        gap = kl_divergence(ours, posterior).mean()
        precision = posterior.precision_matrix[0]
        floor = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
        assert (gap - (floor if family == "diagonal" else 0.0)).abs() < 1e-3

    def test_family_options_are_handed_on(self) -> None:
        guide = Amortized(self.make_model(), family="mixture", num_components=3)
        assert repr(guide.family) == "Mixture(dim=2, num_components=3)"
        assert guide.num_parameters == 4 * 64 + 64 + 64 * 18 + 18

    def test_takes_a_family_that_is_built(self) -> None:
        family = make_family("flow", 2, num_layers=2)
        assert Amortized(self.make_model(), family=family).family is family

    def test_family_of_another_dimension_is_refused(self) -> None:
        with pytest.raises(ValueError, match="2 latent dimensions"):
            Amortized(self.make_model(), family=make_family("full", 3))

    def test_unknown_family_names_the_nearest(self) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'diagonal'"):
            Amortized(self.make_model(), family="diagnal")

    def test_several_latent_sites_are_refused(self) -> None:
        facts = SimpleNamespace(latent_sites=("z_2", "z_1"), latent_dim=2, obs_dim=4)
        with pytest.raises(IncompatiblePairError, match="'z_2', 'z_1'"):
            Amortized(facts)

    def test_goes_under_a_hand_written_model(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), dim=-1):
                w = pyro.sample("w", Normal(torch.zeros(2), 1.0).to_event(1))
                mean = torch.cat([w, w], -1)
                pyro.sample("obs", Normal(mean, 0.5).to_event(1), obs=x)

        guide = Amortized(SimpleNamespace(latent_sites=("w",), latent_dim=2, obs_dim=4))
        x = torch.randn(10, 4)
        assert (
            SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), Trace_ELBO()).step(x) > 0
        )
        assert log_densities(model, guide, x, num_particles=3).log_weights.shape == (3, 10)

    def test_standardised_inputs_do_not_feel_the_units(self) -> None:
        x = torch.randn(50, 4)
        plain = Amortized(self.make_model(), hidden=(8,)).standardise_by(x)
        scaled = Amortized(self.make_model(), hidden=(8,)).standardise_by(1000 * x + 5)
        scaled.encoder.load_state_dict(plain.encoder.state_dict())
        torch.testing.assert_close(
            scaled.parameters_for(1000 * x + 5), plain.parameters_for(x), rtol=1e-3, atol=1e-3
        )

    def test_whole_numbers_are_taken_as_data(self) -> None:
        guide = Amortized(self.make_model())
        assert guide(torch.randint(0, 2, (3, 4))).shape == (3, 2)

    def test_a_single_unbatched_observation_is_refused(self) -> None:
        with pytest.raises(DataError, match="one observation in a row"):
            Amortized(self.make_model())(torch.zeros(4))
