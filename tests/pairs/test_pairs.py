"""Pairs that know nothing of this project run unchanged, and give the numbers plain Pyro gives."""

from __future__ import annotations

import warnings

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO
from torch.testing import assert_close

from pyrolvm.core import Data, SiteError, evaluating, log_densities, predictive
from pyrolvm.core.doubts import doubts_about
from pyrolvm.core.latent_space import latent_space
from pyrolvm.core.tracing import Holding
from tests.pairs.collection import PAIRS

SEQUENTIAL = {"variational-gp", "sparse-gp", "gplvm", "factor-mue"}
RANDOM = {"variational-gp", "sparse-gp"}
WITHOUT_DRAWS = {"profile-hmm", "factor-mue"}
UNUSED = {
    "funnel-centred": {"x"}, "funnel-non-centred": {"v", "eps"}, "variational-gp": {"f"},
    "sparse-gp": {"u"},
}  # fmt: skip


@pytest.fixture(params=PAIRS)
def name(request):
    return request.param


@pytest.fixture
def pair(name):
    """Some of these programs fix batch shapes; a warning says so, and only then."""
    with warnings.catch_warnings():
        if name in SEQUENTIAL:
            warnings.filterwarnings("ignore", message=".*one after another")
        yield PAIRS[name]().train(10)


def test_densities_are_finite_and_of_the_right_shape(name, pair):
    found = log_densities(pair.model, pair.guide, pair.data, num_particles=6)
    assert found.log_weights.isfinite().all()
    assert found.log_weights.shape == (6, 1 if pair.outside else Data.of(pair.data).num_rows)
    assert found.global_sites[:1] == ((pair.outside,) if pair.outside else ())
    assert not found.prior.keys() & set(pair.summed_out)


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in RANDOM])
def test_the_likelihood_is_that_of_pyros_enumerating_bound(name, pair):
    """With the prior at fixed values as the guide, Pyro's loss is −log p(x | z)."""
    found = log_densities(pair.model, pair.guide, pair.data, num_particles=2, keep_values=True)
    with evaluating(pair.model, pair.guide), pyro.validation_enabled(False):
        rows = Data.of(pair.data).to(dtype=torch.float64)
        unmarked = poutine.infer_config(pair.model, lambda site: {"enumerate": None})
        prior = poutine.block(unmarked, hide_fn=lambda site: site["name"] not in found.values)
        for k in range(2):
            guide = Holding({site: value[k] for site, value in found.values.items()})(prior)
            bound = TraceEnum_ELBO(max_plate_nesting=2)
            loss = bound.loss(pair.model, guide, *rows.args, **rows.named)
            likelihood = sum(each[k].sum() for each in found.likelihood.values())
            assert_close(torch.tensor(-loss).double(), likelihood, rtol=1e-6, atol=1e-6)


def test_the_latent_space_returns_what_the_guide_drew(name, pair):
    with latent_space(pair.model, pair.data, pair.guide) as space:
        found = log_densities(pair.model, pair.guide, pair.data, num_particles=3, keep_values=True)
        continuous = {site.name: found.values[site.name] for site in space.sites}
        for site, value in space.to_values(space.to_points(continuous)).items():
            assert_close(value, continuous[site], rtol=1e-6, atol=1e-6)
        density, slope = space.gradient(space.prior_points(3))
    assert density.isfinite().all()
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0
    assert space.global_sites[:1] == ((pair.outside,) if pair.outside else ())


def test_predictions_look_like_the_data(name, pair):
    if name in WITHOUT_DRAWS:
        with pytest.raises(SiteError, match="'obs_seq' anew"):
            predictive(pair.model, pair.guide, pair.data, 3)
        return
    drawn = predictive(pair.model, pair.guide, pair.data, 3).observations
    args, named = pair.arguments()
    observed = poutine.trace(pair.model).get_trace(*args, **named)
    for site, value in drawn.items():
        assert value.isfinite().all()
        assert value[0].numel() == observed.nodes[site]["value"].numel()


def test_doubts_are_raised_where_they_belong(name, pair):
    doubts = doubts_about(pair.model, pair.guide, pair.data)
    unused = {doubt.site for doubt in doubts if "is its prior" in doubt.sentence}
    random = {doubt.site for doubt in doubts if "outside pyro.sample" in doubt.sentence}
    assert unused == UNUSED.get(name, set())
    assert random == ({"likelihood.y"} if name in RANDOM else set())


def test_a_mean_field_guide_can_be_the_posterior_of_the_non_centred_funnel():
    pair = PAIRS["funnel-non-centred"]()
    pair.guide()
    with torch.no_grad():
        for site, scale in (("v", 3.0), ("eps", 1.0)):
            getattr(pair.guide.locs, site).zero_()
            scales = getattr(pair.guide.scales, site)
            setattr(pair.guide.scales, site, torch.full_like(scales, scale))
    found = log_densities(pair.model, pair.guide, pair.data, num_particles=5)
    assert found.log_weights.abs().max() < 1e-5
