"""The test of triangular monotonicity against maps with known Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.nn.triangular import is_triangular_monotone, jacobian, triangularity

X = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def toy(z):
    first = z[:, 0] + 0.6 * z[:, 0].sin()
    return torch.stack([first, z[:, 1] * (0.4 * (1.5 * first).sin()).exp() + 0.6 * first**2], -1)


def test_jacobians_are_those_of_torch():
    one = lambda z: toy(z[None])[0]  # noqa: E731
    wanted = torch.stack([torch.autograd.functional.jacobian(one, x) for x in X[:5]])
    assert_close(jacobian(toy, X)[:5], wanted)


def test_jacobians_need_no_gradient_mode_around_them():
    with torch.no_grad():
        assert is_triangular_monotone(toy, X)


@pytest.mark.parametrize(
    ("change", "is_monotone"),
    [
        (lambda z: z, True),
        (lambda z: z.flip(-1), False),
        (lambda z: z * torch.tensor([1.0, -1.0]), False),
        (lambda z: z @ torch.tensor([[1.0, 1e-3], [0.0, 1.0]]).double(), True),
        (lambda z: z @ torch.tensor([[1.0, 0.0], [1e-3, 1.0]]).double(), False),
    ],
)
def test_only_triangular_increasing_changes_pass(change, is_monotone):
    assert is_triangular_monotone(lambda z: toy(change(z)), X) is is_monotone


def test_signs_of_the_diagonal_are_compared_with_the_signature():
    turned = lambda z: toy(z) * torch.tensor([1.0, -1.0])  # noqa: E731
    assert is_triangular_monotone(turned, X, signature=(1, -1))
    assert not is_triangular_monotone(turned, X)


def test_the_largest_entry_above_is_a_share():
    shear = torch.tensor([[100.0, 0.0], [1.0, 50.0]]).double()
    found = triangularity(lambda z: z @ shear, X)
    assert_close(found.largest_above, 0.01)
    assert_close(found.smallest_diagonal, 50.0)


def test_constant_outputs_are_not_monotone():
    assert not is_triangular_monotone(lambda z: z * torch.tensor([1.0, 0.0]), X)


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="at least one row"):
        triangularity(toy, X[:0])
    with pytest.raises(SettingError, match="width 2 needs as many signs"):
        triangularity(toy, X, (1, 1, 1))
    with pytest.raises(DataError, match="not finite"):
        triangularity(lambda z: z.abs().sqrt() * 0 + (z - X).abs().sqrt(), X)
