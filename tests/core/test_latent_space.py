"""Latent sites as one vector, against Pyro's potential, differences and draws of the prior."""

from __future__ import annotations

import functools
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import (
    Dirichlet,
    HalfCauchy,
    LKJCholesky,
    LogNormal,
    MultivariateNormal,
    Normal,
    Uniform,
)
from pyro.infer.autoguide import AutoNormal
from pyro.infer.mcmc.util import initialize_model
from torch.testing import assert_close

from pyrolvm import guides, models
from pyrolvm.core import SiteError, evaluating, log_densities
from pyrolvm.core.latent_space import latent_space

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
SEEN = torch.tensor([True, False, True, True, False])


def per_datum(x):
    """Constrained latents of each datum; one bound is itself a latent."""
    with pyro.plate("data", len(x)):
        top = pyro.sample("top", LogNormal(0.0, 0.5))
        share = pyro.sample("share", Dirichlet(torch.ones(3)))
        part = pyro.sample("part", Uniform(0.0, top))
        loc = part + (share * x.new_tensor([1.0, 2.0, 3.0])).sum(-1)
        pyro.sample("x", Normal(loc, 0.5), obs=x[:, 0])


def nested(x):
    with pyro.plate("data", len(x), dim=-2):
        scale = pyro.sample("scale", HalfCauchy(1.0))
        with pyro.plate("features", x.shape[1], dim=-1):
            z = pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", Normal(z.sum(-1), scale), obs=x)


def data_inside(x):
    """The data plate is the inner one: nothing is independent of the outer plate's latents."""
    with pyro.plate("features", x.shape[1], dim=-2):
        slope = pyro.sample("slope", Normal(0.0, 1.0))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("x", Normal(slope, 1.0), obs=x.T)


def whole(x):
    """Global latents with matrices and simplices, and local ones."""
    tril = pyro.sample("tril", LKJCholesky(3, 2.0))
    tau = pyro.sample("tau", HalfCauchy(torch.ones(3)).to_event(1))
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(0.0, 1.0))
        covariance = tau[..., None] * tril
        pyro.sample(
            "x", MultivariateNormal(z[..., None].expand(*z.shape, 3), scale_tril=covariance), obs=x
        )


def masked(x):
    with pyro.plate("data", len(x)), poutine.mask(mask=SEEN):
        scale = pyro.sample("scale", HalfCauchy(1.0))
        pyro.sample("x", Normal(0.0, scale), obs=x[:, 0])


def stubborn(x):
    """Fixed batch shapes: particles have to be run one after another."""
    with pyro.plate("data", 5):
        scale = pyro.sample("scale", HalfCauchy(1.0))
        pyro.sample("x", Normal(0.0, scale.reshape(5)), obs=x[:, 0])


ALL = {each.__name__: each for each in (per_datum, nested, data_inside, whole, masked, stubborn)}


@pytest.fixture(params=ALL)
def model(request):
    return ALL[request.param]


def points_of(space, number=3, scale=0.7):
    return scale * torch.randn(number, space.num_data, space.dim, dtype=torch.float64)


def by_site(space, point):
    """Unconstrained values by site of one particle, as Pyro's potential takes them."""
    held = {}
    for site in space.sites:
        values = point[None, :, site.columns].reshape(1, space.num_data, *site.shape)
        held[site.name] = site.in_trace(values, site.event, None)
    return held


class TestDensities:
    @pytest.mark.parametrize("model", [nested, data_inside, whole, masked, stubborn])
    def test_they_are_pyros_potential(self, model):
        """Pyro keeps the bounds of the first run; the model with a moving one is checked below."""
        with latent_space(model, X) as space:
            points = points_of(space)
            found = space.log_joint(points)
            with torch.enable_grad():
                _, potential, _, _ = initialize_model(model, (X.double(),))
                for k in range(3):
                    assert_close(found[k].sum(), -potential(by_site(space, points[k])))

    def test_gradients_are_those_of_differences(self, model):
        with latent_space(model, X) as space:
            at = points_of(space, 1)
            _, slope = space.gradient(at)
            step = 1e-5 * torch.randn_like(at)
            change = (space.log_joint(at + step) - space.log_joint(at - step)) / 2
            assert_close(change, (slope * step).sum(-1), rtol=1e-5, atol=1e-9)

    def test_points_values_and_back(self, model):
        with latent_space(model, X) as space:
            points = points_of(space)
            values = space.to_values(points)
            assert_close(space.to_points(values), points, rtol=1e-7, atol=1e-7)

    def test_each_datum_has_its_own_term(self):
        """Moving one datum's point leaves the densities of the others alone."""
        with latent_space(nested, X) as space:
            points = points_of(space, 1)
            moved = points.clone()
            moved[:, 2] += 1.0
            changed = space.log_joint(points) != space.log_joint(moved)
            assert changed[0].tolist() == [False, False, True, False, False]

    def test_terms_are_prior_and_likelihood(self):
        with latent_space(masked, X) as space:
            points = points_of(space)
            scale, log_scale = points[..., 0].exp(), points[..., 0]
            prior = torch.where(SEEN, HalfCauchy(1.0).log_prob(scale), 0.0) + log_scale
            likelihood = torch.where(SEEN, Normal(0.0, scale).log_prob(X[:, 0].double()), 0.0)
            found = space.log_terms(points)
            assert_close(found[0], prior)
            assert_close(found[1], likelihood)


class TestLayout:
    @pytest.mark.parametrize(
        ("model", "num_data", "dim", "outside"),
        [
            (per_datum, 5, 4, ()),
            (nested, 5, 7, ()),
            (data_inside, 1, 3, ("slope",)),
            (whole, 1, 3 + 3 + 5, ("tril", "tau")),
            (stubborn, 5, 1, ()),
        ],
    )
    def test_sizes(self, model, num_data, dim, outside):
        with latent_space(model, X) as space:
            assert (space.num_data, space.dim, space.global_sites) == (num_data, dim, outside)
            assert len(set(space.names)) == dim

    def test_names_count_plates_and_events(self):
        with latent_space(nested, X) as space:
            assert space.names[:3] == ("scale", "z[0,0]", "z[0,1]")

    def test_subsampled_rows_stay_the_same(self):
        def model(x):
            with pyro.plate("data", 100, subsample_size=4) as rows:
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 1.0), obs=x[rows])

        x = torch.arange(100.0)
        with latent_space(model, x) as space:
            assert space.num_data == 4
            points = points_of(space)
            first, again = space.log_joint(points), space.log_joint(points)
        assert_close(first, again)
        seen = (
            points[..., 0]
            + (2 * (-first - points[..., 0] ** 2 / 2 - math.log(2 * math.pi))).sqrt()
        )
        rows = seen.round()[0]
        assert_close(seen, rows.expand(3, 4), rtol=1e-6, atol=1e-6)

    def test_a_model_without_latents_has_no_dimensions(self):
        def model(x):
            with pyro.plate("data", len(x)):
                pyro.sample("x", Normal(0.0, 1.0), obs=x[:, 0])

        with latent_space(model, X) as space:
            found = space.log_joint(points_of(space))
            assert (space.dim, space.names) == (0, ())
            assert_close(found, Normal(0.0, 1.0).log_prob(X[:, 0].double()).expand(3, 5))
            assert space.to_values(points_of(space)) == {}

    def test_a_model_without_observations_is_refused(self):
        def model(x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(0.0, 1.0))

        with (
            pytest.raises(SiteError, match=r"needs an observed site.*'z'"),
            latent_space(model, X),
        ):
            pass

    def test_a_support_that_hangs_on_a_summed_site_is_refused(self):
        def model(x):
            with pyro.plate("data", len(x)):
                k = pyro.sample("k", pyro.distributions.Bernoulli(0.5))
                z = pyro.sample("z", Uniform(0.0, 1.0 + k))
                pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

        with pytest.raises(SiteError, match=r"support.*'z'.*summed out"), latent_space(model, X):
            pass


class TestPriorDraws:
    def test_moments_are_those_of_the_prior(self):
        with latent_space(per_datum, X) as space:
            log_top, simplex, part = space.prior_points(8000).split([1, 2, 1], -1)
        for found, spread in (
            (log_top, 0.5),
            (part, math.pi / 3**0.5),
        ):  # part: logit of a uniform
            size = found.numel()
            assert abs(found.mean()) < 5 * spread / size**0.5
            assert abs(found.std() / spread - 1) < 5 * size**-0.5
        assert simplex.shape == (8000, 5, 2)

    def test_a_program_that_fixes_batch_shapes_draws_one_after_another(self):
        with latent_space(stubborn, X) as space:
            draws = space.prior_points(300)
        assert draws.shape == (300, 5, 1)
        assert len(draws.unique()) == 1500
        assert abs((draws > 0).double().mean() - 0.5) < 5 * 0.5 / 1500**0.5


class TestGuideDraws:
    @pytest.mark.parametrize("model", [per_datum, whole])
    def test_their_densities_differ_by_the_jacobian(self, model):
        guide = AutoNormal(model)
        guide(X)
        with evaluating(model, guide), latent_space(model, X, guide) as space:
            found = log_densities(model, guide, X, num_particles=4, keep_values=True)
            points = space.to_points(found.values)
            with torch.enable_grad():
                _, _, transforms, _ = initialize_model(model, (X.double(),))
            volume = torch.zeros_like(found.log_joint)
            if model is per_datum:
                top = found.values["top"]
                unit = found.values["part"] / top
                volume = top.log() + (top * unit * (1 - unit)).log()
                volume = volume + found.values["share"].log().sum(-1)
                assert_close(space.log_joint(points), found.log_joint + volume)
            else:
                for name, transform in transforms.items():
                    values = found.values[name]
                    jacobian = transform.log_abs_det_jacobian(values, transform(values))
                    volume[:, 0] -= jacobian.reshape(len(values), -1).sum(-1)
                assert_close(space.log_joint(points), found.log_joint + volume)

    def test_zoo_models_and_covariates(self):
        model = models.VAE(2, 6, hidden=(4,))
        x = model(size=7).detach()
        guide = guides.Amortized(model, "full", hidden=(4,))
        with latent_space(model, x, guide) as space:
            found = log_densities(model, guide, x, num_particles=3, keep_values=True)
            assert_close(space.log_joint(space.to_points(found.values)), found.log_joint)

    def test_bound_arguments(self):
        def model(x, spread):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(0.0, spread))
                pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

        bound = functools.partial(model, spread=torch.tensor(2.0))
        with latent_space(bound, X) as one, latent_space(model, {"x": X, "spread": 2.0}) as two:
            points = points_of(one)
            assert_close(one.log_joint(points), two.log_joint(points))
