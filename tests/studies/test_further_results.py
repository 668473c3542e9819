"""Figures that only some cells have: ends of chains, a truth, a noise, an information."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core.errors import SettingError
from pyrolvm.studies.measurement import measure_cell
from pyrolvm.studies.problem import make_generator, make_rows, make_truth

LINEAR = {"name": "linear-gaussian", "latent_dim": 2, "obs_dim": 3, "noise_scale": 0.5}

PROGRAM = """
from pyrolvm.models import LinearGaussian

def make():
    return LinearGaussian(1, 2)
"""


def only(study):
    (cell,) = study.cells
    return dict(cell.configuration)


def measured(configuration):
    return measure_cell(configuration).results


def test_the_end_of_a_chain_is_at_least_as_near_as_the_whole_chain(tiny):
    guide = {"name": "langevin", "num_descent": 5, "num_langevin": 2}
    found = measured(only(tiny(model=LINEAR, guide=guide, particles=200, test_size=10)))
    error = found["gap_se"] + found["marginal_gap_se"]
    assert -5 * found["marginal_gap_se"] < found["marginal_gap"] < found["gap"] + 5 * error


def test_only_chains_have_an_end(tiny):
    found = measured(only(tiny(model=LINEAR)))
    assert found["marginal_gap"] is None
    assert found["marginal_gap_se"] is None


def test_what_is_lost_to_the_truth_is_the_difference_of_two_closed_forms(tiny):
    configuration = only(tiny(model={**LINEAR, "noise_scale": 1.0}, truth=LINEAR, test_size=40))
    found = measured(configuration)
    model, truth = make_generator(configuration), make_truth(configuration)
    x = make_rows(model, configuration).test.double()
    weight = truth.decoder[0].weight.detach().double()
    bias = truth.decoder[0].bias.detach().double()

    def evidence(noise):
        covariance = weight @ weight.mT + noise**2 * torch.eye(3)
        return torch.distributions.MultivariateNormal(bias, covariance).log_prob(x)

    wanted = (evidence(0.5) - evidence(1.0)).mean().item()
    assert wanted > 0
    assert found["evidence_loss"] == pytest.approx(wanted, abs=1e-4)


def test_a_model_that_is_the_truth_loses_nothing(tiny):
    assert measured(only(tiny(model=LINEAR, truth=LINEAR)))["evidence_loss"] == pytest.approx(0)


def test_without_a_truth_nothing_is_lost_to_it(tiny):
    assert measured(only(tiny(model=LINEAR)))["evidence_loss"] is None


def test_the_noise_of_a_generator_is_told(tiny):
    assert measured(only(tiny(model=LINEAR)))["noise_scale"] == pytest.approx(0.5)


def test_a_generator_has_the_information_that_was_asked_for(tiny):
    configuration = only(tiny(model=LINEAR, information=2.0))
    model = make_generator(configuration)
    weight = model.decoder[0].weight.detach().double()
    noise = measured(configuration)["noise_scale"]
    precision = torch.eye(2) + weight.mT @ weight / noise**2
    assert 0.5 * precision.logdet().item() == pytest.approx(2.0, abs=5 * (2 / 256) ** 0.5)
    assert noise != pytest.approx(0.5, abs=1e-3)


def test_information_is_refused_where_there_is_no_noise_to_choose(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "generator_of_mine.py").write_text(PROGRAM, encoding="utf-8")
    study = tiny(model="generator_of_mine.make", guide="exact", information=1.0)
    with pytest.raises(SettingError, match=r"generator_of_mine\.make takes none"):
        len(study.cells)
