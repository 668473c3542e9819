"""The posterior along a line against quadrature along the line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from pyrolvm.exact import AffineStack, GeneratorError, ObservationError
from pyrolvm.exact.folding import fold
from pyrolvm.exact.intervals import sweep
from pyrolvm.exact.lines import line_conditional
from pyrolvm.exact.lines.conditional_kernel import (
    KEEP,
    draw_on_line,
    log_span,
    log_weight,
    make_room,
    sweep_line,
)
from pyrolvm.exact.lines.problem import line_problem

NODES, WEIGHTS = np.polynomial.legendre.leggauss(20)


def mixture(stack, components, seed=3):
    """The same generator under a mixture of Gaussians."""
    random = torch.Generator().manual_seed(seed)
    dim = stack.latent_dim

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    factors = 0.3 * normal(components, dim, dim)
    factors = factors.tril(-1) + torch.diag_embed(0.4 + factors.diagonal(dim1=-2, dim2=-1).abs())
    return replace(
        stack,
        prior_loc=1.5 * normal(components, dim),
        prior_scale_tril=factors,
        prior_logits=normal(components),
    )


def log_prior(stack, z):
    logits = stack.prior_logits
    if logits is None:
        return MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril).log_prob(z)
    each = MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril)
    return (each.log_prob(z[..., None, :]) + logits.log_softmax(0)).logsumexp(-1)


def log_joint(stack, x, z):
    return log_prior(stack, z) + Normal(stack.forward(z), stack.noise_scale).log_prob(x).sum(-1)


def integrals(stack, x, point, direction, low, high, longest=0.02):
    """Log of the integral of p(x, z(t)) t^k over [low, high] for k = 0, and the k-th moments."""
    count = max(1, int(np.ceil((high - low) / longest)))
    edges = np.linspace(low, high, count + 1)
    half = 0.5 * np.diff(edges)[:, None]
    t = torch.from_numpy((edges[:-1, None] + half * (NODES + 1)).reshape(-1))
    weight = torch.from_numpy(np.broadcast_to(half * WEIGHTS, (count, 20)).reshape(-1).copy())
    value = log_joint(stack, x, point + t[:, None] * direction).detach() + weight.log()
    total = value.logsumexp(0)
    share = (value - total).exp()
    return total.item(), (share @ t).item(), (share @ t.square()).item()


def kinks(stack, point, direction, low, high):
    """Zeros of all pre-activations on the line, by sign changes on a fine grid."""
    grid = torch.linspace(low, high, 100_001, dtype=torch.float64)
    hidden, found = point + grid[:, None] * direction, []
    for weight, bias, slope in zip(stack.weights, stack.biases, stack.slopes, strict=False):
        inner = (hidden @ weight.mT + bias).detach()
        rows, columns = torch.nonzero(inner[1:] * inner[:-1] < 0, as_tuple=True)
        start, end = inner[rows, columns], inner[rows + 1, columns]
        found.append(grid[rows] + (grid[1] - grid[0]) * start / (start - end))
        hidden = inner.clamp(min=0) + slope * inner.clamp(max=0)
    return torch.cat(found).sort().values


def a_line(dim, seed=0):
    random = torch.Generator().manual_seed(seed)
    point = 0.5 * torch.randn(dim, generator=random, dtype=torch.float64)
    direction = torch.randn(dim, generator=random, dtype=torch.float64)
    return point, direction / direction.norm()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize(
    ("dim", "hidden"), [(1, (6,)), (2, (6, 5)), (4, (5, 4, 6)), (10, (12, 10))]
)
def test_pieces_match_quadrature_on_each_piece(random_stack, observe, dim, hidden, activation):
    stack = random_stack(dim, hidden, 4, 0.3, activation, seed=dim)
    x = observe(stack, 1)[0]
    point, direction = a_line(dim)
    found = line_conditional(stack, x, point, direction)
    assert len(found.log_weights) >= 4
    # pieces 20 nats and more below the best one are checked in relative terms all the same
    offset = None
    order = found.log_weights.argsort(descending=True)
    for i in order.tolist():
        low, high = max(found.low[i].item(), -30.0), min(found.high[i].item(), 30.0)
        if high - low < 1e-9 or found.log_weights[i] < found.log_weights[order[0]] - 200:
            continue
        truth, _, _ = integrals(stack, x, point, direction, low, high)
        offset = truth - found.log_weights[i].item() if offset is None else offset
        assert truth - offset == pytest.approx(found.log_weights[i].item(), abs=1e-10, rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "abs"])
@pytest.mark.parametrize("components", [0, 3])
def test_moments_match_quadrature(random_stack, observe, activation, components):
    stack = random_stack(3, (7, 6), 4, 0.2, activation, seed=5)
    x = observe(stack, 1)[0]
    stack = mixture(stack, components) if components else stack
    point, direction = a_line(3, seed=2)
    found = line_conditional(stack, x, point, direction)
    cuts = np.unique(np.clip([-30.0, *found.breakpoints.tolist(), 30.0], -30, 30))
    parts = [integrals(stack, x, point, direction, low, high) for low, high in pairwise(cuts)]
    log_mass, first, second = torch.tensor(parts, dtype=torch.float64).T
    share = log_mass.softmax(0)
    mean, square = (share @ first).item(), (share @ second).item()
    assert found.mean == pytest.approx(mean, abs=1e-10)
    assert found.variance == pytest.approx(square - mean**2, abs=1e-10)


def test_components_of_a_mixture_add_up_on_each_piece(random_stack, observe):
    stack = mixture(random_stack(2, (5, 4), 3, 0.4, seed=1), 3)
    x, (point, direction) = observe(random_stack(2, (5, 4), 3, 0.4, seed=1), 1)[0], a_line(2)
    found = line_conditional(stack, x, point, direction)
    places = {}
    for low, weight in zip(found.low.tolist(), found.log_weights, strict=True):
        places.setdefault(low, []).append(weight)
    assert {len(weights) for weights in places.values()} == {3}
    offsets = []
    for low, weights in places.items():
        high = found.high[found.low == low][0].item()
        if high - low < 1e-9:
            continue
        begin, end = max(low, -40.0), min(high, 40.0)
        truth, _, _ = integrals(stack, x, point, direction, begin, end)
        offsets.append(truth - torch.stack(weights).logsumexp(0).item())
    assert len(offsets) > 4
    assert max(offsets) - min(offsets) < 1e-9


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("dim", [2, 7])
def test_breakpoints_are_the_sign_changes_of_units(random_stack, observe, dim, activation):
    stack = random_stack(dim, (9, 8, 7), 3, 0.3, activation, seed=dim)
    point, direction = a_line(dim, seed=1)
    found = line_conditional(stack, observe(stack, 1)[0], point, direction).breakpoints
    inside = found[(found > -6) & (found < 6)]
    truth = kinks(stack, point, direction, -6.0, 6.0)
    assert len(truth) > 8
    torch.testing.assert_close(inside, truth, rtol=0, atol=1e-8)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
def test_breakpoints_of_one_latent_are_those_of_the_enumeration(random_stack, observe, activation):
    stack = random_stack(1, (12, 10, 8), 3, 0.3, activation, seed=4)
    one = torch.ones(1, dtype=torch.float64)
    found = line_conditional(stack, observe(stack, 1)[0], 0.1 * one, one).breakpoints
    folded = fold(stack)
    edges, _ = sweep(folded, 10_000)
    truth = torch.from_numpy(folded.to_latent(edges[1:-1, None])[:, 0]) - 0.1
    assert len(found) == len(truth) > 12
    torch.testing.assert_close(found, truth, rtol=1e-9, atol=1e-9)


def test_units_that_bend_together_are_all_met(observe):
    """Equal and opposite units: several kinks at one place, pieces of no length between them."""
    weight = torch.tensor([[1.0, 0.5], [1.0, 0.5], [-1.0, -0.5], [2.0, 1.0]]).double()
    bias = torch.tensor([0.3, 0.3, -0.3, 0.6]).double()
    second = torch.tensor([[1.0, -1.0, 2.0, 0.5], [1.0, 1.0, 1.0, -3.0]]).double()
    last = torch.tensor([[1.0, 2.0], [0.5, -1.0], [1.0, 1.0]]).double()
    eye = torch.eye(2).double()
    stack = AffineStack(
        (weight, second, last), (bias, torch.zeros(2).double(), torch.zeros(3).double()),
        (0.0, 0.0), torch.tensor(0.3).double(), torch.zeros(2).double(), eye,
    )  # fmt: skip
    x = torch.tensor([0.5, -0.2, 0.7]).double()
    point, direction = torch.tensor([0.2, -0.4]).double(), torch.tensor([0.6, 0.8]).double()
    found = line_conditional(stack, x, point, direction)
    grid = np.unique([-30.0, *found.breakpoints.tolist(), 30.0])
    parts = [integrals(stack, x, point, direction, a, b) for a, b in pairwise(grid)]
    share = torch.tensor([p[0] for p in parts], dtype=torch.float64).softmax(0)
    mean = (share @ torch.tensor([p[1] for p in parts], dtype=torch.float64)).item()
    assert found.mean == pytest.approx(mean, abs=1e-10)


def test_a_start_on_a_kink_is_no_different(random_stack, observe):
    stack = random_stack(2, (6, 5), 3, 0.3, "abs", seed=2)
    x, (point, direction) = observe(stack, 1)[0], a_line(2)
    whole = line_conditional(stack, x, point, direction)
    kink = whole.breakpoints[whole.breakpoints.abs().argmin()].item()
    moved = line_conditional(stack, x, point + kink * direction, direction)
    assert moved.mean + kink == pytest.approx(whole.mean, abs=1e-10)
    assert moved.variance == pytest.approx(whole.variance, abs=1e-10)


def test_far_off_observations_keep_their_digits(random_stack, observe):
    """Small noise, far from the manifold: weights of thousands of nats, still right to 1e-8."""
    stack = random_stack(3, (8, 6), 4, 0.003, "relu", seed=7)
    x = observe(stack, 1, away=200.0)[0]
    point, direction = a_line(3)
    found = line_conditional(stack, x, point, direction)
    best = found.log_weights.argsort(descending=True)[:3]
    truth = [
        integrals(
            stack, x, point, direction,
            max(found.low[i].item(), -30.0), min(found.high[i].item(), 30.0), 1e-4,
        )[0]
        for i in best
    ]  # fmt: skip
    ours = found.log_weights[best]
    assert min(truth) < -1000
    torch.testing.assert_close(
        ours - ours[0], torch.tensor(truth, dtype=torch.float64) - truth[0], rtol=1e-10, atol=1e-8
    )


def test_pieces_that_a_draw_leaves_out_do_not_matter(random_stack, observe):
    stack = random_stack(4, (16, 16), 5, 0.1, seed=3)
    problem, x = line_problem(stack), observe(stack, 1)
    y, _ = problem.folded.reduce(x.numpy())
    room, rows = make_room(problem.net), np.empty((2, 7))
    point, direction = np.full(4, 0.3), np.array([0.5, -0.5, 0.5, 0.5])
    few, used, _ = sweep_line(point, direction, y[0], 1.0, problem.net, room, KEEP, rows)
    few = few[:used]
    many, number, met = sweep_line(
        point, direction, y[0], 1.0, problem.net, room, np.inf, np.empty((2, 7))
    )
    assert used < number <= met
    total, kept = (
        np.logaddexp.reduce([log_weight(piece) for piece in rows]) for rows in (many[:number], few)
    )
    assert kept == pytest.approx(total, abs=1e-14)


def test_bounds_of_weights_are_close(random_stack, observe):
    stack = random_stack(4, (12, 12), 3, 0.5, "abs", seed=3)
    point, direction = a_line(4)
    pieces = line_conditional(stack, observe(stack, 1)[0], point, direction).pieces
    weights = np.array([log_weight(piece) for piece in pieces])
    assert len(pieces) > 20
    assert (weights < pieces[:, 0] + 1e-12).all()
    assert (weights > pieces[:, 0] - np.log(2.5)).all()


def test_a_linear_generator_has_one_piece(random_stack, observe):
    stack = random_stack(3, (), 4, 0.3)
    x, (point, direction) = observe(stack, 1)[0], a_line(3)
    found = line_conditional(stack, x, point, direction)
    jacobian = (stack.weights[0] @ direction).detach() / stack.noise_scale
    along = torch.linalg.solve_triangular(stack.prior_scale_tril, direction[:, None], upper=False)
    precision = jacobian.square().sum() + along.square().sum()
    assert len(found.breakpoints) == 0
    assert found.variance == pytest.approx(1 / precision.item(), rel=1e-10)


@pytest.mark.parametrize(
    ("point", "direction", "reason"),
    [
        (torch.zeros(2), torch.ones(3), "a point of 3"),
        (torch.zeros(3), torch.full((3,), torch.nan), "a direction of 3"),
        (torch.zeros(3), torch.zeros(3), "all its coordinates are 0"),
    ],
)
def test_a_bad_line_is_refused(random_stack, point, direction, reason):
    with pytest.raises(ObservationError, match=reason):
        line_conditional(random_stack(3, (4,), 2), torch.zeros(2), point, direction)


def test_a_mixture_with_a_bad_factor_is_refused(random_stack):
    stack = mixture(random_stack(2, (4,), 3), 2)
    stack.prior_scale_tril[1, 1, 1] = -1.0
    with pytest.raises(GeneratorError, match="positive diagonal"):
        line_problem(stack)


@pytest.mark.parametrize("length", [1e-5, 1e-3, 0.1, 10.0])
@pytest.mark.parametrize("precision", [1e-2, 1.0, 1e6, 1e14])
def test_a_draw_does_not_depend_on_how_low_the_density_is(length, precision):
    """Far off the manifold the log density has no decimals: rounding alone is many nats."""
    span = log_span(-0.3 * length * precision**0.5, 0.7 * length * precision**0.5)
    span -= 0.5 * np.log(precision)
    drawn = []
    for peak in (0.0, -1e17, -1.7e18):
        piece = np.array([[peak + span, peak, 0.0, length, 0.3 * length, precision, 1.0]])
        states = [np.array([seed], dtype=np.uint64) for seed in range(20)]
        drawn.append([draw_on_line(piece, 1, state) for state in states])
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(set(drawn[0])) == 20
    assert all(0 <= value <= length for value in drawn[0])
