"""The ladder: each figure against an independent computation, and what it is blind to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from scipy.optimize import linear_sum_assignment
from scipy.stats import ortho_group, spearmanr

from pyrolvm.core.errors import DataError, UnknownNameError
from pyrolvm.identifiability import (
    LADDER,
    affine_r2,
    lowest_rung,
    mcc,
    nonlinear_r2,
    orthogonal_r2,
    raw_r2,
    sign_r2,
    signed_correlation,
)

N, D = 300, 3


@pytest.fixture
def codes():
    """Two related sets of codes with other means and scales."""
    z = torch.randn(N, D, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5]) + 1.0
    mixed = z @ torch.randn(D, D, dtype=torch.float64)
    return z, mixed + 0.5 * torch.randn(N, D, dtype=torch.float64) - 2.0


def r2(z, other):
    return np.mean(1 - ((z - other) ** 2).sum(0) / ((z - z.mean(0)) ** 2).sum(0))


def test_raw_r2_is_that_of_its_definition(codes):
    z, z_hat = codes
    assert abs(raw_r2(z, z_hat) - r2(z.numpy(), z_hat.numpy())) < 1e-10


def test_signed_correlation_is_the_mean_of_equal_coordinates(codes):
    z, z_hat = (c.numpy() for c in codes)
    expected = np.mean([np.corrcoef(z[:, i], z_hat[:, i])[0, 1] for i in range(D)])
    assert abs(signed_correlation(*codes) - expected) < 1e-10


def test_sign_r2_is_the_best_of_all_signs(codes):
    z, z_hat = (c.numpy() for c in codes)
    mirrored = z.mean(0) + z_hat.mean(0) - z_hat
    turned = [
        r2(z, np.where(signs, mirrored, z_hat))
        for signs in itertools.product((True, False), repeat=D)
    ]
    assert abs(sign_r2(*codes) - max(turned)) < 1e-10


def test_sign_r2_sees_a_flip_wherever_the_data_lie():
    z = torch.randn(30, 2) + 0.5
    assert abs(sign_r2(z, z * torch.tensor([1.0, -1.0])) - 1) < 1e-6
    assert sign_r2(z, z + 1) < 0.5


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_mcc_is_that_of_numpy_and_scipy(codes, correlation):
    z, z_hat = (c.numpy() for c in codes)
    if correlation == "pearson":
        matrix = np.abs(np.corrcoef(z.T, z_hat.T)[:D, D:])
    else:
        matrix = np.abs(spearmanr(z, z_hat).statistic[:D, D:])
    expected = matrix[linear_sum_assignment(-matrix)].mean()
    assert abs(mcc(*codes, correlation) - expected) < 1e-10
    tried = [
        np.mean([matrix[i, p[i]] for i in range(D)]) for p in itertools.permutations(range(D))
    ]
    assert abs(expected - max(tried)) < 1e-10


def test_spearman_shares_the_ranks_of_equal_values():
    z = torch.tensor([[1.0], [1.0], [2.0], [3.0], [3.0], [3.0]])
    z_hat = torch.tensor([[1.0], [2.0], [2.0], [5.0], [4.0], [5.0]])
    expected = spearmanr(z[:, 0], z_hat[:, 0]).statistic
    assert abs(mcc(z, z_hat, "spearman") - expected) < 1e-10


def test_orthogonal_r2_is_that_of_scipys_procrustes(codes):
    z, z_hat = ((c - c.mean(0)).numpy() for c in codes)
    turn, _ = orthogonal_procrustes(z_hat, z)
    expected = 1 - ((z - z_hat @ turn) ** 2).sum() / (z**2).sum()
    assert abs(orthogonal_r2(*codes) - expected) < 1e-10


def test_affine_r2_is_that_of_least_squares(codes):
    z, z_hat = (c.numpy() for c in codes)
    design = np.column_stack([z_hat, np.ones(N)])
    expected = r2(z, design @ np.linalg.lstsq(design, z, rcond=None)[0])
    assert abs(affine_r2(*codes) - expected) < 1e-10


def test_affine_r2_takes_codes_that_repeat_each_other():
    z = torch.randn(50, 2, dtype=torch.float64)
    repeated = torch.stack([z[:, 0], 2 * z[:, 0]], -1)
    best = np.corrcoef(z.T.numpy())[0, 1] ** 2
    assert abs(affine_r2(z, repeated) - (1 + best) / 2) < 1e-10


def bent(z):
    """An invertible map that is far from affine: the first coordinate is sheared by the second."""
    return torch.cat([z[:, :1] + 0.7 * z[:, 1:2] ** 2, z[:, 1:]], -1)


MAPS = {
    "permutation": lambda z: z[:, [2, 0, 1]],
    "sign": lambda z: z * torch.tensor([1.0, -1.0, -1.0]),
    "scale": lambda z: z * torch.tensor([0.1, 3.0, 20.0]) + 5.0,
    "rotation": lambda z: z @ torch.from_numpy(ortho_group.rvs(D, random_state=1)),
    "affine": lambda z: z @ torch.tensor([[1.0, 2, 0], [0, 1, -1], [3, 0, 1]]).double() + 1.0,
}

BLIND_TO = {
    "signed_correlation": {"scale"},
    "sign_r2": set(),
    "raw_r2": set(),
    "mcc": {"permutation", "sign", "scale"},
    "mcc_spearman": {"permutation", "sign", "scale"},
    "orthogonal_r2": {"permutation", "sign", "rotation"},
    "affine_r2": set(MAPS),
}


@pytest.mark.parametrize("metric", BLIND_TO)
@pytest.mark.parametrize("name", MAPS)
def test_what_a_figure_is_blind_to(codes, metric, name):
    z, z_hat = codes
    before, after = LADDER[metric](z, z_hat), LADDER[metric](z, MAPS[name](z_hat))
    if name in BLIND_TO[metric]:
        assert abs(before - after) < 1e-10
    elif (metric, name) != ("sign_r2", "sign"):
        assert abs(before - after) > 1e-3


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda z: z, "identified"),
        (lambda z: z * torch.tensor([-1.0, 1.0, -1.0]), "signs"),
        (lambda z: 2 * z[:, [1, 2, 0]], "permutation, sign and scale"),
        (lambda z: z[:, [1, 2, 0]] ** 3, "permutation and monotone maps"),
        (MAPS["rotation"], "orthogonal"),
        (MAPS["affine"], "affine"),
        (lambda z: MAPS["affine"](bent(z)), "nonlinear"),
        (lambda z: z[torch.randperm(len(z))], "none"),
    ],
)
def test_the_lowest_rung_names_the_map(change, kind):
    z = torch.rand(2000, D, dtype=torch.float64) * 4 - 2
    values = {name: metric(z, change(z)) for name, metric in LADDER.items()}
    assert lowest_rung(values).kind == kind


def test_nonlinear_r2_sees_a_smooth_map_and_no_other():
    z = torch.randn(1500, 2, dtype=torch.float64)
    assert nonlinear_r2(z, bent(z)) > 0.97 > 0.9 > affine_r2(z, bent(z))
    assert abs(nonlinear_r2(z, torch.randn_like(z))) < 0.25


def test_nonlinear_r2_loses_nothing_on_affine_maps():
    z = torch.randn(60, D, dtype=torch.float64)
    assert nonlinear_r2(z, MAPS["affine"](z)) > 1 - 1e-10


@pytest.mark.parametrize(
    ("z", "z_hat", "words"),
    [
        (torch.randn(9, 2), torch.randn(8, 2), "one shape"),
        (torch.randn(2, 2), torch.randn(2, 2), "more rows than coordinates"),
        (torch.randn(3, 2), torch.randn(3, 2), "2 more rows than coordinates"),
        (torch.randn(9), torch.randn(9), "matrix of codes"),
        (torch.tensor([[1.0], [torch.nan], [2.0]]), torch.randn(3, 1), "row 1 of z holds NaN"),
        (torch.randn(9, 1), torch.ones(9, 1), "coordinate 0 of z_hat is constant"),
    ],
)
@pytest.mark.parametrize("metric", LADDER.values())
def test_codes_that_cannot_be_compared_are_refused(z, z_hat, words, metric):
    with pytest.raises(DataError, match=words):
        metric(z, z_hat)


def test_too_few_rows_for_neighbours_are_refused():
    with pytest.raises(DataError, match="at least 20 rows"):
        nonlinear_r2(torch.randn(10, 2), torch.randn(10, 2))


def test_an_unknown_correlation_is_refused():
    with pytest.raises(UnknownNameError, match="pearson"):
        mcc(torch.randn(9, 2), torch.randn(9, 2), "kendall")
