"""Discrete sites that are summed out, against sums by hand and Pyro's own enumerating bound."""

from __future__ import annotations

import itertools

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Delta,
    Geometric,
    Normal,
    OneHotCategorical,
)
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch.testing import assert_close

from pyrolvm.core import SiteError, log_densities
from pyrolvm.core.enumerated_evidence import log_evidence_by_enumeration
from pyrolvm.core.latent_space import latent_space

SHARES = torch.tensor([0.2, 0.5, 0.3])
LOCS = torch.tensor([-2.0, 0.0, 3.0])
MARK = {"enumerate": "parallel"}


def normal(value, loc, scale=1.0):
    loc, scale = torch.as_tensor(loc).double(), torch.as_tensor(scale).double()
    return torch.distributions.Normal(loc, scale).log_prob(value.double())


def nothing(*args, **named):
    """A guide for models without other latents."""


def mixture(x):
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", Categorical(SHARES), infer=MARK)
        pyro.sample("x", Normal(LOCS[k], 1.0), obs=x)


def latent_mixture(x):
    """A class decides where the latent lies and how precisely it is seen."""
    with pyro.plate("data", len(x)):
        k = pyro.sample("k", Categorical(SHARES), infer=dict(MARK))
        z = pyro.sample("z", Normal(LOCS[k], 1.0))
        pyro.sample("x", Normal(z, 0.5 + k), obs=x)


def broad(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Normal(x, 1.5))


@pytest.fixture
def x():
    return torch.tensor([-1.5, 0.2, 3.0, 8.0])


def by_class(log_prior_and_likelihood):
    """Sum over the class of (K, N) densities that a function gives for each."""
    terms = [SHARES[k].double().log() + log_prior_and_likelihood(k) for k in range(3)]
    return torch.stack(terms).logsumexp(0)


class TestPerDatum:
    def test_without_other_latents_every_weight_is_the_evidence(self, x):
        found = log_densities(mixture, nothing, x, num_particles=3)
        truth = by_class(lambda k: normal(x, LOCS[k]))
        assert found.factorises
        assert not found.prior
        assert_close(found.log_weights, truth.expand(3, 4), rtol=1e-6, atol=1e-6)

    def test_prior_and_likelihood_are_the_marginal_ones(self, x):
        found = log_densities(latent_mixture, broad, x, num_particles=6, keep_values=True)
        z = found.values["z"]
        prior = by_class(lambda k: normal(z, LOCS[k]))
        joint = by_class(lambda k: normal(z, LOCS[k]) + normal(x, z, 0.5 + k))
        assert list(found.prior) == ["z"]
        assert_close(found.prior["z"], prior, rtol=1e-6, atol=1e-6)
        assert_close(found.log_joint, joint, rtol=1e-6, atol=1e-6)

    def test_a_site_that_the_guide_samples_is_not_summed(self, x):
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("k", Categorical(torch.ones(3)))
                pyro.sample("z", Normal(x, 1.5))

        found = log_densities(latent_mixture, guide, x, num_particles=4, keep_values=True)
        k, z = found.values["k"], found.values["z"]
        joint = SHARES.double().log()[k] + normal(z, LOCS[k]) + normal(x, z, 0.5 + k)
        assert set(found.prior) == {"k", "z"}
        assert_close(found.log_joint, joint, rtol=1e-6, atol=1e-6)

    def test_chunks_and_single_runs_give_the_same(self, x):
        def stubborn(x):
            with pyro.plate("data", 4):
                k = pyro.sample("k", Categorical(SHARES), infer=MARK)
                z = pyro.sample("z", Normal(LOCS[k], 1.0))
                pyro.sample("x", Normal(z.reshape(-1)[-4:], 1.0), obs=x)

        with pytest.warns(UserWarning, match="one after another"):
            found = log_densities(stubborn, broad, x, num_particles=5, keep_values=True)
        z = found.values["z"]
        truth = by_class(lambda k: normal(z, LOCS[k])) + normal(x, z)
        assert_close(found.log_joint, truth, rtol=1e-6, atol=1e-6)

    def test_a_site_in_a_plate_inside_the_data_plate(self):
        x = torch.randn(4, 3)

        def model(x):
            with pyro.plate("data", 4, dim=-2):
                z = pyro.sample("z", Normal(0.0, 1.0))
                with pyro.plate("features", 3, dim=-1):
                    k = pyro.sample("k", Categorical(SHARES), infer=MARK)
                    pyro.sample("x", Normal(z + LOCS[k], 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", 4, dim=-2):
                pyro.sample("z", Normal(0.0, 1.0))

        found = log_densities(model, guide, x, num_particles=5, keep_values=True)
        z = found.values["z"][..., None]
        truth = by_class(lambda k: normal(x, z + LOCS[k])).sum(-1)
        assert_close(found.likelihood["x"], truth, rtol=1e-6, atol=1e-6)

    def test_a_class_with_several_observed_plates(self):
        """Sums outside products: the class is shared by all features of a datum."""
        x = torch.randn(4, 3)

        def model(x):
            with pyro.plate("data", 4, dim=-2):
                k = pyro.sample("k", OneHotCategorical(SHARES), infer=MARK)
                with pyro.plate("features", 3, dim=-1):
                    pyro.sample("x", Normal((k * LOCS).sum(-1), 1.0), obs=x)
                pyro.sample("y", Normal((k * LOCS).sum(-1), 2.0), obs=x[:, :1])

        found = log_densities(model, nothing, x, num_particles=2)
        truth = by_class(lambda k: normal(x, LOCS[k]).sum(-1) + normal(x[:, 0], LOCS[k], 2.0))
        assert_close(found.log_joint, truth.expand(2, 4), rtol=1e-6, atol=1e-6)
        assert not found.likelihood["y"].any()

    def test_masked_observations_count_nothing(self, x):
        seen = torch.tensor([True, False, True, False])

        def masked(x):
            with pyro.plate("data", len(x)), poutine.mask(mask=seen):
                k = pyro.sample("k", Categorical(SHARES), infer=MARK)
                pyro.sample("x", Normal(LOCS[k], 1.0), obs=x)

        found = log_densities(masked, nothing, x, num_particles=1)
        truth = by_class(lambda k: normal(x, LOCS[k]))
        assert_close(found.log_joint[0], torch.where(seen, truth, 0.0), rtol=1e-6, atol=1e-6)

    def test_the_scale_of_a_minibatch_is_left_out(self, x):
        def model(x):
            with pyro.plate("data", 100, subsample=torch.arange(4)):
                k = pyro.sample("k", Categorical(SHARES), infer=MARK)
                pyro.sample("x", Normal(LOCS[k], 1.0), obs=x)

        found = log_densities(model, nothing, x, num_particles=1)
        assert_close(found.log_joint[0], by_class(lambda k: normal(x, LOCS[k])))


STEPS = 6
START = torch.tensor([0.6, 0.4])
MOVES = torch.tensor([[0.7, 0.3], [0.1, 0.9]])
EMITTED = torch.tensor([-1.0, 1.5])


def markov_chain(x):
    state = None
    with pyro.plate("data", len(x)):
        for t in pyro.markov(range(x.shape[1])):
            chances = START if state is None else MOVES[state]
            state = pyro.sample(f"state_{t}", Categorical(chances), infer=MARK)
            pyro.sample(f"x_{t}", Normal(EMITTED[state], 1.0), obs=x[:, t])


def chain_by_hand(x):
    x, total = x.double(), []
    for path in itertools.product(range(2), repeat=x.shape[1]):
        first = START.double()[path[0]].log()
        moves = sum(MOVES.double()[a, b].log() for a, b in itertools.pairwise(path))
        total.append(first + moves + normal(x, EMITTED[list(path)]).sum(-1))
    return torch.stack(total).logsumexp(0)


class TestChains:
    def test_a_hidden_markov_model_has_its_forward_evidence(self):
        x = torch.randn(3, STEPS)
        found = log_densities(markov_chain, nothing, x, num_particles=2)
        assert_close(found.log_joint, chain_by_hand(x).expand(2, 3), rtol=1e-6, atol=1e-6)

    def test_a_long_chain_costs_what_its_forward_algorithm_costs(self):
        x = torch.randn(2, 100)
        state = START.double().log() + normal(x[:, :1], EMITTED)
        for t in range(1, 100):
            moved = (state[:, :, None] + MOVES.double().log()).logsumexp(1)
            state = moved + normal(x[:, t : t + 1], EMITTED)
        found = log_evidence_by_enumeration(markov_chain, x)
        assert_close(found, state.logsumexp(-1), rtol=1e-6, atol=1e-5)


class TestOneDatum:
    def test_pyros_enumerating_bound_agrees_on_a_mixture_with_unknown_weights(self, x):
        @config_enumerate
        def model(x):
            share = pyro.sample("share", pyro.distributions.Beta(2.0, 3.0))
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", Bernoulli(share))
                pyro.sample("x", Normal(4 * k, 1.0), obs=x)

        def guide(x):
            pyro.sample("share", Delta(torch.tensor(0.3), log_density=0.25))

        found = log_densities(model, guide, x, num_particles=2)
        assert found.global_sites[0] == "share"
        bound = -TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide, x)
        assert_close(found.log_weights[:, 0], torch.full((2,), bound).double())

    def test_a_class_outside_the_plate_is_shared_by_all_data(self, x):
        def model(x):
            k = pyro.sample("k", Categorical(SHARES), infer=MARK)
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(LOCS[k], 1.0), obs=x)

        found = log_densities(model, nothing, x, num_particles=2)
        truth = by_class(lambda k: normal(x, LOCS[k]).sum())
        assert found.global_sites == ("k",)
        assert_close(found.log_joint, truth.expand(2, 1), rtol=1e-6, atol=1e-6)


class TestLatentSpace:
    @pytest.mark.parametrize("marked", [True, False])
    def test_densities_and_gradients_are_those_of_the_sum(self, marked, x):
        model = latent_mixture if marked else poutine.infer_config(latent_mixture, _unmarked)
        with latent_space(model, x) as space:
            points = torch.randn(5, 4, 1, dtype=torch.float64)
            density, slope = space.gradient(points)
            z = points.clone().requires_grad_()
            with torch.enable_grad():
                at = z[..., 0]
                joint = by_class(lambda k: normal(at, LOCS[k]) + normal(x, at, 0.5 + k))
                (truth,) = torch.autograd.grad(joint.sum(), z)
            assert space.names == ("z",)
            assert_close(density, joint.detach(), rtol=1e-6, atol=1e-6)
            assert_close(slope, truth, rtol=1e-6, atol=1e-6)

    def test_prior_draws_are_those_of_the_mixture(self, x):
        with latent_space(latent_mixture, x) as space:
            z = space.prior_points(4000)[..., 0]
        mean = (SHARES * LOCS).sum().double()
        spread = ((SHARES * LOCS**2).sum().double() - mean**2 + 1).sqrt()
        assert z.shape == (4000, 4)
        assert abs(z.mean() - mean) < 5 * spread / z.numel() ** 0.5

    def test_a_count_without_bound_is_refused_by_name(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", Geometric(0.5))
                pyro.sample("x", Normal(k, 1.0), obs=x)

        with (
            pytest.raises(SiteError, match=r"'k' is discrete \(Geometric\)"),
            latent_space(model, x),
        ):
            pass


def _unmarked(site):
    return {"enumerate": None}


class TestEvidence:
    def test_it_is_the_sum_over_all_joint_values(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", Bernoulli(0.3))
                b = pyro.sample("b", Categorical(SHARES))
                pyro.sample("x", Normal(a + LOCS[b], 1.0), obs=x)

        chances = torch.tensor([0.7, 0.3]).double().log()
        truth = torch.stack(
            [chances[a] + by_class(lambda b, a=a: normal(x, a + LOCS[b])) for a in range(2)]
        ).logsumexp(0)
        assert_close(log_evidence_by_enumeration(model, x), truth, rtol=1e-6, atol=1e-6)

    def test_a_continuous_latent_has_none(self, x):
        assert log_evidence_by_enumeration(latent_mixture, x) is None

    def test_too_many_joint_values_have_none(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                bits = [pyro.sample(f"b{i}", Bernoulli(0.5)) for i in range(21)]
                pyro.sample("x", Normal(sum(bits), 1.0), obs=x)

        assert log_evidence_by_enumeration(model, x) is None


class TestRefusals:
    def test_an_unmarked_site_is_told_how_to_be_summed(self, x):
        model = poutine.infer_config(latent_mixture, _unmarked)
        with pytest.raises(SiteError, match=r"'k', but the guide.*\"enumerate\": \"parallel\""):
            log_densities(model, broad, x)

    @pytest.mark.parametrize("read", [lambda k: k.reshape(4), lambda k: k.cumsum(-1)])
    def test_a_model_that_cannot_broadcast_is_named_with_its_site(self, read, x):
        """The second one would return wrong numbers without an error."""

        def model(x):
            with pyro.plate("data", 4):
                k = pyro.sample("k", Bernoulli(torch.tensor([1.0, 0.0, 0.0, 0.0])), infer=MARK)
                pyro.sample("x", Normal(read(k), 1.0), obs=x)

        with pytest.raises(SiteError, match=r"discrete site 'k'.*all its values at once"):
            log_densities(model, nothing, x)

    def test_a_site_without_common_support_is_named(self, x):
        def model(x):
            with pyro.plate("data", 4):
                k = pyro.sample("k", Binomial(torch.tensor([1.0, 2.0, 3.0, 4.0]), 0.5), infer=MARK)
                pyro.sample("x", Normal(k, 1.0), obs=x)

        with pytest.raises(SiteError, match=r"'k' \(Binomial\) cannot be summed out"):
            log_densities(model, nothing, x)

    def test_unequal_scales_are_refused(self, x):
        def model(x):
            with pyro.plate("data", 4):
                k = pyro.sample("k", Bernoulli(0.5), infer=MARK)
                with poutine.scale(scale=2.0):
                    pyro.sample("x", Normal(k, 1.0), obs=x)

        with pytest.raises(SiteError, match="scaled unequally"):
            log_densities(model, nothing, x)

    def test_plates_that_cross_are_refused(self):
        x = torch.randn(2, 3)

        def model(x):
            rows, columns = pyro.plate("rows", 2, dim=-2), pyro.plate("columns", 3, dim=-1)
            with rows:
                a = pyro.sample("a", Bernoulli(0.5), infer=MARK)
            with columns:
                b = pyro.sample("b", Bernoulli(0.5), infer=MARK)
            with rows, columns:
                pyro.sample("x", Normal(a + b, 1.0), obs=x)

        with pytest.raises(SiteError, match=r"plates that\s+cross|plates that cross"):
            log_densities(model, nothing, x)
