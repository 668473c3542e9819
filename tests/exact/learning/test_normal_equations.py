"""Both solvers of a layer's equations against a dense system written with ``kron``."""

from __future__ import annotations

import numpy as np
import pytest

from pyrolvm.exact.learning import normal_equations
from pyrolvm.exact.learning.normal_equations import (
    mean_curvature,
    solve_dense,
    solve_iteratively,
    solve_summed,
)


@pytest.fixture
def equations():
    random = np.random.default_rng(0)
    factors = random.normal(size=(30, 2, 6)), random.normal(size=(30, 3, 4))
    outer, inner = (np.swapaxes(f, 1, 2) @ f for f in factors)
    return outer, inner, random.normal(size=(6, 4))


@pytest.mark.parametrize("solver", [solve_dense, solve_iteratively])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_both_solvers_solve_the_kronecker_system(equations, solver, penalty):
    outer, inner, right = equations
    matrix = sum(np.kron(u, h) for u, h in zip(outer, inner, strict=True))
    assert mean_curvature(outer, inner) == pytest.approx(np.diag(matrix).mean())
    wanted = np.linalg.solve(matrix + penalty * np.eye(24), right.ravel()).reshape(right.shape)
    np.testing.assert_allclose(solver(outer, inner, right, penalty), wanted, rtol=1e-6, atol=1e-9)


def test_large_systems_are_solved_without_a_matrix(equations, monkeypatch):
    dense = solve_summed(*equations, 1e-3)
    monkeypatch.setattr(normal_equations, "DENSE_SIZE", 1)
    monkeypatch.setattr(normal_equations, "solve_dense", None)
    np.testing.assert_allclose(solve_summed(*equations, 1e-3), dense, rtol=1e-6, atol=1e-9)


def test_directions_without_curvature_do_not_move(equations):
    outer, inner, _ = equations
    outer[:, 0], outer[:, :, 0] = 0.0, 0.0
    right = np.ones((6, 4))
    right[0] = 0.0
    assert not solve_summed(outer, inner, right, 1e-8)[0].any()
    assert not solve_summed(0 * outer, inner, right, mean_curvature(0 * outer, inner)).any()


def test_a_sum_that_rounding_made_indefinite_is_solved_all_the_same():
    random = np.random.default_rng(0)
    narrow = 1e8 * random.normal(size=(3, 6, 1))
    outer = narrow @ narrow.transpose(0, 2, 1)
    wide = 1e3 * random.normal(size=(3, 5, 2))
    inner = wide @ wide.transpose(0, 2, 1)
    right = (outer @ random.normal(size=(6, 5)) @ inner).sum(0)
    square = np.einsum("roq,rij->oiqj", outer, inner).reshape(30, 30)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(square + 1e-3 * np.eye(30))
    found = solve_dense(outer, inner, right, 1e-3)
    rest = (outer @ found @ inner).sum(0) - right
    assert np.abs(rest).max() < 1e-3 * np.abs(right).max()
