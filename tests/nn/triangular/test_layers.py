"""Triangular layers: exact Jacobians, inverses and log-determinants at random weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import DataError, SettingError, UnknownNameError
from pyrolvm.nn.triangular import (
    KINDS,
    AffineLayer,
    Composition,
    IntegralLayer,
    RationalQuadraticSpline,
    Signs,
    SplineLayer,
    Standardise,
    jacobian,
    triangular_layers,
    triangularity,
)


def wild(module):
    """Weights far from the start, where the layer is almost the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.7))
    return module.double()


def points(dim, size=300):
    """Most of them within the boxes, some in the tails."""
    return 3 * torch.randn(size, dim, dtype=torch.float64)


@pytest.fixture(params=[(kind, dim) for kind in KINDS for dim in (1, 2, 4)], ids=str)
def layer(request):
    kind, dim = request.param
    torch.manual_seed(dim)
    return wild(KINDS[kind](dim, (16, 16)))


def test_the_jacobian_is_lower_triangular_with_positive_diagonal(layer):
    x = points(layer.dim)
    found = triangularity(lambda u: layer(u)[0], x)
    assert found.largest_above == 0
    assert found.smallest_diagonal > 0
    assert (layer(x)[0] - x).abs().mean() > 0.3  # far from the identity


def test_each_output_depends_on_all_coordinates_before_it(layer):
    mean = jacobian(lambda u: layer(u)[0], points(layer.dim)).abs().mean(0)
    assert (mean.tril() > 0).sum() == layer.dim * (layer.dim + 1) // 2


def test_the_inverse_undoes_the_map_and_the_map_the_inverse(layer):
    x = points(layer.dim)
    assert_close(layer.inverse(layer(x)[0]), x, rtol=0, atol=1e-10)
    assert_close(layer(layer.inverse(x))[0], x, rtol=0, atol=1e-10)


def test_the_log_determinant_is_that_of_the_jacobian(layer):
    x = points(layer.dim)
    dense = torch.linalg.slogdet(jacobian(lambda u: layer(u)[0], x))[1]
    assert_close(layer(x)[1], dense, rtol=0, atol=1e-10)


def test_the_inverse_is_triangular_too_and_its_gradients_are_those_of_the_map(layer):
    y = points(layer.dim, 50)
    back = jacobian(layer.inverse, y)
    there = jacobian(lambda u: layer(u)[0], layer.inverse(y).detach())
    eye = torch.eye(layer.dim, dtype=torch.float64).expand_as(back)
    assert_close(there @ back, eye, rtol=0, atol=1e-7)
    assert back.triu(1).abs().max() == 0


def test_particles_in_front_change_nothing(layer):
    x = points(layer.dim, 12)
    y, log_det = layer(x.view(3, 4, -1))
    assert_close(y.view(12, -1), layer(x)[0])
    assert_close(log_det.view(12), layer(x)[1])
    assert_close(layer.inverse(y).view(12, -1), x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_inverts_to_its_rounding(kind):
    torch.manual_seed(0)
    layer = wild(KINDS[kind](2, (16, 16))).float()
    x = points(2).float()
    assert_close(layer.inverse(layer(x)[0]), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_layer_is_almost_the_identity(kind):
    torch.manual_seed(0)
    x = points(3)
    assert (KINDS[kind](3, (32, 32)).double()(x)[0] - x).abs().median() < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_compositions_stay_triangular_and_add_their_log_determinants(kind):
    torch.manual_seed(1)
    whole = wild(Composition(triangular_layers(3, 2, kind, (16,))))
    x = points(3)
    found = triangularity(lambda u: whole(u)[0], x)
    assert found.largest_above == 0
    assert found.smallest_diagonal > 0
    dense = torch.linalg.slogdet(jacobian(lambda u: whole(u)[0], x))[1]
    assert_close(whole(x)[1], dense, rtol=0, atol=1e-9)
    assert_close(whole.inverse(whole(x)[0]), x, rtol=0, atol=1e-6)


def test_signatures_cancel_in_the_quotient_of_two_maps():
    torch.manual_seed(2)
    signature = (1, -1, -1)
    one, other = (
        wild(Composition([*triangular_layers(3, 1), Signs(3, signature)])) for _ in range(2)
    )
    x = points(3)
    assert triangularity(lambda u: one(u)[0], x, signature).smallest_diagonal > 0
    quotient = triangularity(lambda u: other.inverse(one(u)[0]), x)
    assert quotient.largest_above < 1e-10
    assert quotient.smallest_diagonal > 0


def test_the_spline_is_the_identity_outside_its_box_and_for_zero_parameters():
    free = torch.randn(7, 23, dtype=torch.float64)
    outside = torch.tensor([-9.0, -5.0, 5.0, 7.0], dtype=torch.float64)[:, None]
    spline = RationalQuadraticSpline.from_free(free, 5.0)
    value, log_slope = spline(outside.expand(4, 7)[0])
    assert_close(value, outside.expand(4, 7)[0])
    assert log_slope.abs().max() == 0
    u = torch.linspace(-6, 6, 101, dtype=torch.float64)
    flat = RationalQuadraticSpline.from_free(torch.zeros(101, 23, dtype=torch.float64), 5.0)
    assert_close(flat(u)[0], u, rtol=0, atol=1e-12)


def test_the_spline_passes_through_its_knots_with_their_slopes():
    spline = RationalQuadraticSpline.from_free(torch.randn(23, dtype=torch.float64), 3.0)
    for k in range(9):
        value, log_slope = spline(spline.x[k])
        assert_close(value, spline.y[k], rtol=0, atol=1e-12)
        assert_close(log_slope.exp(), spline.slopes[k], rtol=1e-10, atol=0)


def test_the_integral_is_that_of_its_own_slope():
    torch.manual_seed(3)
    layer = wild(IntegralLayer(2))
    first = torch.linspace(-6.25, 6.25, 401, dtype=torch.float64)  # holds all nodes
    x = torch.stack([first, torch.zeros_like(first)], -1)
    with torch.no_grad():
        value, _ = layer(x)
        slope = layer.increase(x, layer.conditioner(x))[1].exp()
    total = torch.cumulative_trapezoid(slope[:, 0], first)
    assert_close(value[1:, 0] - value[0, 0], total, rtol=0, atol=1e-10)


def test_dense_nodes_give_the_integral_of_the_network_itself():
    torch.manual_seed(4)
    coarse, dense = IntegralLayer(1, intervals=32), IntegralLayer(1, intervals=2048)
    state = {n: t for n, t in wild(coarse).state_dict().items() if n != "nodes"}
    dense.double().load_state_dict(state, strict=False)
    x = torch.linspace(-4, 4, 41, dtype=torch.float64)[:, None]
    assert_close(coarse(x)[0], dense(x)[0], rtol=0, atol=1e-2)
    assert not torch.equal(coarse(x)[0], dense(x)[0])


def test_standardised_data_have_moments_zero_and_one():
    x = points(3) * torch.tensor([1.0, 100.0, 1e-3]) + 5
    part = Standardise(3).double()
    part.set_from(x)
    y, log_det = part(x)
    assert_close(y.std(0), torch.ones(3).double())
    assert_close(y.mean(0), torch.zeros(3).double(), rtol=0, atol=1e-6)
    dense = torch.linalg.slogdet(jacobian(lambda u: part(u)[0], x))[1]
    assert_close(log_det, dense)
    assert_close(part.inverse(y), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AffineLayer(0), "dim should be at least 1"),
        (lambda: SplineLayer(2, bins=1), "bins should be at least 2"),
        (lambda: SplineLayer(2, bound=0.0), "bound should be positive"),
        (lambda: IntegralLayer(2, context=0), "context should be at least 1"),
        (lambda: IntegralLayer(2, bound=math.inf), "bound should be positive and finite"),
        (lambda: Signs(3, (1, -1)), r"needs 3 signs.*\[1.0, -1.0\]"),
        (lambda: Signs(2, (1, 0)), r"each \+1 or -1"),
        (lambda: triangular_layers(2, layers=0), "layers should be at least 1"),
    ],
)
def test_settings_without_sense_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()


def test_an_unknown_kind_gets_the_nearest_known_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'spline'"):
        triangular_layers(2, kind="splin")


def test_the_wrong_width_is_refused_both_ways(layer):
    wrong = torch.zeros(5, layer.dim + 1).double()
    for way in (layer, layer.inverse, Composition([layer]), Composition([layer]).inverse):
        with pytest.raises(DataError, match=rf"\(\.\.\., {layer.dim}\), but got"):
            way(wrong)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([[0.0, 1.0], [2.0, 1.0]]), "coordinate 1 is constant"),
        (torch.tensor([[0.0, 1.0]]), "over the 1 rows given"),
        (torch.tensor([[0.0, 1.0], [torch.nan, 2.0]]), "finite points"),
        (torch.zeros(4, 3), "shape"),
    ],
)
def test_data_that_have_no_units_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        Standardise(2).set_from(x)
