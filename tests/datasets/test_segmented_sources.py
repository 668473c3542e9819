"""Segmented sources: their statistics by segment, and a mixing that can be undone."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.datasets import Dataset, SegmentedSources

KURTOSIS = {"gaussian": 3.0, "laplace": 6.0, "hypersecant": 5.0}
COUNT = 4000


@pytest.mark.parametrize("sources", KURTOSIS)
def test_segments_have_the_means_and_scales_of_the_law(sources):
    law = SegmentedSources.random(3, 4, 5, sources=sources, seed=2)
    z = law.dataset(COUNT, seed=1).train_codes.reshape(5, COUNT, 3)
    assert ((z.mean(1) - law.loc).abs() < 5 * law.scale / math.sqrt(COUNT)).all()
    spread = math.sqrt((KURTOSIS[sources] - 1) / COUNT)  # of a sample variance, relative
    assert ((z.var(1) / law.scale.square() - 1).abs() < 5.5 * spread).all()


@pytest.mark.parametrize("sources", KURTOSIS)
def test_sources_have_the_tails_of_their_law(sources):
    law = SegmentedSources(
        torch.zeros(1, 1), torch.ones(1, 1), (torch.ones(1, 1),), sources=sources
    )
    z = law.dataset(200_000, test_rows_per_environment=0).train_codes.double()
    fourth = z.pow(4)
    error = fourth.std() / math.sqrt(len(z))
    assert (fourth.mean() - KURTOSIS[sources]).abs() < 5 * error


def test_means_and_scales_lie_in_their_ranges():
    law = SegmentedSources.random(
        2, 4, 200, mean_range=(-5.0, 5.0), scale_range=(0.5, 3.0), num_layers=1
    )
    for values, low, high in ((law.loc, -5.0, 5.0), (law.scale, 0.5, 3.0)):
        assert low <= values.min() < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < values.max() <= high


def test_centred_segments_differ_in_scales_alone():
    law = SegmentedSources.random(centred=True, seed=3)
    assert not law.loc.any()
    assert torch.equal(law.scale, SegmentedSources.random(seed=3).scale)


@pytest.mark.parametrize(
    ("latent_dim", "obs_dim", "num_layers"), [(2, 4, 2), (5, 5, 3), (1, 3, 1)]
)
def test_the_mixing_can_be_undone(latent_dim, obs_dim, num_layers):
    law = SegmentedSources.random(latent_dim, obs_dim, 6, num_layers=num_layers, seed=4)
    z = 3 * torch.randn(100, latent_dim, dtype=torch.float64)
    assert_close(law.unmix(law.mix(z)), z, rtol=0, atol=1e-9)
    assert len(law.condition_numbers) == num_layers
    for matrix in law.mixing:
        assert_close(matrix.norm(dim=0), torch.ones(matrix.shape[1]))


def test_layers_are_better_conditioned_than_most():
    """A quarter of random matrices are accepted: their condition is below that of the others."""
    conditions = [SegmentedSources.random(2, 2, 2, seed=s).condition_numbers[0] for s in range(30)]
    drawn = 2 * torch.rand(4000, 2, 2) - 1
    usual = torch.linalg.cond(drawn / drawn.norm(dim=1, keepdim=True))
    assert max(conditions) < usual.quantile(0.35)


def test_a_mixing_of_two_layers_is_not_linear():
    law = SegmentedSources.random(2, 4, 3, num_layers=2)
    z = torch.randn(50, 2)
    assert (law.mix(z) + law.mix(-z)).abs().max() > 0.1
    one = SegmentedSources.random(2, 4, 3, num_layers=1)
    assert_close(one.mix(z), -one.mix(-z))


def test_rows_are_the_mixed_codes_and_noise():
    law = SegmentedSources.random(2, 4, 5, noise_scale=0.3, seed=1)
    data = law.dataset(2000, seed=7)
    residual = data.train - law.mix(data.train_codes)
    assert (residual.std(0) / 0.3 - 1).abs().max() < 5 / math.sqrt(2 * len(residual))
    assert not (law.dataset(5).train - law.dataset(5).train).any()
    clean = SegmentedSources.random(2, 4, 5, noise_scale=0.0, seed=1).dataset(50)
    assert_close(law.unmix(clean.train), clean.train_codes, rtol=1e-4, atol=1e-4)


def test_labels_are_the_covariate_of_every_row():
    data = SegmentedSources.random(num_environments=3).dataset(4, test_rows_per_environment=2)
    assert data.train_data["u"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.test_data["u"].tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train_data["x"] is data.train
    assert data.test_codes.shape == (6, 2)


def test_the_seed_of_the_law_and_that_of_the_rows_are_apart():
    law, other = SegmentedSources.random(seed=0), SegmentedSources.random(seed=1)
    assert not torch.equal(law.loc, other.loc)
    assert not torch.equal(law.mixing[0], other.mixing[0])
    first, second = law.dataset(5, seed=0), law.dataset(5, seed=1)
    assert not torch.equal(first.train, second.train)
    assert not torch.equal(first.train, first.test)


GOOD = {"loc": torch.zeros(3, 2), "scale": torch.ones(3, 2), "mixing": (torch.eye(4)[:, :2],)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixing": (torch.ones(4, 2),)}, r"Matrix 1 .*shape \(4, 2\).*cannot be inverted"),
        ({"mixing": (torch.eye(2)[:1],)}, r"Matrix 1 .*shape \(1, 2\).*cannot be inverted"),
        ({"mixing": (torch.eye(2), torch.ones(3, 2))}, "Matrix 2 .*cannot be inverted"),
        ({"mixing": (torch.eye(3),)}, "should take 2 entries"),
        ({"mixing": ()}, "at least one matrix"),
        ({"slope": 0.0}, "slope 0.0 left of 0 cannot be inverted"),
        ({"scale": torch.zeros(3, 2)}, "positive finite scales"),
        ({"scale": torch.ones(2, 2)}, r"one shape \(E, d\)"),
        ({"noise_scale": -1.0}, "noise_scale"),
        ({"sources": "cauchy"}, "law of sources 'cauchy'"),
    ],
)
def test_a_law_that_cannot_be_is_refused(changes, message):
    error = UnknownNameError if "sources" in changes else DataError
    with pytest.raises(error, match=message):
        SegmentedSources(**(GOOD | changes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 3, "obs_dim": 2}, "3 sources into 2 observations cannot be inverted"),
        ({"num_layers": 0}, "at least one source, one environment and one layer"),
        ({"scale_range": (2.0, 1.0)}, "scale_range"),
        ({"mean_range": (0.0, math.inf)}, "mean_range"),
        ({"scale_range": (-1.0, -0.5)}, "positive finite scales"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        SegmentedSources.random(**options)


@pytest.mark.parametrize("sizes", [(0, None), (5, -1)])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(DataError, match="at least 1 row an environment"):
        SegmentedSources.random().dataset(sizes[0], test_rows_per_environment=sizes[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_covariates": {"u": torch.zeros(3)}},
            "train covariate 'u'.*there are 4.*\\(3,\\)",
        ),
        ({"train_codes": torch.zeros(5, 2)}, "train codes .*there are 4"),
        ({"test_codes": torch.zeros(5, 2)}, "test codes .*there are 0"),
    ],
)
def test_covariates_and_codes_need_one_entry_a_row(changes, message):
    facts = {"name": "toy", "kind": "continuous", "source": "a test", "licence": "none"}
    with pytest.raises(DataError, match=message):
        Dataset(train=torch.zeros(4, 6), **facts, **changes)


def test_data_without_covariates_are_the_rows():
    facts = {"name": "toy", "kind": "continuous", "source": "a test", "licence": "none"}
    data = Dataset(train=torch.zeros(4, 6), **facts)
    assert data.train_data is data.train
    assert data.test_data is None
