"""Networks into diagonal Gaussians."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.nn.gaussian_head import SCALE_FLOOR, GaussianHead, side_by_side


@pytest.mark.parametrize("initial_scale", [0.05, 1.0, 3.0])
def test_scales_start_near_the_asked_one(initial_scale: float) -> None:
    torch.manual_seed(0)
    q = GaussianHead(4, (32,), 3, initial_scale=initial_scale)(torch.randn(100, 4))
    assert (q.stddev / initial_scale - 1).abs().max() < 0.2


@pytest.mark.parametrize("shrink_mean", [False, True])
def test_means_start_near_zero_or_as_in_any_network(shrink_mean: bool) -> None:
    torch.manual_seed(0)
    q = GaussianHead(4, (32,), 16, shrink_mean=shrink_mean)(torch.randn(100, 4))
    assert bool(q.mean.std() < 0.05) is shrink_mean


def test_scales_never_vanish() -> None:
    head = GaussianHead(2, (), 3)
    scale = head(torch.tensor([[1e6, 1e6], [-1e6, -1e6]])).stddev
    assert (scale >= SCALE_FLOOR * 0.999).all()
    assert scale.isfinite().all()


def test_missing_particles_are_repeated() -> None:
    x, z = torch.randn(6, 4), torch.randn(3, 6, 2)
    joined = side_by_side([x, z])
    assert_close(joined[..., :4], x.expand(3, 6, 4))
    assert_close(joined[..., 4:], z)
