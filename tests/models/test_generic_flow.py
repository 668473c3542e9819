"""GenericFlow: an exact flow whose codes nothing holds."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import models
from pyrolvm.core import HasCode, TriangularMonotone, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.pairing import offers
from pyrolvm.nn.triangular import is_triangular_monotone, jacobian
from pyrolvm.testing import ModelContract


class TestGenericFlow(ModelContract):
    def make(self):
        return models.GenericFlow(3, hidden=(8,))


@pytest.fixture(params=["spline", "integral", "affine"])
def flow(request):
    torch.manual_seed(0)
    model = models.GenericFlow(3, layers=3, kind=request.param, hidden=(16,)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.standardise_by(3 * torch.randn(50, 3) + 1)


def test_it_is_an_exact_flow_and_not_triangular(flow):
    x = 2 * torch.randn(40, 3, dtype=torch.float64)
    assert_close(flow.decode(flow.encode(x)), x, rtol=0, atol=1e-6)
    dense = torch.linalg.slogdet(jacobian(flow.encode, x))[1]
    assert_close(flow.log_evidence(x), flow.prior().log_prob(flow.encode(x)) + dense)
    assert not is_triangular_monotone(flow.encode, x)


def test_it_offers_a_code_and_not_the_triangular_form(flow):
    assert offers(flow, HasCode)
    assert not offers(flow, TriangularMonotone)


def test_equal_likelihoods_with_codes_that_disagree():
    torch.manual_seed(0)
    x = torch.randn(1000, 2)
    x = torch.stack([x[:, 0], x[:, 1] + x[:, 0] ** 2], -1)
    codes, losses = [], []
    for seed in (1, 2, 3):
        torch.manual_seed(seed)
        model = models.GenericFlow(2, hidden=(16,))
        lvm.fit_exact(model, x, optimizer="adam", steps=100, batch_size=250, progress=False)
        codes.append(model.encode(x).detach())
        losses.append(float(-lvm.log_evidence(model, x).value.mean().detach()))
    assert max(losses) - min(losses) < 0.05
    assert max((codes[0] - other).square().mean() for other in codes) > 0.5


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(SettingError, match="dim should be at least 1"):
        models.GenericFlow(0)
    with pytest.raises(SettingError, match="layers should be at least 1"):
        models.GenericFlow(2, layers=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'spline'"):
        models.GenericFlow(2, kind="spine")
