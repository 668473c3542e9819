"""SignPermutation against enumeration, quadrature and brute force."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core import evaluating, log_densities
from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.guides import Exact
from pyrolvm.models import SignPermutation
from pyrolvm.nn.permutations import PERMUTATIONS, corner_numbers, corners
from pyrolvm.testing import ModelContract


class TestSignPermutation(ModelContract):
    def make(self):
        return SignPermutation(latent_dim=4, permutation="random")

    @pytest.mark.parametrize("permutation", PERMUTATIONS)
    @pytest.mark.parametrize("noise_scale", [0.1, 0.7])
    def test_the_evidence_is_the_sum_over_all_code_words(self, permutation, noise_scale):
        model = SignPermutation(4, permutation, noise_scale).double()
        x = 1.5 * torch.randn(20, 4).double()
        assert_close(model.log_evidence(x), enumerated(model, x).logsumexp(-1), rtol=0, atol=1e-9)

    def test_the_evidence_is_the_mean_likelihood_under_the_prior(self):
        model = SignPermutation(4, noise_scale=0.5).double()
        x = model(size=5)
        with evaluating(model):
            z = model.prior().sample((200_000,))
            likelihood = model.likelihood(z).log_prob(x[:, None]).exp()
        error = likelihood.std(-1) / math.sqrt(200_000)
        truth = model.log_evidence(x).exp()
        assert ((likelihood.mean(-1) - truth).abs() < 5 * error).all()

    @pytest.mark.parametrize("permutation", PERMUTATIONS)
    def test_every_draw_of_the_posterior_weighs_the_evidence(self, permutation):
        model = SignPermutation(4, permutation, noise_scale=0.8)
        x = model(size=6)
        found = log_densities(model, Exact(model), x, num_particles=50).log_weights
        assert_close(found, model.log_evidence(x).expand(50, 6), rtol=0, atol=1e-5)

    def test_the_posterior_integrates_to_one(self):
        model = SignPermutation(2, noise_scale=0.8).double()
        axis = torch.linspace(-8, 8, 801, dtype=torch.float64)
        middles = (axis[1:] + axis[:-1]) / 2
        z = torch.cartesian_prod(middles, middles)
        density = model.posterior(model(size=5)).log_prob(z[:, None]).exp()
        assert_close(density.sum(0) * 0.02**2, torch.ones(5).double(), rtol=0, atol=1e-4)

    def test_draws_have_the_enumerated_sign_patterns(self):
        model = SignPermutation(3, "random", noise_scale=0.9).double()
        x = model(size=4)
        z = model.posterior(x).sample((40_000,))
        truth = enumerated(model, x).softmax(-1)
        share = torch.nn.functional.one_hot(corner_numbers(z), 8).double().mean(0)
        error = (truth * (1 - truth) / 40_000).sqrt()
        assert ((share - truth).abs() < 5 * error + 1e-9).all()

    def test_magnitudes_of_draws_are_half_normal(self):
        z = SignPermutation(3).posterior(torch.ones(1, 3)).sample((40_000,))
        error = math.sqrt((1 - 2 / math.pi) / 40_000)
        assert ((z.abs().mean((0, 1)) - math.sqrt(2 / math.pi)).abs() < 5 * error).all()

    def test_particles_expand_the_posterior(self):
        posterior = SignPermutation(3).posterior(torch.randn(5, 3))
        drawn = posterior.expand((7, 5)).sample((2,))
        assert drawn.shape == (2, 7, 5, 3)
        assert posterior.expand((7, 5)).log_prob(drawn).shape == (2, 7, 5)
        assert_close(posterior.log_prob(drawn), posterior.expand((7, 5)).log_prob(drawn))

    @pytest.mark.parametrize("permutation", PERMUTATIONS)
    def test_at_small_noise_the_nearest_code_word_tells_the_signs(self, permutation):
        model = SignPermutation(8, permutation).double()
        z = torch.randn(500, 8).double()
        with evaluating(model):
            x = model.likelihood(z).sample()
            probability = model.posterior(x).sample((20,))
        assert torch.equal(model.signs_of(x), z.sign())
        assert torch.equal(probability.sign(), z.sign().expand(20, -1, -1))

    def test_code_words_are_in_the_order_of_the_sign_patterns(self):
        model = SignPermutation(4, "random")
        patterns = corners(torch.arange(16), 4)
        assert torch.equal(model.generate(patterns), model.codewords)

    def test_the_likelihood_has_no_gradient(self):
        z = torch.randn(5, 4, requires_grad=True)
        assert not self.make().generate(z).requires_grad

    def test_it_has_no_parameters(self):
        assert list(self.make().parameters()) == []

    def test_the_seed_draws_the_permutation(self):
        one, two, other = (SignPermutation(4, "random", seed=seed).images for seed in (0, 0, 1))
        assert torch.equal(one, two)
        assert not torch.equal(one, other)

    @pytest.mark.parametrize("dim", [0, 17])
    def test_tables_of_any_size_are_refused(self, dim):
        with pytest.raises(SettingError, match=f"d from 1 to 16, but d is {dim}"):
            SignPermutation(dim)

    def test_an_unknown_permutation_gets_the_nearest_known_one(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'gray-code'"):
            SignPermutation(4, "grey-code")


def enumerated(model, x):
    """log p(x, s) for each sign pattern s, shape (N, 2^d)."""
    noise = torch.distributions.Normal(model.codewords, model.noise_scale)
    return noise.log_prob(x[:, None]).sum(-1) - model.latent_dim * math.log(2)
