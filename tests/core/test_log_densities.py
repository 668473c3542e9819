"""Log densities of pairs against hand sums in double precision."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Categorical, Delta, Normal
from torch.testing import assert_close

from pyrolvm import guides, models
from pyrolvm.core import DataError, FactorisationError, Model, SiteError
from pyrolvm.core import log_densities as run


def normal(value, loc, scale):
    """Log density in double precision."""
    loc, scale = torch.as_tensor(loc).double(), torch.as_tensor(scale).double()
    return torch.distributions.Normal(loc, scale).log_prob(value.double())


class TestOneLatent:
    def test_every_term_is_the_hand_sum(self, pair, x):
        found = run(*pair, x, num_particles=7, keep_values=True)
        z = found.values["z"]
        assert z.shape == (7, 5)
        assert_close(found.prior["z"], normal(z, 0.0, 1.0))
        assert_close(found.guide["z"], normal(z, 0.3 * x.double().mean(-1), 0.7))
        assert_close(found.likelihood["x"], normal(x.double(), z[..., None], 0.5).sum(-1))

    def test_weights_are_joint_minus_guide(self, pair, x):
        found = run(*pair, x, num_particles=4)
        joint = found.prior["z"] + found.likelihood["x"]
        assert_close(found.log_weights, joint - found.guide["z"])
        assert found.log_weights.dtype == torch.float64
        assert found.factorises

    def test_no_values_unless_asked(self, pair, x):
        assert not run(*pair, x, num_particles=2).values

    @pytest.mark.parametrize("number", [1, 4, 30])
    def test_a_number_keeps_the_first_draws_and_nothing_else(self, pair, x, number):
        def seeded(keep_values):
            torch.manual_seed(0)  # seven chunks of three particles
            return run(*pair, x, num_particles=20, keep_values=keep_values, chunk_elements=4200)

        few, every = seeded(number), seeded(True)
        assert torch.equal(few.log_weights, every.log_weights)
        assert torch.equal(few.values["z"], every.values["z"][:number])
        assert few.values["z"].untyped_storage().nbytes() == 8 * 5 * min(number, 20)

    def test_draws_differ_between_particles_and_data(self, pair, x):
        z = run(*pair, x, num_particles=4, keep_values=True).values["z"]
        assert len(z.unique()) == z.numel()

    def test_arguments_by_name_are_covariates(self, x):
        def model(x, u):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(u, 1.0))
                pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

        def guide(x, u):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(u + 1.0, 1.0))

        u = torch.randn(5)
        found = run(model, guide, {"u": u, "x": x}, num_particles=3, keep_values=True)
        assert_close(found.prior["z"], normal(found.values["z"], u.double(), 1.0))

    def test_the_same_seed_gives_the_same_draws(self, pair, x):
        torch.manual_seed(4)
        first = run(*pair, x, num_particles=3).log_weights
        torch.manual_seed(4)
        assert torch.equal(first, run(*pair, x, num_particles=3).log_weights)


class TestSeveralSites:
    def test_discrete_and_continuous_sites_are_kept_apart(self):
        x = torch.randn(6)

        def model(x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", Categorical(torch.tensor([0.2, 0.8])))
                z = pyro.sample("z", Normal(2.0 * k, 1.0))
                b = pyro.sample("b", Bernoulli(0.3))
                pyro.sample("x", Normal(z + b, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("k", Categorical(torch.tensor([0.5, 0.5])))
                pyro.sample("z", Normal(x, 1.0))
                pyro.sample("b", Bernoulli(0.6))

        found = run(model, guide, x, num_particles=9, keep_values=True)
        k, z, b = (found.values[name].double() for name in "kzb")
        share = torch.tensor([0.2, 0.8], dtype=torch.float64)
        assert list(found.prior) == ["k", "z", "b"]
        assert_close(found.prior["k"], share[k.long()].log(), rtol=1e-6, atol=1e-6)
        assert_close(found.prior["z"], normal(z, 2.0 * k, 1.0))
        assert_close(found.likelihood["x"], normal(x, z + b, 1.0))

    def test_nested_plates_are_summed_out(self):
        x = torch.randn(4, 3)

        def model(x):
            with pyro.plate("data", 4, dim=-2):
                z = pyro.sample("z", Normal(0.0, 1.0))
                with pyro.plate("features", 3, dim=-1):
                    w = pyro.sample("w", Normal(z, 1.0))
                    pyro.sample("x", Normal(w, 1.0), obs=x)

        def guide(x):
            with pyro.plate("data", 4, dim=-2):
                pyro.sample("z", Normal(1.0, 1.0))
                with pyro.plate("features", 3, dim=-1):
                    pyro.sample("w", Normal(x, 2.0))

        found = run(model, guide, x, num_particles=5, keep_values=True)
        z, w = found.values["z"], found.values["w"]
        assert z.shape == (5, 4)
        assert w.shape == (5, 4, 3)
        assert_close(found.prior["w"], normal(w, z[..., None], 1.0).sum(-1))
        assert_close(found.guide["w"], normal(w, x, 2.0).sum(-1))

    def test_auxiliary_sites_count_in_the_guide(self, pair, x):
        model, _ = pair

        def guide(x):
            with pyro.plate("data", len(x)):
                a = pyro.sample("a", Normal(0.0, 2.0), infer={"is_auxiliary": True})
                pyro.sample("z", Normal(a, 1.0))

        found = run(model, guide, x, num_particles=3)
        assert set(found.guide) == {"a", "z"}
        assert set(found.prior) == {"z"}

    def test_factors_count_on_their_side(self, x):
        def penalised(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])
                pyro.factor("penalty", torch.full((len(x),), -2.0))

        def corrected(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(0.0, 1.0))
                pyro.factor("correction", torch.full((len(x),), 0.5), has_rsample=True)

        found = run(penalised, corrected, x, num_particles=3)
        assert_close(found.likelihood["penalty"], torch.full((3, 5), -2.0).double())
        assert_close(found.guide["correction"], torch.full((3, 5), 0.5).double())

    def test_deterministic_sites_have_no_density(self, pair, x):
        model, guide = pair

        def named(x):
            model(x)
            pyro.deterministic("mean", x.mean())

        assert set(run(named, guide, x, num_particles=2).likelihood) == {"x"}


class TestMasks:
    def test_a_masked_row_has_no_likelihood(self, pair, x):
        _, guide = pair
        seen = torch.tensor([True, False, True, True, False])

        def masked(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                with poutine.mask(mask=seen):
                    pyro.sample("x", Normal(z, 0.5), obs=x[:, 0])

        found = run(masked, guide, x, num_particles=3, keep_values=True)
        full = normal(x[:, 0], found.values["z"], 0.5)
        assert_close(found.likelihood["x"], torch.where(seen, full, 0.0))

    def test_a_masked_distribution_leaves_out_its_features(self, pair, x):
        _, guide = pair
        seen = torch.rand(5, 3) < 0.5

        def masked(x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z[..., None], 0.5).mask(seen).to_event(1), obs=x)

        found = run(masked, guide, x, num_particles=3, keep_values=True)
        full = normal(x, found.values["z"][..., None], 0.5)
        assert_close(found.likelihood["x"], torch.where(seen, full, 0.0).sum(-1))


class TestSubsampling:
    @staticmethod
    def pair(size):
        def model(x):
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x[rows])

        def guide(x):
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                pyro.sample("z", Normal(x[rows], 0.7))

        return model, guide

    def test_the_scale_is_left_out_per_datum(self):
        x = torch.randn(12)
        found = run(*self.pair(4), x, num_particles=6, keep_values=True)
        assert found.log_weights.shape == (6, 4)
        assert_close(found.prior["z"], normal(found.values["z"], 0.0, 1.0))

    def test_all_particles_see_the_same_rows(self):
        x = torch.arange(12.0) * 100
        found = run(*self.pair(4), x, num_particles=6, keep_values=True, chunk_elements=1)
        rows = (found.values["z"] / 100).round()
        assert torch.equal(rows, rows[:1].expand(6, 4))

    def test_the_scale_is_kept_where_the_data_set_is_one_datum(self):
        x = torch.randn(12)

        def model(x):
            w = pyro.sample("w", Normal(0.0, 1.0))
            with pyro.plate("data", 12, subsample_size=4) as rows:
                pyro.sample("x", Normal(w, 1.0), obs=x[rows])

        def guide(x):
            pyro.sample("w", Normal(0.0, 1.0))

        found = run(model, guide, torch.full_like(x, 0.5), num_particles=5, keep_values=True)
        w = found.values["w"]
        assert found.global_sites == ("w",)
        assert_close(found.likelihood["x"][:, 0], 12 * normal(torch.tensor(0.5), w, 1.0))

    def test_minibatches_scaled_by_hand_are_per_datum(self):
        batch = torch.randn(4)

        def model(x):
            with pyro.plate("data", 100, subsample_size=4, subsample=torch.arange(4)):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        def guide(x):
            with pyro.plate("data", 100, subsample_size=4, subsample=torch.arange(4)):
                pyro.sample("z", Normal(x, 0.7))

        found = run(model, guide, batch, num_particles=2, keep_values=True)
        assert_close(found.likelihood["x"], normal(batch, found.values["z"], 0.5))


class TestGlobalSites:
    @staticmethod
    def model(x):
        w = pyro.sample("w", Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(w[..., 0], 1.0))
            pyro.sample("x", Normal(z + w[..., 1], 1.0), obs=x[:, 0])

    @staticmethod
    def guide(x):
        pyro.sample("w", Normal(torch.ones(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(x[:, 0], 1.0))

    def test_the_data_set_is_one_datum(self, x):
        found = run(self.model, self.guide, x, num_particles=4, keep_values=True)
        w, z = found.values["w"], found.values["z"]
        assert found.global_sites == ("w",)
        assert w.shape == (4, 2)
        assert z.shape == (4, 5)
        assert_close(found.prior["z"], normal(z, w[:, :1], 1.0).sum(1, keepdim=True))

    def test_a_number_of_draws_counts_for_each_row(self, x):
        found = run(self.model, self.guide, x, num_particles=20, keep_values=2)
        assert found.values["w"].shape == (10, 2)
        assert found.values["z"].shape == (10, 5)

    def test_per_datum_quantities_are_refused_by_name(self, x):
        found = run(self.model, self.guide, x, num_particles=2)
        with pytest.raises(FactorisationError, match=r"The rate per datum .*'w'.*plate 'data'"):
            found.require_per_datum("The rate")

    def test_values_of_single_runs_have_the_same_shape(self, x):
        def stubborn(x):
            w = pyro.sample("w", Normal(torch.zeros(2), 1.0).to_event(1))
            assert w.shape == (2,)
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(w.sum(), 1.0), obs=x[:, 0])

        def plain(x):
            w = pyro.sample("w", Normal(torch.zeros(2), 1.0).to_event(1))
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(w.sum(-1), 1.0), obs=x[:, 0])

        def guide(x):
            pyro.sample("w", Normal(torch.zeros(2), 1.0).to_event(1))

        with pytest.warns(UserWarning, match="one after another"):
            alone = run(stubborn, guide, x, num_particles=3, keep_values=True)
        together = run(plain, guide, x, num_particles=3, keep_values=True)
        assert alone.values["w"].shape == together.values["w"].shape == (3, 2)

    def test_an_own_pair_with_a_global_site_is_not_cut_into_rows(self):
        class Global(Model):
            latent_sites = ("w",)
            latent_dim, obs_dim = 1, 1

            def forward(self, x=None, *, size=None):
                w = pyro.sample("w", Normal(0.0, 1.0))
                with pyro.plate("data", self.batch_size(x, size)):
                    return pyro.sample("x", Normal(w[..., None], 1.0).to_event(1), obs=x)

        class GlobalGuide(guides.Amortized):
            def forward(self, x=None, *, size=None):
                pyro.sample("w", Normal(0.0, 1.0))

        model = Global()
        found = run(model, GlobalGuide(model), torch.randn(50, 1), chunk_elements=9000)
        assert found.log_weights.shape == (100, 1)


class TestNotBatchSafe:
    def test_it_is_run_one_by_one_with_right_values(self, x):
        def model(x):
            with pyro.plate("data", 5):
                z = pyro.sample("z", Normal(0.0, 1.0))
                mean = z.reshape(-1)[:5]  # silently takes the first particle for all
                pyro.sample("x", Normal(mean, 0.5), obs=x[:, 0])

        def guide(x):
            with pyro.plate("data", 5):
                pyro.sample("z", Normal(x[:, 0], 1.0))

        with pytest.warns(UserWarning, match="one after another"):
            found = run(model, guide, x, num_particles=6, keep_values=True)
        assert_close(found.likelihood["x"], normal(x[:, 0], found.values["z"], 0.5))
        assert found.values["z"].shape == (6, 5)


class TestChunks:
    def test_shapes_do_not_depend_on_chunks(self):
        model = models.VAE(2, 6, hidden=(8,))
        guide = guides.Amortized(model, "full", hidden=(8,))
        x = model(size=33).detach()
        found = run(model, guide, x, num_particles=17, keep_values=True, chunk_elements=20_000)
        assert found.values["z"].shape == (17, 33, 2)
        assert found.log_weights.shape == (17, 33)

    def test_chunks_do_not_change_an_exact_guides_weights(self):
        model = models.LinearGaussian(2, 4)
        x = model(size=23).detach()
        found = run(model, guides.Exact(model), x, num_particles=9, chunk_elements=10_000)
        assert_close(found.log_weights, model.double().log_evidence(x.double()).expand(9, 23))

    @pytest.mark.parametrize(("num_particles", "rows"), [(20_000, 4), (20, 4_000)])
    def test_no_tensor_outgrows_the_chunk(self, num_particles, rows):
        model = models.LinearGaussian(2, 64)
        sizes = []
        model.decoder.register_forward_hook(lambda m, i, out: sizes.append(out.numel()))
        x = model(size=rows).detach()
        guide = guides.Amortized(model, hidden=())
        run(model, guide, x, num_particles=num_particles, chunk_elements=2**18)
        assert max(sizes) <= 2**18


class TestRefusals:
    def test_a_site_without_guide_is_named(self, pair, x):
        def empty(x):
            pass

        with pytest.raises(SiteError, match=r"latent site 'z', but the guide does not"):
            run(pair[0], empty, x)

    def test_a_site_without_model_is_named(self, pair, x):
        def extra(x):
            pair[1](x)
            pyro.sample("y", Normal(0.0, 1.0))

        with pytest.raises(SiteError, match=r"guide samples the site 'y'.*is_auxiliary"):
            run(pair[0], extra, x)

    def test_another_shape_is_named_with_both(self, x):
        def model(x):
            with pyro.plate("data", 5):
                z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
                pyro.sample("x", Normal(z @ torch.ones(2, 3), 1.0).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", 5):
                pyro.sample("z", Normal(torch.zeros(4), 1.0).to_event(1))

        with pytest.raises(SiteError, match=r"'z' has shape \(5, 2\) in the model.*\(5, 4\)"):
            run(model, guide, x)

    def test_a_shape_that_only_broadcasts_is_refused(self, pair, x):
        def scalar(x):
            pyro.sample("z", Normal(0.0, 1.0))

        with pytest.raises(SiteError, match=r"'z' has shape \(5,\)"):
            run(pair[0], scalar, x)

    def test_a_model_that_observes_nothing_is_refused(self, pair, x):
        def prior(x):
            with pyro.plate("data", 5):
                pyro.sample("z", Normal(0.0, 1.0))

        with pytest.raises(SiteError, match=r"observed site.*obs="):
            run(prior, pair[1], x)

    @pytest.mark.parametrize("validate", [True, False])
    def test_nan_parameters_name_the_site(self, pair, x, validate):
        def broken(x):
            with pyro.plate("data", 5):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z * torch.nan, 1.0), obs=x[:, 0])

        with pyro.validation_enabled(validate), pytest.raises(SiteError, match="site 'x' is NaN"):
            run(broken, pair[1], x)

    @pytest.mark.parametrize("validate", [True, False])
    def test_nan_data_of_a_plain_pair_names_the_site(self, pair, x, validate):
        x[2, 1] = torch.nan
        with pyro.validation_enabled(validate), pytest.raises(SiteError, match=r"'[xz]'"):
            run(*pair, x)

    def test_data_outside_the_support_name_the_site(self, pair, x):
        def binary(x):
            with pyro.plate("data", 5):
                pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Bernoulli(0.5).expand([5]), obs=x[:, 0])

        with pytest.raises(SiteError, match=r"value of site 'x'"):
            run(binary, pair[1], x)

    def test_data_of_another_width_are_refused_in_one_sentence(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(torch.zeros(3), 1.0).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(x @ torch.ones(3), 1.0))

        with pytest.raises(DataError, match=r"data of shape x \(5, 2\): .*as wide as") as caught:
            run(model, guide, x[:, :2])
        assert "\n" not in str(caught.value)
        assert isinstance(caught.value.__cause__, RuntimeError)

    def test_a_plate_called_particles_is_refused(self, x):
        def model(x):
            with pyro.plate("particles", 5):
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

        def guide(x):
            with pyro.plate("particles", 5):
                pyro.sample("z", Normal(0.0, 1.0))

        with pytest.raises(SiteError, match="'particles' is kept"):
            run(model, guide, x)

    def test_no_particles_are_refused(self, pair, x):
        with pytest.raises(ValueError, match="num_particles should be at least 1"):
            run(*pair, x, num_particles=0)

    def test_single_precision_constants_are_explained(self, pair, x):
        def mixed(x):
            with pyro.plate("data", 5):
                z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
                mean = z @ torch.ones(2, 3, dtype=torch.float32)
                pyro.sample("x", Normal(mean, 1.0).to_event(1), obs=x)

        def guide(x):
            with pyro.plate("data", 5):
                pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))

        with pytest.raises(SiteError, match=r"double precision.*without a dtype"):
            run(mixed, guide, x)


class TestPointMasses:
    @staticmethod
    def at(value, log_density=0.0):
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Delta(value(x), log_density=log_density))

        return guide

    @pytest.mark.parametrize("value", [lambda x: x.mean(-1), lambda x: torch.randn(len(x))])
    def test_a_point_without_density_is_refused_by_name(self, pair, x, value):
        with pytest.raises(SiteError, match=r"site 'z' of the guide is a point mass.*AutoNormal"):
            run(pair[0], self.at(value), x)

    def test_a_density_of_its_own_counts(self, pair, x):
        guide = self.at(lambda x: x.mean(-1), torch.arange(5.0) - 1)
        found = run(pair[0], guide, x, num_particles=3)
        assert_close(found.guide["z"], (torch.arange(5.0) - 1).double().expand(3, 5))

    def test_a_site_that_is_a_point_in_the_model_too_is_fine(self, pair, x):
        def model(x):
            pair[0](x)
            with pyro.plate("rows", len(x), dim=-1):
                pyro.sample("mean", Delta(x.mean(-1)))

        def guide(x):
            pair[1](x)
            with pyro.plate("rows", len(x), dim=-1):
                pyro.sample("mean", Delta(x.mean(-1)))

        assert_close(run(model, guide, x, num_particles=2).guide["mean"].sum().item(), 0.0)

    def test_a_discrete_latent_has_a_probability_at_a_point(self, x):
        def model(x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", Bernoulli(0.5))
                pyro.sample("x", Normal(k, 1.0), obs=x[:, 0])

        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("k", Delta((x[:, 0] > 0.5).to(x.dtype)))

        found = run(model, guide, x, num_particles=2)
        assert_close(found.guide["k"], torch.zeros(2, 5).double())
