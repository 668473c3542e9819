"""The sign guide: an encoder into half-normals."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from pyrolvm.core import Guide, VectorLatent, evaluating, log_densities
from pyrolvm.families import Sign
from pyrolvm.guides import Amortized, PerDatum, SignGuide
from pyrolvm.models import LinearGaussian, SignPermutation
from pyrolvm.nn.permutations import corners
from pyrolvm.testing import GuideContract


class Inverting(Guide):
    """Knows the permutation's inverse, and is all but sure of it."""

    requires = (VectorLatent,)

    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Tensor:
        """Sample half-normals in the orthant that x came from."""
        assert x is not None
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("z", self.distribution(x))

    def distribution(self, x: Tensor) -> Any:
        """Return q(z | x)."""
        return Sign(x.shape[-1]).distribution(60 * self.model.signs_of(x))


class TestSignGuide(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return SignGuide(model, hidden=(8,))

    def test_is_the_amortized_guide_into_the_sign_family(self) -> None:
        model = self.make_model()
        torch.manual_seed(0)
        one = SignGuide(model, hidden=(8,), activation="tanh")
        torch.manual_seed(0)
        other = Amortized(model, family="sign", hidden=(8,), activation="tanh")
        x = torch.randn(5, 4)
        assert torch.equal(one.parameters_for(x), other.parameters_for(x))

    def test_its_oracle_starts_from_it(self) -> None:
        guide, x = SignGuide(self.make_model()), torch.randn(5, 4)
        oracle = PerDatum.from_amortized(guide, x)
        torch.testing.assert_close(oracle.parameters_for(x), guide.parameters_for(x))

    @pytest.mark.parametrize("permutation", ["gray-code", "random"])
    def test_the_true_inverse_leaves_nothing_to_gain(self, permutation: str) -> None:
        model = SignPermutation(latent_dim=4, permutation=permutation)
        guide, x = Inverting(model), model(size=20)
        terms = log_densities(model, guide, x, num_particles=50).log_weights
        with evaluating(model):
            evidence = model.log_evidence(x.double())
        assert (terms - evidence).abs().max() < 1e-5

    def test_the_true_inverse_has_no_total_variation(self) -> None:
        model = SignPermutation(latent_dim=4).double()
        guide, x = Inverting(model), model(size=20)
        signs = corners(torch.arange(16), 4).double()[:, None]
        log_half = Sign(4).distribution(torch.zeros(4)).log_prob(signs) + 4 * math.log(2)
        masses = [
            (q.log_prob(signs.expand(16, 20, 4)) - log_half).exp()
            for q in (guide.distribution(x), model.posterior(x))
        ]
        torch.testing.assert_close(masses[0].sum(0), torch.ones(20).double())
        assert 0.5 * (masses[0] - masses[1]).abs().sum(0).max() < 1e-6

    def test_even_signs_cost_one_bit_each(self) -> None:
        model = SignPermutation(latent_dim=4)
        posterior = model.posterior(model(size=20))
        surprise = -Sign(4).distribution(torch.zeros(4)).log_prob(posterior.sample((5000,)))
        half_normal = 0.5 * math.log(math.pi / 2) + 0.5
        error = surprise.std() / math.sqrt(surprise.numel())
        assert (surprise.mean() - 4 * (math.log(2) + half_normal)).abs() < 5 * error
