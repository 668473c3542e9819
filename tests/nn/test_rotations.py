"""Rotations and reversed layers: bijections that are not triangular."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.nn.rotations import Reversed, Rotation
from pyrolvm.nn.triangular import SplineLayer, is_triangular_monotone, jacobian


@pytest.fixture(params=["rotation", "reversed"])
def part(request):
    torch.manual_seed(0)
    made = Rotation(3) if request.param == "rotation" else Reversed(SplineLayer(3, (16,)))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return made.double()


def test_it_is_a_bijection_and_not_triangular(part):
    x = 2 * torch.randn(50, 3, dtype=torch.float64)
    y, log_det = part(x)
    assert_close(part.inverse(y), x, rtol=0, atol=1e-10)
    dense = jacobian(lambda u: part(u)[0], x)
    assert_close(log_det, torch.linalg.slogdet(dense)[1], rtol=0, atol=1e-10)
    assert not is_triangular_monotone(lambda u: part(u)[0], x)


def test_a_reversed_layer_is_upper_triangular():
    layer = Reversed(SplineLayer(3, (16,))).double()
    x = torch.randn(9, 3, dtype=torch.float64)
    assert jacobian(lambda u: layer(u)[0], x).tril(-1).abs().max() == 0


def test_a_rotation_keeps_lengths():
    x = torch.randn(9, 4)
    assert_close(Rotation(4)(x)[0].norm(dim=-1), x.norm(dim=-1))
