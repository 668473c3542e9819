"""Imputation and anomalies, against closed forms, scikit-learn and the bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from pyrolvm.core import DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import Study
from pyrolvm.studies.measurement import measure_cell
from pyrolvm.studies.problem import make_outliers, seed_for
from pyrolvm.studies.questions import area_under_roc, hidden_entries, root_mean_square
from pyrolvm.studies.training import train_pair

LINEAR = {
    "model": {"name": "cpa-generator", "latent_dim": 1, "hidden": [[]], "learn_noise": True},
    "guide": "exact-cpa", "data": "digits:3", "test_size": 15, "particles": 20,
    "oracle_steps": 0, "model_steps": 2, "model_learner": "em",
}  # fmt: skip


def configuration(**changes):
    (cell,) = Study("mine", [{**LINEAR, **changes}]).cells
    return dict(cell.configuration)


class TestHiddenEntries:
    def test_every_row_hides_as_many_and_shows_one_at_least(self):
        for share, number in ((0.25, 2), (0.01, 1), (0.99, 7)):
            assert (hidden_entries(40, 8, share, 0).sum(1) == number).all()

    def test_all_entries_are_hidden_about_as_often(self):
        hidden = hidden_entries(4000, 5, 0.4, 0).double()
        error = (0.4 * 0.6 / 4000) ** 0.5
        assert ((hidden.mean(0) - 0.4).abs() < 5 * error).all()

    def test_a_seed_hides_the_same(self):
        first, again, other = (hidden_entries(9, 8, 0.5, seed) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


class TestImputation:
    def test_a_linear_generator_imputes_the_gaussian_conditional_mean(self):
        asked = configuration(missing=0.5)
        found, trained = measure_cell(asked).results, train_pair(asked)
        layer, noise = trained.model.decoder[0], trained.model.noise_scale.detach().double()
        weight, mean = layer.weight.detach().double(), layer.bias.detach().double()
        covariance = weight @ weight.T + noise.square().diag()
        x = trained.rows.test.double()
        hidden = hidden_entries(*x.shape, 0.5, seed_for("hidden entries", 0))
        errors, densities = [], []
        for row, gone in zip(x, hidden, strict=True):
            seen = covariance[~gone][:, ~gone]
            rest = torch.linalg.solve(seen, row[~gone] - mean[~gone])
            errors.append(mean[gone] + covariance[gone][:, ~gone] @ rest - row[gone])
            gaussian = torch.distributions.MultivariateNormal(mean[~gone], seen)
            densities.append(gaussian.log_prob(row[~gone]))
        wanted = torch.stack(errors).square().mean().sqrt().item()
        assert found["imputation_rmse"] == pytest.approx(wanted, rel=1e-6)
        evidence = torch.stack(densities).mean().item()
        assert found["observed_log_evidence"] == pytest.approx(evidence, rel=1e-6)
        away = (trained.rows.train.double().mean(0) - x)[hidden]
        assert found["imputation_baseline"] == pytest.approx(away.square().mean().sqrt().item())

    def test_the_error_of_a_root_mean_square_is_that_of_the_bootstrap(self):
        generator = torch.Generator().manual_seed(0)
        errors = torch.randn(400, 6, generator=generator) * torch.rand(400, 1, generator=generator)
        found = root_mean_square(errors)
        rows = torch.randint(400, (2000, 400), generator=generator)
        again = errors.square().mean(1)[rows].mean(1).sqrt()
        assert found.standard_error == pytest.approx(again.std().item(), rel=5 / 2000**0.5)


class TestAnomalies:
    def test_the_area_is_that_of_scikit_learn_with_ties(self):
        generator = torch.Generator().manual_seed(0)
        low = torch.randn(60, generator=generator).round(decimals=1)
        high = (1 + torch.randn(40, generator=generator)).round(decimals=1)
        labels = [0] * 60 + [1] * 40
        wanted = roc_auc_score(labels, torch.cat([low, high]).numpy())
        assert area_under_roc(low, high).value == pytest.approx(wanted)

    def test_its_error_is_the_spread_over_data_sets(self):
        generator = torch.Generator().manual_seed(0)
        found = [
            area_under_roc(torch.randn(60, generator=generator),
                           1 + torch.randn(40, generator=generator)) for _ in range(400)
        ]  # fmt: skip
        spread = np.std([each.value for each in found], ddof=1)
        typical = np.mean([each.standard_error for each in found])
        assert typical == pytest.approx(spread, rel=5 / (2 * 400) ** 0.5)

    def test_a_cell_scores_held_out_rows_of_both_sets(self):
        asked = configuration(outliers="digits:0")
        found, trained = measure_cell(asked).results, train_pair(asked)
        outliers = make_outliers(asked)
        assert len(outliers) <= 15
        average = trained.rows.train.mean(0)
        groups = [(rows - average).square().sum(1) for rows in (trained.rows.test, outliers)]
        labels = np.repeat([0, 1], [len(each) for each in groups])
        wanted = roc_auc_score(labels, torch.cat(groups).numpy())
        assert found["auroc_baseline"] == pytest.approx(wanted)
        assert 0.5 < found["auroc"] <= 1


def test_cells_that_do_not_ask_have_no_such_figures():
    found = measure_cell(configuration()).results
    names = ("imputation_rmse", "imputation_baseline", "observed_log_evidence", "auroc")
    assert all(found[name] is found[f"{name}_se"] is None for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"missing": 1.0}, "missing should be below 1"),
        ({"missing": -0.1}, "missing should be at least 0"),
        ({"outliers": "simulated:20"}, "both have to be one by name"),
        ({"outliers": "circle"}, "2 entries a row, but data = 'digits:3' have 64"),
        ({"outliers": "digits:12"}, "has the classes"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes, message):
    with pytest.raises((SettingError, DataError), match=message):
        configuration(**changes)


@pytest.mark.parametrize("question", [{"missing": 0.5}, {"outliers": "digits:0"}])
def test_questions_need_an_exact_posterior(question):
    vae = {"model": "vae:1:4:activation=tanh", "guide": "full:affine", "model_learner": "svi"}
    with pytest.raises(SettingError, match=f"{next(iter(question))} needs the exact posterior"):
        configuration(**vae, **question)
