"""Ranks are uniform where truth and draws come from one law, ties included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrolvm.diagnostics.calibration import (
    UniformityTest,
    density_levels,
    rank_statistics,
    reference_distances,
)


def p_value(ranks, num_draws):
    return UniformityTest.of(num_draws + 1, len(ranks)).p_value(ranks.numpy())


def test_a_rank_counts_the_draws_below():
    truth, draws = torch.tensor([0.5, 9.0]), torch.tensor([[0.1, 1.0], [0.7, 2.0], [0.2, 3.0]])
    assert rank_statistics(truth, draws).tolist() == [2, 3]


def test_ties_are_broken_at_random():
    truth, draws = torch.ones(30_000), torch.tensor([0.0, 1.0, 1.0, 2.0])[:, None]
    share = rank_statistics(truth, draws.expand(-1, 30_000)).bincount() / 30_000
    assert share[0] == 0
    assert torch.allclose(share[1:], torch.full((3,), 1 / 3), atol=0.015)


@pytest.mark.parametrize("kind", ["binary", "density", "distance"])
def test_ranks_of_one_law_are_uniform(kind):
    num_draws, size = 49, 3000
    points = torch.randn(num_draws + 1, size, 3, dtype=torch.float64) * torch.tensor([1, 9, 0.1])
    truth, draws = points[0], points[1:]
    if kind == "binary":
        ranks = rank_statistics((truth[:, 0] > 1).double(), (draws[..., 0] > 1).double())
    elif kind == "density":
        ranks = density_levels(-truth.norm(dim=-1), -draws.norm(dim=-1))
    else:
        ranks = reference_distances(truth, draws)
    assert p_value(ranks, num_draws) > 1e-3


def test_a_point_of_highest_density_has_the_lowest_level():
    assert density_levels(torch.tensor([5.0]), torch.tensor([[1.0], [2.0]])).tolist() == [0]


def test_distances_see_a_narrow_guide_in_every_scale():
    scale = torch.tensor([100.0, 0.01], dtype=torch.float64)
    truth = torch.randn(1000, 2, dtype=torch.float64) * scale
    draws = 0.5 * torch.randn(99, 1000, 2, dtype=torch.float64) * scale
    ranks = reference_distances(truth, draws)
    assert p_value(ranks, 99) < 1e-6
    assert np.mean(ranks.numpy() >= 90) > 0.15
