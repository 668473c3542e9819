"""The bound, Z and log p* of a coupled pair, against sums over every state."""

from __future__ import annotations

import math
from itertools import pairwise

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import (
    DataError,
    Estimate,
    EvidenceError,
    FactorisationError,
    IncompatiblePairError,
    SiteError,
)
from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics import bhattacharyya_squared, sqrt_weight_ess
from pyrolvm.inference.enumeration import layer_sums
from pyrolvm.inference.pstar.replicas import TwoReplicaSampler
from tests.inference.pstar.nets import random_pair


@pytest.fixture
def pstar(net):
    return lvm.PStar(net.model, net.guide, progress=False)


class TestBound:
    def test_its_mean_rises_from_the_elbo_to_the_limit(self, net, pstar):
        elbo = (net.log_guide.exp() * (net.log_joint - net.log_guide)).sum(1)
        repeats, means, errors = 600, [], []
        for num_particles in (1, 2, 10, 100):
            x = net.x.repeat(repeats, 1)
            found = pstar.log_bound(x, num_particles).reshape(repeats, -1)
            means.append(found.mean(0))
            errors.append(found.std(0) / repeats**0.5)
        assert ((means[0] - elbo).abs() < 4.5 * errors[0]).all()
        for small, large in pairwise(means):
            assert (large > small).all()
        assert (means[-1] < net.log_bound + 4 * errors[-1]).all()
        assert_close(pstar.log_bound(net.x, 20_000), net.log_bound, rtol=0, atol=0.12)

    def test_less_log_z_it_stays_below_log_pstar(self, net, pstar):
        """log p* ≥ E[L_K] − log Z² for every x, as E[L_K] grows towards its limit."""
        repeats = 4000
        for num_particles in (2, 10):
            found = pstar.log_prob(net.x.repeat(repeats, 1), num_particles).reshape(repeats, -1)
            error = found.std(0) / repeats**0.5
            log_pstar = net.log_bound - net.log_z2
            assert (found.mean(0) < log_pstar + 4 * error).all()
            assert (found.mean(0) < log_pstar - 4 * error).any()

    def test_overlap_from_draws_is_that_of_sums(self, net):
        found = lvm.log_densities(net.model, net.guide, net.x, num_particles=20_000).log_weights
        overlap = layer_sums(net.model, net.guide).overlap(net.x)
        value, error = bhattacharyya_squared(found, net.log_evidence)
        assert ((value - overlap).abs() < 5 * error).all()
        assert (error < 0.05).all()
        assert (sqrt_weight_ess(found) - overlap).abs().median() < 0.01

    def test_particles_in_parts_give_the_same(self, net, pstar, monkeypatch):
        monkeypatch.setattr("pyrolvm.inference.pstar.pstar.PARTICLES_TIMES_DATA", 16 * 100)
        assert_close(pstar.log_bound(net.x, 10_050), net.log_bound, rtol=0, atol=0.25)

    def test_seeds_and_types(self, net):
        pstar = lvm.PStar(net.model, net.guide)
        found = []
        for x in (net.x, net.x.float(), net.x):
            torch.manual_seed(3)
            found.append(pstar.log_prob(x, 20))
        assert found[0].dtype == torch.float64
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    @pytest.mark.parametrize("bad", [0.5, math.nan])
    def test_bad_values(self, net, pstar, bad):
        with pytest.raises(DataError):
            pstar.log_prob(torch.full_like(net.x, bad))

    def test_bad_shapes_and_numbers(self, net, pstar):
        with pytest.raises(DataError, match=r"\(N, 4\)"):
            pstar.log_bound(torch.zeros(2, 5))
        with pytest.raises(SettingError, match="num_particles"):
            pstar.log_bound(net.x, 0)


class TestZ:
    @pytest.mark.parametrize("num_inner", [1, 10])
    def test_sampled_and_exact_agree(self, net, pstar, num_inner):
        found = pstar.log_z2(20_000, num_inner, method="sampled")
        assert found.method == "sampled"
        assert 0 < found.standard_error < 0.05
        assert abs(found.value - net.log_z2.item()) < 4 * found.standard_error

    def test_its_error_is_that_of_repeated_estimates(self, pstar):
        found = [pstar.log_z2(500, 2, method="sampled") for _ in range(60)]
        spread = torch.tensor([each.value for each in found]).std().item()
        claimed = sum(each.standard_error for each in found) / len(found)
        assert claimed == pytest.approx(spread, rel=0.4)

    def test_auto_sums_where_it_can(self, net, pstar):
        found = pstar.log_z2()
        assert found == Estimate(pytest.approx(net.log_z2.item(), abs=1e-12), 0.0, "exact")

    def test_a_net_of_the_size_of_nltcs(self):
        model, guide = random_pair((8, 6, 4), 16, reach=0.7)
        pstar = lvm.PStar(model, guide, progress=False)
        exact, sampled = pstar.log_z2(), pstar.log_z2(20_000, 5, method="sampled")
        assert (exact.method, sampled.method) == ("exact", "sampled")
        assert sampled.standard_error < 0.05
        assert abs(exact.value - sampled.value) < 4 * sampled.standard_error

    def test_log_prob_takes_the_last_estimate_until_a_parameter_moves(self, net, monkeypatch):
        model, guide = random_pair((3, 2), 4)
        pstar = lvm.PStar(model, guide)
        first = pstar.log_z2(1000, method="sampled")
        asked = []
        original = pstar.log_z2
        monkeypatch.setattr(pstar, "log_z2", lambda: asked.append(1) or original())
        torch.manual_seed(1)
        with_first = pstar.log_prob(net.x, 5)
        torch.manual_seed(1)
        assert_close(with_first, pstar.log_bound(net.x, 5) - first.value)
        assert not asked
        with torch.no_grad():
            next(guide.parameters()).add_(0.1)
        pstar.log_prob(net.x, 5)
        pstar.log_prob(net.x, 5)
        assert asked == [1]

    def test_it_asks_again_when_a_tensor_in_the_code_moves(self):
        weight = torch.tensor([2.0])

        def model(y=None):
            with pyro.plate("data", 50 if y is None else len(y)):
                z = pyro.sample("z", dist.Bernoulli(torch.tensor([0.4])).to_event(1))
                return pyro.sample("y", dist.Normal(z * weight, 1.0).to_event(1), obs=y)

        def guide(y):
            with pyro.plate("data", len(y)):
                pyro.sample("z", dist.Bernoulli(logits=y).to_event(1))

        pstar, zero = lvm.PStar(model, guide, progress=False), torch.zeros(1, 1)
        given = lvm.PStar(model, guide, progress=False)
        pstar.log_prob(zero, 10)
        weight.mul_(4)
        torch.manual_seed(0)
        found = pstar.log_prob(zero, 5000)
        wanted = given.log_bound(zero, 5000) - given.log_z2(20_000, method="sampled").value
        assert_close(found, wanted, rtol=0, atol=0.1)

    def test_sums_over_every_joint_state_have_to_be_asked_for(self, monkeypatch):
        model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=4)
        pstar = lvm.PStar(model, guides.Amortized(model, family="bernoulli"), progress=False)
        assert pstar.log_z2(100).method == "exact"
        monkeypatch.setattr("pyrolvm.inference.pstar.normaliser.JOINT_CELLS", 2**9 - 1)
        assert pstar.log_z2(100).method == "sampled"
        assert pstar.log_z2(method="exact").method == "exact"

    def test_a_given_estimate_is_used(self, net, pstar):
        torch.manual_seed(1)
        found = pstar.log_prob(net.x, 5, log_z2=Estimate(-2.0, 0.1, "sampled"))
        torch.manual_seed(1)
        assert_close(found, pstar.log_bound(net.x, 5) + 2.0)

    def test_refusals(self, net, pstar):
        with pytest.raises(SettingError, match="auto, exact, sampled, but it is 'magic'"):
            pstar.log_z2(method="magic")
        model = models.SigmoidBeliefNetwork(layers=(30, 20), obs_dim=6)
        with pytest.raises(EvidenceError, match="too wide"):
            lvm.PStar(model, guides.HelmholtzCoupled(model)).log_z2(method="exact")
        vae = models.VAE(2, 4, likelihood="bernoulli")
        with pytest.raises(IncompatiblePairError, match="its own data"):
            lvm.PStar(vae, guides.PerDatum(vae)).log_z2()


class TestExactGuide:
    """With one hidden unit the posterior's log odds are affine in x: q can be p(h | x)."""

    @pytest.fixture
    def pair(self):
        model, guide = random_pair((1,), 3)
        output, layer = model.layers["x"].network[-1], guide.layers["z_1"].network[-1]
        with torch.no_grad():
            weight, bias = output.weight[:, 0], output.bias
            layer.weight.copy_(weight[None])
            spread = torch.nn.functional.softplus
            layer.bias.copy_(model.top_logits - (spread(bias + weight) - spread(bias)).sum())
        return model, guide

    def test_pstar_is_p_and_z_is_one(self, pair):
        model, guide = pair
        pstar = lvm.PStar(model, guide)
        x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
        sampled = pstar.log_z2(100, 1, method="sampled")
        assert sampled.value == pytest.approx(0.0, abs=1e-12)
        assert pstar.log_z2().value == pytest.approx(0.0, abs=1e-12)
        wanted = lvm.log_evidence(model, x.double()).value.detach()
        assert_close(pstar.log_prob(x, num_particles=1), wanted, rtol=0, atol=1e-10)
        assert_close(layer_sums(model, guide).overlap(x), torch.ones(8).double())


class TestPosteriorDraws:
    def test_they_follow_the_geometric_mean(self, net, pstar):
        drawn = pstar.posterior_sample(net.x, 4000, num_particles=20_000)
        assert drawn["z_1"].shape == (4000, 16, 3)
        weight = torch.softmax((net.log_joint + net.log_guide) / 2, 1)
        for site, value in drawn.items():
            assert_close(value.mean(0), weight @ net.latents[site], rtol=0, atol=0.12)

    def test_rows_in_parts(self, net, pstar, monkeypatch):
        monkeypatch.setattr("pyrolvm.inference.pstar.resampling.PARTICLES_AT_ONCE", 50 * 3)
        assert pstar.posterior_sample(net.x, 7, num_particles=50)["z_2"].shape == (7, 16, 2)


class TestProgram:
    def test_it_scores_the_geometric_mean_at_every_latent(self, net, pstar):
        program = pstar.program()
        halves = (net.log_joint + net.log_guide) / 2
        for place in range(net.log_joint.shape[1]):
            rows = {site: v[place].expand(16, -1) for site, v in net.latents.items()}
            trace = poutine.trace(poutine.condition(program, data=rows)).get_trace(net.x)
            assert trace.log_prob_sum().item() == pytest.approx(halves[:, place].sum().item())

    def test_an_auxiliary_site_of_the_guide_is_refused(self):
        def guide(y):
            with pyro.plate("data", len(y)):
                u = pyro.sample("u", dist.Normal(y, 1.0), infer={"is_auxiliary": True})
                pyro.sample("z", dist.Normal(u, 0.6))

        with pytest.raises(SiteError, match="'u' beside"):
            lvm.PStar(plain_model, guide).program()(torch.zeros(3))

    def test_a_latent_outside_the_plate_is_refused(self):
        def model(y=None):
            mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
            with pyro.plate("data", 3):
                return pyro.sample("y", dist.Normal(mean, 1.0), obs=y)

        def guide(y):
            pyro.sample("mean", dist.Normal(0.2, 0.5))

        with pytest.raises(SiteError, match="'mean' lies in plates"):
            lvm.PStar(model, guide).program()(torch.zeros(3))

    def test_a_latent_of_an_inner_plate_is_refused_beside_one_outside(self):
        def program(y=None):
            with pyro.plate("data", 3, dim=-1):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                with pyro.plate("inner", 2, dim=-2):
                    pyro.sample("u", dist.Normal(z, 1.0))

        with pytest.raises(SiteError, match="'u' lies in plates"):
            lvm.PStar(program, program).program()(torch.zeros(3))

    def test_a_guide_that_leaves_a_latent_out_is_refused(self):
        with pytest.raises(SiteError, match="does not draw 'z'"):
            lvm.PStar(plain_model, lambda y: None).program()(torch.zeros(3))

    def test_what_the_guide_computes_for_the_record_does_not_count(self):
        def guide(y):
            with pyro.plate("data", len(y)):
                pyro.deterministic("twice", 2 * pyro.sample("z", dist.Normal(y / 2, 0.7)))

        rows = {"z": torch.tensor([0.3, -1.0, 0.1])}
        y = torch.tensor([0.5, 0.0, 2.0])
        program = lvm.PStar(plain_model, guide).program()
        wanted = sum(
            poutine.trace(poutine.condition(half, data=rows)).get_trace(y).log_prob_sum() / 2
            for half in (plain_model, guide)
        )
        trace = poutine.trace(poutine.condition(program, data=rows)).get_trace(y)
        assert_close(trace.log_prob_sum(), wanted)

    def test_scale_and_condition_give_the_same(self, net):
        rows = {site: value[5].expand(16, -1) for site, value in net.latents.items()}
        total = torch.zeros(())
        for program in (net.model, net.guide):
            halved = poutine.scale(poutine.condition(program, data=rows), scale=0.5)
            total = total + poutine.trace(halved).get_trace(net.x).log_prob_sum()
        wanted = (net.log_joint + net.log_guide)[:, 5].sum() / 2
        assert_close(total.detach(), wanted.detach())

    def test_pyro_enumerates_it(self):
        @config_enumerate
        def model(x=None):
            with pyro.plate("data", 1 if x is None else len(x)):
                z = pyro.sample("z", dist.Bernoulli(0.3))
                return pyro.sample("x", dist.Normal(z, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Bernoulli(logits=x))

        x = torch.tensor([0.4, -1.0])
        program = poutine.enum(lvm.PStar(model, guide).program(), first_available_dim=-2)
        trace = poutine.trace(program).get_trace(x)
        trace.compute_log_prob()
        sites = ("z", "x", "half_log_guide")
        total = sum(trace.nodes[name]["log_prob"] for name in sites)
        z = torch.tensor([[0.0], [1.0]])
        joint = dist.Bernoulli(0.3).log_prob(z) + dist.Normal(z, 1.0).log_prob(x)
        assert_close(total, (joint + dist.Bernoulli(logits=x).log_prob(z)) / 2)


def plain_model(x=None):
    with pyro.plate("data", 1 if x is None else len(x)):
        z = pyro.sample("z", dist.Normal(torch.zeros(()), 1.0))
        return pyro.sample("y", dist.Normal(z, 0.5), obs=x)


def plain_guide(y):
    with pyro.plate("data", len(y)):
        pyro.sample("z", dist.Normal(0.6 * y, 0.6))


class TestPlainPairs:
    """Two Gaussians: everything has a closed form."""

    @staticmethod
    def overlap(x):
        """BC of N(0.8 x, 0.2) and N(0.6 x, 0.36)."""
        spread = 0.2 + 0.36
        bc = (
            math.sqrt(2 * math.sqrt(0.2 * 0.36) / spread)
            * (-((0.2 * x) ** 2) / (4 * spread)).exp()
        )
        return bc.log() * 2

    def test_bound_and_z(self):
        pstar = lvm.PStar(plain_model, plain_guide, progress=False)
        x = torch.tensor([-1.0, 0.0, 2.5]).double()
        evidence = torch.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(x)
        wanted = evidence + self.overlap(x)
        assert_close(pstar.log_bound(x, 100_000), wanted, rtol=0, atol=0.02)
        grid = torch.linspace(-12, 12, 4001).double()
        density = torch.distributions.Normal(0.0, math.sqrt(1.25)).log_prob(grid)
        log_z2 = (density + self.overlap(grid)).logsumexp(0) + math.log(24 / 4000)
        found = pstar.log_z2(20_000)
        assert found.method == "sampled"
        assert abs(found.value - log_z2.item()) < 4 * found.standard_error
        assert_close(pstar.log_prob(x, 50_000), wanted - found.value, rtol=0, atol=0.03)

    def test_importance_draws(self):
        """p* ∝ N(x; 0, 1.25) exp(−(0.2 x)²/1.12) is a Gaussian."""
        torch.manual_seed(2)
        drawn = lvm.PStar(plain_model, plain_guide, progress=False).sample_by_importance(
            1500, oversample=40
        )
        precision = 1 / 1.25 + 2 * 2 * 0.04 / (4 * 0.56)
        assert drawn.shape == (1500,)
        assert drawn.var().item() == pytest.approx(1 / precision, rel=0.12)
        assert abs(drawn.mean().item()) < 0.12

    def test_a_model_with_fixed_batch_shapes_is_run_again_and_again(self):
        def model(x=None):
            rows = 3 if x is None else len(x)
            with pyro.plate("data", rows):
                z = pyro.sample("z", dist.Normal(torch.zeros(rows), 1.0))
                y = z if x is not None else torch.stack([z.reshape(rows)[i] for i in range(rows)])
                return pyro.sample("x", dist.Normal(y, 0.5), obs=x)

        found = lvm.PStar(model, plain_guide, progress=False).log_z2(60, 2)
        assert found.value < 0.2

    def test_a_continuous_model_of_the_zoo(self):
        model = models.LinearGaussian(2, 4)
        pstar = lvm.PStar(model, guides.Exact(model))
        x = model(size=3).detach()
        assert pstar.log_z2(50, 2).value == pytest.approx(0.0, abs=1e-9)
        assert_close(pstar.log_prob(x, 3), model.double().log_evidence(x.double()).detach())

    def test_refusals(self):
        def needs_data(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
                pyro.sample("x", dist.Normal(z, 0.5), obs=x)

        with pytest.raises(SiteError, match="runs without observations, but needs_data"):
            lvm.PStar(needs_data, plain_guide).log_z2(10)

        def outside(x=None):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            with pyro.plate("data", 1 if x is None else len(x)):
                return pyro.sample("x", dist.Normal(z, 0.5), obs=x)

        def guide_outside(x):
            pyro.sample("z", dist.Normal(x.mean(), 1.0))

        pair = lvm.PStar(outside, guide_outside)
        with pytest.raises(SiteError, match="'z' lies in None"):
            pair.log_z2(10)
        with pytest.raises(FactorisationError, match="log p"):
            pair.log_bound(torch.zeros(3))

        def far_guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Uniform(1000.0, 1001.0))

        far = lvm.PStar(plain_model, far_guide)
        with pyro.validation_enabled(False):
            with pytest.raises(EvidenceError, match="CoupledELBO"):
                far.log_z2(10)
            with pytest.raises(SiteError, match="CoupledELBO"):
                far.sample_by_importance(3)

        def other_guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("u", dist.Normal(x, 1.0))

        def guide_with_covariates(x, c):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(x + c, 1.0))

        for guide in (other_guide, guide_with_covariates):
            with pytest.raises(SiteError, match="z, y"):
                lvm.PStar(plain_model, guide).log_z2(10)

    def test_a_chain_guide_has_no_density_of_z(self):
        model = models.LinearGaussian(1, 3)
        with pytest.raises(IncompatiblePairError, match="whole chain"):
            lvm.PStar(model, guides.Langevin(model))


@pytest.mark.parametrize("layers", [(5, 2), (3, 2, 2), (3,)])
def test_a_guide_of_other_layers_is_refused(layers):
    model, _ = random_pair(layers, 4)
    _, guide = random_pair((3, 2), 4)
    with pytest.raises(IncompatiblePairError, match="made for layers"):
        lvm.PStar(model, guide)


def test_no_tensor_is_made_on_another_device():
    """The device meta stands for a GPU."""
    model, guide = (program.to("meta") for program in random_pair((3, 2), 4))
    sampler = TwoReplicaSampler(model, guide)
    state = sampler.ancestral(5)
    sampler.sweep(state, torch.ones(4, dtype=torch.bool, device="meta"))
    assert {t.device.type for t in (state.x, *state.layers)} == {"meta"}
    sums = layer_sums(model, guide)
    assert sums.num_states == 8
    pstar = lvm.PStar(model, guide, progress=False)
    given, mask = torch.ones(2, 4), torch.tensor([True, False, True, True])
    assert pstar.inpaint(given, mask, num_chains=3, sweeps=2).device.type == "meta"
