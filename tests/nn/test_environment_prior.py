"""Priors of environments: their densities, what learns, and what is refused."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from pyrolvm.core import DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.nn.environment_prior import EnvironmentPrior
from pyrolvm.nn.learned_environment_prior import LearnedEnvironmentPrior

LOC = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]], dtype=torch.float64)
SCALE = torch.tensor([[1.0, 0.5], [0.3, 2.0], [1.5, 1.0]], dtype=torch.float64)
U = torch.tensor([2, 0, 0, 1])


def test_densities_are_those_of_scipy():
    z = torch.randn(4, 2, dtype=torch.float64)
    found = EnvironmentPrior(LOC, SCALE)(U).log_prob(z)
    wanted = stats.norm(LOC[U].numpy(), SCALE[U].numpy()).logpdf(z.numpy()).sum(-1)
    assert_close(found, torch.as_tensor(wanted), rtol=0, atol=1e-12)


def test_a_fixed_prior_has_buffers_and_nothing_that_learns():
    prior = EnvironmentPrior(LOC, SCALE)
    assert not list(prior.parameters())
    assert prior.fixed == (0, 1, 2)
    assert set(prior.state_dict()) == {"start_loc", "start_scale", "freed"}


def test_the_values_are_copied():
    loc = LOC.clone()
    prior = EnvironmentPrior(loc, SCALE)
    loc.zero_()
    assert torch.equal(prior.loc, LOC)


def test_one_scale_serves_all_environments():
    assert torch.equal(EnvironmentPrior(LOC, 0.5).scale, torch.full_like(LOC, 0.5))


def test_chosen_environments_learn_and_the_others_stay():
    prior = EnvironmentPrior(LOC, SCALE, learned=[2, 0])
    assert (prior.learned, prior.fixed) == ((0, 2), (1,))
    assert_close(prior.loc, LOC, rtol=0, atol=0)
    assert_close(prior.scale, SCALE, rtol=0, atol=0)
    with torch.no_grad():
        prior.shift[1] += 1.0
        prior.log_stretch[0] += 0.5
    loc, scale = LOC.clone(), SCALE.clone()
    loc[2] += 1.0
    scale[0] *= torch.tensor(0.5).exp()
    assert_close(prior.loc, loc)
    assert_close(prior.scale, scale)


def test_no_gradient_reaches_a_fixed_environment():
    prior = EnvironmentPrior(LOC, SCALE, learned=[1])
    prior(torch.tensor([0, 0, 2])).log_prob(
        torch.randn(3, 2, dtype=torch.float64)
    ).sum().backward()
    assert prior.shift.grad is None or not prior.shift.grad.any()
    prior(torch.tensor([1])).log_prob(torch.randn(1, 2, dtype=torch.float64)).sum().backward()
    assert prior.shift.grad.any()


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_simplex_has_affinely_independent_means(dim):
    prior = EnvironmentPrior.simplex(dim, distance=3.0)
    assert prior.num_environments == dim + 1
    assert torch.linalg.matrix_rank(prior.loc[1:] - prior.loc[0]) == dim


@pytest.mark.parametrize(
    ("loc", "scale", "message"),
    [
        (LOC, SCALE[:2], r"one shape \(E, D\).*\(3, 2\) and \(2, 2\)"),
        (LOC[0], SCALE[0], r"one shape \(E, D\)"),
        (LOC[:0], SCALE[:0], r"one shape \(E, D\)"),
        (LOC, 0.0, "positive finite scales .*singular.* environment 0"),
        (LOC, torch.where(SCALE == 2.0, -1.0, SCALE), "environment 1 are"),
        (LOC, SCALE / torch.tensor([[1.0], [1.0], [0.0]]), "environment 2 are"),
        (LOC / torch.tensor([[1.0], [0.0], [1.0]]), SCALE, "finite means.* environment 1"),
    ],
)
def test_a_prior_that_makes_no_sense_is_refused(loc, scale, message):
    with pytest.raises(SettingError, match=message):
        EnvironmentPrior(loc, scale)


@pytest.mark.parametrize("learned", [[3], [-1], [0, 0]])
def test_unknown_environments_cannot_learn(learned):
    with pytest.raises(SettingError, match="different labels from 0 to 2"):
        EnvironmentPrior(LOC, SCALE, learned)


@pytest.mark.parametrize("make", [
    lambda: EnvironmentPrior(LOC, SCALE), lambda: LearnedEnvironmentPrior(3, 2)
])  # fmt: skip
@pytest.mark.parametrize(
    ("u", "message"),
    [
        (torch.tensor([0, 3]), "environments 0 to 2, but u holds the label 3 .first: row 1"),
        (torch.tensor([-1, 0]), "label -1 .first: row 0"),
        (torch.tensor([0.0, 1.0]), "whole numbers 0 to 2 .*torch.float32"),
        (torch.tensor([True, False]), "whole numbers .*torch.bool"),
        ([0, 1], "whole numbers .*a list"),
        (torch.zeros(2, 1, dtype=torch.int64), r"one label a datum.*\(2, 1\)"),
        (None, "u was not given"),
    ],
)
def test_labels_that_are_none_are_refused(make, u, message):
    with pytest.raises(DataError, match=message):
        make()(u)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int64])
def test_whole_numbers_of_any_type_are_labels(dtype):
    found = EnvironmentPrior(LOC, SCALE)(torch.tensor([1, 0, 1], dtype=dtype))
    assert torch.equal(found.mean, LOC[[1, 0, 1]])


@pytest.mark.parametrize("learn_means", [False, True])
def test_a_learned_prior_starts_near_the_standard_normal(learn_means):
    prior = LearnedEnvironmentPrior(7, 3, learn_means=learn_means)
    assert prior.loc.shape == prior.scale.shape == (7, 3)
    assert prior.loc.abs().max() < 0.1
    assert (prior.scale - 1).abs().max() < 0.1
    assert bool(prior.loc.any()) == learn_means
    assert prior.fixed == ()


def test_without_hidden_layers_the_learned_prior_is_a_table():
    prior = LearnedEnvironmentPrior(4, 2, hidden=(), learn_means=True)
    with torch.no_grad():
        prior.network[-1].weight.normal_()
    weight, bias = prior.network[-1].weight, prior.network[-1].bias
    found = prior(torch.tensor([3]))
    assert_close(found.mean[0], weight[:2, 3] + bias[:2])
    assert_close(found.variance[0].log(), weight[2:, 3] + bias[2:])
