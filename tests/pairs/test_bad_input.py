"""What plain pairs do wrong is said in one sentence that names the site or the argument."""

from __future__ import annotations

import re

import pyro
import pytest
import torch
from pyro.distributions import Categorical, Normal, Uniform
from pyro.infer.autoguide import AutoNormal

from pyrolvm.core import DataError, SiteError, log_densities
from tests.pairs import eight_schools, gaussian_mixture, topics
from tests.pairs.collection import PAIRS

X = torch.randn(6, generator=torch.Generator().manual_seed(0))


def model(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(0.0, 1.0))
        pyro.sample("x", Normal(z, 1.0), obs=x)


def guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Normal(0.0, 1.0))


def refused(model, guide, data, sentence, kind=SiteError):
    with pytest.raises(kind, match=sentence) as caught:
        log_densities(model, guide, data, num_particles=4)
    assert "\n" not in str(caught.value)
    assert re.search(r"[.]$", str(caught.value))


def test_a_guide_that_misses_a_site():
    data = {"y": eight_schools.EFFECTS, "sigma": eight_schools.STANDARD_ERRORS}
    part = AutoNormal(pyro.poutine.block(eight_schools.centred, hide=["tau"]))
    refused(eight_schools.centred, part, data, "latent site 'tau', but the guide does not")


def test_a_guide_for_the_other_form():
    data = {"y": eight_schools.EFFECTS, "sigma": eight_schools.STANDARD_ERRORS}
    other = AutoNormal(eight_schools.non_centred)
    refused(eight_schools.centred, other, data, "latent site 'theta', but the guide does not")


def test_a_discrete_site_that_could_be_summed_out():
    def unmarked(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", Categorical(torch.ones(2)))
            pyro.sample("x", Normal(1.0 * k, 1.0), obs=x)

    refused(unmarked, lambda x: None, X, '\'k\', but the guide.*"enumerate": "parallel"')


def test_a_site_of_another_shape():
    def wide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(torch.zeros(2), 1.0).to_event(1))

    refused(model, wide, X, r"'z' has shape \(6,\) in the model, but the guide draws \(6, 2\)")


def test_weights_that_are_not_a_number():
    def broken(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z, (z - 10).sqrt()), obs=x)

    refused(broken, guide, X, "site 'x' is NaN")


def test_a_model_that_rules_out_every_draw():
    def bounded(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Uniform(z - 1, z + 1, validate_args=False), obs=x + 100)

    with pyro.validation_enabled(False):
        refused(bounded, guide, X, "site 'x' is −inf at all 4 draws")


def test_a_guide_that_draws_by_another_law():
    class Shifted(Uniform):
        def rsample(self, *sample_shape):
            return super().rsample(*sample_shape) + 5

    def liar(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Shifted(torch.zeros(6), 1.0, validate_args=False))

    with pyro.validation_enabled(False):
        refused(model, liar, X, "its own draws of site 'z' the density 0")


def test_a_model_without_observations():
    def prior(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(0.0, 1.0))

    refused(prior, guide, X, "needs an observed site.*'z'")


def test_data_with_nan():
    bad = X.clone()
    bad[2] = torch.nan
    refused(model, guide, bad, "'x'")


def test_words_that_the_vocabulary_lacks():
    pair = PAIRS["topics"]()
    pair.guide(pair.data)
    refused(topics.model, pair.guide, pair.data + 100, "'w'|index")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, r"model takes the arguments \(y, sigma\), but the data give none"),
        ({"y": X}, r"\(y, sigma\), but the data give y .*'sigma'"),
        ({"y": X, "sigma": X.exp(), "tau": 1.0}, r"give y, sigma, tau .*'tau'"),
        (X, r"\(y, sigma\), but the data give 1 by position"),
        ((X, X), "'data' came as a tuple of 2.*mapping"),
    ],
)
def test_other_arguments_than_the_program_takes(data, sentence):
    refused(eight_schools.centred, AutoNormal(eight_schools.centred), data, sentence, DataError)


def test_a_point_instead_of_a_guide():
    hidden = pyro.poutine.block(gaussian_mixture.model, hide=["k"])
    point = pyro.infer.autoguide.AutoDelta(hidden)
    point(gaussian_mixture.OBSERVED)
    refused(gaussian_mixture.model, point, gaussian_mixture.OBSERVED, "'weights'.*point mass")
