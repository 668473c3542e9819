"""The sign of a code, fixed by an output."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.identifiability import fix_sign_by, raw_r2


def test_codes_that_differ_by_signs_agree_afterwards():
    z = torch.randn(200, 2)
    x = torch.stack([z[:, 0] + 0.5 * z[:, 1], z[:, 1]], -1)
    one, other = fix_sign_by(x, z), fix_sign_by(x, z * torch.tensor([1.0, -1.0]))
    assert raw_r2(z, -z) < 0
    assert torch.equal(one, other)
    covariance = ((x[:, :1] - x[:, :1].mean()) * (one - one.mean(0))).mean(0)
    assert (covariance > 0).all()


def test_another_output_may_decide():
    z = torch.randn(50, 1)
    x = torch.cat([z, -z], -1)
    assert torch.equal(fix_sign_by(x, z, output=1), -fix_sign_by(x, z))


@pytest.mark.parametrize(
    ("x", "z", "output", "words"),
    [
        (torch.randn(3, 1), torch.randn(4, 1), 0, "observations"),
        ({"x": torch.randn(3, 1)}, torch.randn(3, 1), 0, "a dict and"),
        (torch.randn(3, 1), torch.randn(3, 1), 1, "coordinate 1 of x"),
        (torch.ones(3, 1), torch.randn(3, 1), 0, "does not go with"),
    ],
)
def test_what_gives_no_sign_is_refused(x, z, output, words):
    with pytest.raises(DataError, match=words):
        fix_sign_by(x, z, output)
