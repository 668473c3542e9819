"""From measured arrays to the table and the tree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pyrolvm.diagnostics import khat_threshold
from pyrolvm.diagnostics.comparison_tree import Measured, comparison_tree, kept_draws, table

N, K = 6, 40


def measured(**changes):
    """Made-up figures of a guide whose gap is 1 nat, 0.4 of it the family's."""
    evidence = torch.linspace(-3, -1, N, dtype=torch.float64)
    made = Measured(
        kind="Amortized",
        family="full",
        parameters=7,
        elbo=evidence - 1.0,
        oracle_elbo=evidence - 0.4,
        log_evidence=evidence,
        log_evidence_error=torch.zeros(N),
        khat=torch.tensor([0.1, 0.2, 0.3, 0.4, 0.9, torch.inf]),
        ess=torch.full((N,), 20.0),
        bc2=torch.full((N,), 0.8),
        tv=torch.full((N,), 0.2),
        evidence_method="exact",
        sqrt_weight_ess=torch.full((N,), 0.9),
        ms_per_datum=0.5,
        train_seconds=2.0,
        num_particles=K,
        posterior={"z": torch.zeros(K, N, 2)},
        log_weights=torch.zeros(K, N),
        log_likelihood={"x": torch.zeros(K, N)},
        predictive={"x": torch.zeros(8, N, 3)},
        losses=torch.arange(5.0),
        factorises=True,
    )
    return dataclasses.replace(made, **changes)


def test_the_gap_is_the_sum_of_its_parts():
    row = table({"full": measured()}).sel(guide="full")
    assert row.gap == pytest.approx(1.0)
    assert row.approximation_gap == pytest.approx(0.4)
    assert row.amortization_gap == pytest.approx(0.6)


def test_whole_chains_are_marked_in_their_row():
    found = table({"full": measured(), "chain": measured(extended_space=True)})
    assert list(found["extended_space"].values) == [0, 1]


def test_standard_errors_are_over_data():
    row = table({"full": measured()}).sel(guide="full")
    expected = np.linspace(-3, -1, N).std(ddof=1) / np.sqrt(N)
    assert row.log_evidence_se == pytest.approx(expected)
    assert row.gap_se == pytest.approx(0.0, abs=1e-12)


def test_the_share_of_bad_khat_counts_infinite_ones():
    row = table({"full": measured()}).sel(guide="full")
    assert khat_threshold(K) < 0.9
    assert row.khat_share_above == pytest.approx(
        (measured().khat > khat_threshold(K)).double().mean().item()
    )
    assert row.khat_median == pytest.approx(0.3)


def test_constant_weights_have_a_median_of_minus_infinity():
    row = table({"exact": measured(khat=torch.full((N,), -torch.inf))}).sel(guide="exact")
    assert row.khat_median == -np.inf
    assert row.khat_share_above == 0


def test_without_oracle_or_evidence_the_columns_are_nan():
    row = table({"plain": measured(oracle_elbo=None, bc2=None, tv=None)}).sel(guide="plain")
    assert np.isnan(row.approximation_gap)
    assert np.isnan(row.bc2)
    assert row.gap == pytest.approx(1.0)


def test_a_tree_has_the_table_and_a_child_a_guide():
    tree = comparison_tree(
        {"a": measured(), "b c:d": measured(parameters=0)},
        observed={"x": torch.zeros(N, 3)},
        prior={"prior": {"z": torch.zeros(4, 2)}, "prior_predictive": {"x": torch.zeros(4, 3)}},
        picture={},
        attrs={"title": "t"},
    )
    assert tree["table"].to_dataset().parameters.to_numpy().tolist() == [7, 0]
    assert tree["b c:d"]["training"].to_dataset().loss.to_numpy().tolist() == [0, 1, 2, 3, 4]
    assert tree["a"]["per_datum"].to_dataset().gap.dims == ("datum",)
    assert tree["prior_predictive"].to_dataset().x.shape == (4, 3)


def test_a_data_set_that_is_one_datum_has_no_dimension_for_it():
    figures = {"elbo": -2.0, "log_evidence": -1.0, "log_evidence_error": 0.0}
    figures |= {"khat": 0.1, "ess": 20.0, "bc2": 0.5, "sqrt_weight_ess": 0.5}
    one = measured(
        **{name: torch.tensor([value]) for name, value in figures.items()},
        oracle_elbo=None,
        posterior={"z": torch.zeros(K, 2)},
        log_weights=torch.zeros(K, 1),
        log_likelihood={"x": torch.zeros(K, 1)},
        predictive={},
        factorises=False,
    )
    tree = comparison_tree(
        {"one": one}, observed={"x": torch.zeros(9, 3)}, prior={}, picture={}, attrs={}
    )
    assert "datum" not in tree["one"]["posterior"].to_dataset().dims
    assert tree["table"].to_dataset().gap.item() == pytest.approx(1.0)


@pytest.mark.parametrize(("particles", "data"), [(1000, 10), (1000, 297), (1000, 10_000), (3, 5)])
def test_kept_draws_split_into_chains_and_stay_bounded(particles, data):
    kept = kept_draws(particles, data)
    assert kept <= particles
    assert kept % 4 == 0 or kept < 4
    assert kept * data <= max(120_000, 40 * data)
