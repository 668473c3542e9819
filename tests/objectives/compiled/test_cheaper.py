"""Cheaper forms of operations against torch's own, at single and double precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pyrolvm.objectives.compiled.cheaper import (
    CHEAPER,
    LINEAR_ABOVE,
    cheaper,
    log1p_of_exp,
)
from pyrolvm.objectives.compiled.graph import tidy
from pyrolvm.objectives.compiled.tracer import trace

aten = torch.ops.aten
LOGITS = torch.cat([torch.linspace(-40, 40, 4001), torch.tensor([0.0, -0.0, 1e-30, 200, -200])])
EPSILON = {torch.float32: 5e-7, torch.float64: 1e-15}


@pytest.fixture(params=EPSILON, ids=str)
def logits(request):
    return LOGITS.to(request.param)


def test_the_series_is_accurate_relative_to_its_value(logits):
    plain = torch.log1p(torch.exp(-logits.double().abs()))
    error = (log1p_of_exp(logits).double() - plain).abs()
    assert (error <= EPSILON[logits.dtype] * plain + 1e-44).all()


@pytest.mark.parametrize("special", [torch.inf, -torch.inf, torch.nan])
def test_what_is_not_finite_gives_what_torch_gives(special):
    logits = torch.tensor([special])
    for operation in (aten.softplus.default, aten.log_sigmoid_forward.default):
        found, plain = CHEAPER[operation](logits), operation(logits)
        if isinstance(plain, tuple):
            found, plain = found[0], plain[0]
        torch.testing.assert_close(found, plain, equal_nan=True)


@pytest.mark.parametrize(
    "loss",
    [
        functional.logsigmoid,
        functional.softplus,
        lambda a: functional.softplus(a, beta=3.0),
        lambda a: functional.softplus(a, threshold=2.0),
        lambda a: functional.binary_cross_entropy_with_logits(a, a.sigmoid(), reduction="none"),
        lambda a: functional.binary_cross_entropy_with_logits(a, a.sigmoid()),
        lambda a: functional.binary_cross_entropy_with_logits(
            a, a.sigmoid(), weight=a.detach().exp()
        ),
    ],
)
def test_losses_and_their_gradients_are_torchs(loss, logits):
    def value_and_gradient(a):
        a = a.detach().requires_grad_()
        value = loss(a)
        return value.detach(), torch.autograd.grad(value.sum(), a)[0]

    logits = logits[logits.abs() < LINEAR_ABOVE]
    graph = trace(value_and_gradient, [logits])
    value, gradient = value_and_gradient(logits)
    found = cheaper(graph)(logits)
    tolerance = EPSILON[logits.dtype]
    torch.testing.assert_close(found[0], value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found[1], gradient, rtol=tolerance, atol=tolerance)


def test_a_graph_is_left_as_it_was():
    before = trace(lambda a: (functional.softplus(a),), [torch.zeros(3)])
    code = before.code
    cheaper(before)
    assert before.code == code


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("form", ["plain", "expanded", "transposed", "small"])
def test_bernoulli_draws_by_comparison_are_the_same_ones(form, dtype):
    chances = torch.rand(7, 40, dtype=dtype)
    chances = {
        "plain": chances, "expanded": chances.expand(5, 7, 40), "transposed": chances.T,
        "small": chances[0, :3],
    }[form]  # fmt: skip
    graph = trace(lambda p: (torch.bernoulli(p), torch.rand(3)), [chances])
    tidy(graph)
    assert not any(node.target is aten.bernoulli.default for node in graph.graph.nodes)
    torch.manual_seed(4)
    plain = torch.bernoulli(chances), torch.rand(3)
    torch.manual_seed(4)
    found = graph(chances)
    assert all(map(torch.equal, found, plain))
