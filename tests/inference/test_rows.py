"""Some of the data give what they give among all."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.infer.autoguide import AutoNormal

from pyrolvm import guides
from pyrolvm.inference.held_rows import HeldRows
from pyrolvm.inference.rows import acts_on_rows_alone, densities_at_rows, space_at_rows

X = torch.linspace(-2.0, 3.0, 6)
OFFSETS = torch.tensor([0.0, 10.0, 20.0, 30.0, 40.0, 50.0])


def plain(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(0.0, 1.0))
        pyro.sample("x", Normal(z, 0.5), obs=x)


def with_labels_of_its_own(x):
    with pyro.plate("data", 6):
        z = pyro.sample("z", Normal(OFFSETS.to(x.dtype), 1.0))
        pyro.sample("x", Normal(z, 0.5), obs=x)


def encoder(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", Normal(0.8 * x, 0.4))


def by_place(x):
    loc = pyro.param("loc", lambda: torch.arange(6.0))
    with pyro.plate("data", 6):
        pyro.sample("z", Normal(loc, 1.0))


@pytest.mark.parametrize("model", [plain, with_labels_of_its_own])
def test_chosen_rows_have_the_log_joint_that_they_have_among_all(model):
    with space_at_rows(model, X) as whole, space_at_rows(model, X, [4, 1]) as few:
        points = whole.prior_points(3)
        expected = whole.log_joint(points)[:, [4, 1]]
        assert torch.allclose(few.log_joint(points[:, [4, 1]]), expected)
        assert torch.allclose(sum(few.log_terms(points[:, [4, 1]])), expected)
        assert isinstance(few, HeldRows) == (model is with_labels_of_its_own)


def test_held_rows_turn_draws_to_points_and_back():
    with space_at_rows(with_labels_of_its_own, X, [5, 0]) as few:
        points = few.prior_points(4)
        assert torch.equal(few.to_points(few.to_values(points)), points)


@pytest.mark.parametrize(("guide", "expected"), [(encoder, True), (by_place, False)])
def test_guides_with_shared_weights_act_on_rows_alone(guide, expected):
    assert acts_on_rows_alone(plain, guide, X, torch.tensor([1, 4])) is expected


def test_an_autoguide_does_not_act_on_rows_alone():
    assert not acts_on_rows_alone(plain, AutoNormal(plain), X, torch.tensor([1, 4]))


@pytest.mark.parametrize("guide", [encoder, by_place])
def test_draws_at_chosen_rows_are_those_of_these_rows(guide):
    found = densities_at_rows(plain, guide, X, [5, 2], 2000)
    loc = 0.8 * X[[5, 2]] if guide is encoder else torch.tensor([5.0, 2.0])
    assert found.log_weights.shape == (2000, 2)
    assert (found.values["z"].mean(0) - loc).abs().max() < 5 / 2000**0.5


def test_draws_of_a_library_guide_at_chosen_rows(linear):
    model, x = linear
    found = densities_at_rows(model, guides.Exact(model), x, [9, 3], 50)
    assert torch.allclose(
        found.log_weights, model.log_evidence(x[[9, 3]]).double().expand(50, 2), atol=1e-4
    )
