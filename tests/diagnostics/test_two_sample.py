"""Two-sample tests: closed forms at three distances, and levels under the null."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics.draw_pair import draw_pair
from pyrolvm.diagnostics.significance import holm
from pyrolvm.diagnostics.two_sample import (
    Permuted,
    c2st,
    mmd_squared,
    pooled,
    sliced_wasserstein,
    two_sample_tests,
)

made = runpy.run_path(str(Path(__file__).parent / "gaussian_guides.py"))
pair, right, CASES = made["pair"], made["right"], made["CASES"]
bayes_accuracy, closed_distance = made["bayes_accuracy"], made["sliced_wasserstein_2d"]


def samples(gaussians, size, seed=0):
    return tuple(each[:, 0].numpy() for each in gaussians.draws(size, seed=seed))


@pytest.fixture(scope="module")
def null():
    """Sixty data whose guide is right."""
    return two_sample_tests(*right().draws(80, num_data=60, seed=2), num_permutations=39)


@pytest.mark.parametrize(("defect", "size"), CASES)
def test_accuracy_approaches_that_of_the_best_classifier_from_below(defect, size):
    both, rng = pair(defect, size), np.random.default_rng(0)
    test = c2st(*samples(both, 1000), num_permutations=19, rng=rng)
    best = bayes_accuracy(both)
    error = np.sqrt(best * (1 - best) / 2000)
    assert best - 0.03 - 4 * error < test.value < best + 4 * error
    assert test.p_value == 1 / 20


@pytest.mark.parametrize(("defect", "size"), CASES)
def test_sliced_wasserstein_is_its_closed_form(defect, size):
    both = pair(defect, size)
    found = sliced_wasserstein(*samples(both, 2000), rng=np.random.default_rng(0))
    assert abs(found.value - closed_distance(both)) < 5 * found.standard_error
    assert found.value > found.null


def test_sliced_wasserstein_of_one_coordinate_is_the_wasserstein_distance():
    rng = np.random.default_rng(0)
    posterior = rng.normal(5.0, 2.0, (2000, 1))
    found = sliced_wasserstein(6.0 + 3.0 * rng.normal(size=(2000, 1)), posterior, rng=rng)
    assert abs(found.value - np.hypot(0.5, 0.5)) < 5 * found.standard_error


def test_standard_error_of_the_distance_is_its_spread():
    both, rng = pair("shifted", 0.8), np.random.default_rng(0)
    found = np.array(
        [sliced_wasserstein(*samples(both, 300, seed), rng=rng) for seed in range(100)]
    )
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.25)


@pytest.mark.parametrize(("defect", "size"), CASES)
def test_squared_mmd_is_its_closed_form(defect, size):
    both, bandwidth = pair(defect, size), 2.0

    def overlap(mean, covariance):
        inner = covariance.numpy() + bandwidth**2 * np.eye(2)
        density = stats.multivariate_normal(np.zeros(2), inner).pdf(mean.numpy())
        return 2 * np.pi * bandwidth**2 * density

    guide, target, zero = both.guide_covariance, both.covariance, torch.zeros(2)
    shift = both.guide_mean - both.mean
    truth = (
        overlap(zero, 2 * guide) + overlap(zero, 2 * target) - 2 * overlap(shift, guide + target)
    )
    found = [mmd_squared(*samples(both, 150, seed), [bandwidth]) for seed in range(40)]
    assert abs(np.mean(found) - truth) < 5 * np.std(found) / np.sqrt(len(found))


def test_squared_mmd_is_the_sum_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 7, 2))

    def kernel(a, b):
        squares = ((a[:, None] - b) ** 2).sum(-1)
        return (np.exp(-squares / 2) + np.exp(-squares / 8)) / 2

    within = sum((kernel(a, a).sum() - 7) / 42 for a in (x, y))
    assert mmd_squared(x, y, [1.0, 2.0]) == pytest.approx(within - 2 * kernel(x, y).mean())


@pytest.mark.parametrize("name", ["c2st", "mmd"])
def test_p_values_are_uniform_if_the_guide_is_right(null, name):
    tests = getattr(null, name)
    rejected = int((tests.p_value <= 0.1).sum())
    assert 0.001 < stats.binom.cdf(rejected, 60, 0.1) < 0.999
    assert abs(tests.p_value.mean() - 0.5) < 4 / np.sqrt(12 * 60)
    inside = ((tests.value >= tests.null_low) & (tests.value <= tests.null_high)).mean()
    assert inside > 0.9 - 4 * np.sqrt(0.09 / 60)
    assert tests.pooled_p_value > 0.01


def test_distances_of_a_right_guide_stay_below_chance(null):
    above = (null.sliced_wasserstein > null.sliced_wasserstein_null).sum()
    assert stats.binom.sf(above - 1, 60, 0.05) > 0.001
    assert null.sliced_wasserstein.max() > 0


def test_a_right_guide_gives_good_findings(null):
    assert [one.level for one in null.findings()] == ["good"] * 3
    assert "nor in all together" in null.findings()[0].sentence


def test_a_bad_datum_among_good_ones_is_named():
    draws, reference = right().draws(300, num_data=3, seed=1)
    draws[:, 1] += 1.5 * made["SCALE"]
    found = two_sample_tests(draws, reference, data=(4, 7, 9))
    classifier, kernel, distance = found.findings()
    assert {one.level for one in (classifier, kernel, distance)} == {"bad"}
    assert "1 of 3 data" in classifier.sentence
    assert all("datum 7" in one.sentence for one in (classifier, kernel, distance))
    assert (found.c2st.p_value[[0, 2]] > 0.01).all()


def test_a_difference_that_cannot_matter_is_good_however_certain():
    generator = torch.Generator().manual_seed(0)
    draws, reference = torch.randn(2, 1000, 1, 1, generator=generator, dtype=torch.float64)
    found = two_sample_tests(draws + 0.16, reference, num_permutations=19)
    assert found.mmd.p_value[0] == 0.05
    assert {one.level for one in found.findings()} == {"good"}


def test_what_all_data_share_shows_in_all_together():
    generator = np.random.default_rng(0)
    tests = [Permuted(1.0 + each[0], each[1:]) for each in generator.normal(size=(30, 1000))]
    assert holm(np.array([test.p_value for test in tests])).min() > 0.02
    assert pooled(tests).p_value == 1 / 1000


def test_chains_are_thinned_to_their_effective_size():
    draws, reference = right().draws(400, num_data=2)
    ess = torch.tensor([[150.7, 300.0], [1000.0, 250.0]])
    found = draw_pair(draws, reference, ess=ess)
    guide, posterior = found.independent(0, 1000)
    assert guide.shape == posterior.shape == (150, 2)
    assert len(found.independent(1, 1000)[0]) == 250
    assert len(found.independent(1, 100)[0]) == 100
    assert len(np.unique(posterior[:, 0])) == 150


def test_the_same_seed_gives_the_same_tests_and_leaves_others_alone():
    draws = right().draws(60)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    one, other = (two_sample_tests(*draws, num_permutations=19).dataset() for _ in range(2))
    assert one.identical(other)
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_the_dataset_has_what_the_page_needs(null):
    found = null.dataset()
    names = {"c2st", "c2st_null_low", "c2st_null_high", "c2st_p", "mmd", "mmd_p"}
    assert names | {"sliced_wasserstein"} <= set(found)
    assert found["c2st"].dims == ("datum",)
    assert found.attrs["num_permutations"] == 39


def test_a_point_mass_and_many_coordinates_are_tested_too():
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(100, 1, 40, generator=generator, dtype=torch.float64)
    found = two_sample_tests(torch.zeros_like(reference), reference, num_permutations=19)
    assert found.c2st.value[0] > 0.9
    assert found.mmd.p_value[0] == 0.05


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(SettingError, match="num_permutations should be at least 19"):
        two_sample_tests(*right().draws(50), num_permutations=3)
    with pytest.raises(SettingError, match="seed"):
        two_sample_tests(*right().draws(50), seed=-1)
