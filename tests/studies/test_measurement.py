"""What a cell measures, against what is known in closed form."""

from __future__ import annotations

import pytest
import torch

from pyrolvm import models
from pyrolvm.studies import Study
from pyrolvm.studies.checks import checks
from pyrolvm.studies.measurement import measure_cell
from pyrolvm.studies.objectives import OBJECTIVES, loss_of
from pyrolvm.studies.problem import make_generator, make_rows, simulate
from pyrolvm.studies.training import _fitted_generator, train_pair

LINEAR = {"name": "linear-gaussian", "latent_dim": 2, "obs_dim": 3, "noise_scale": 0.5}
PROGRAMS = """
import pyro
import torch
from pyro.distributions import Normal

def model(x=None, *, size=None):
    with pyro.plate("data", size if x is None else len(x), dim=-1):
        z = pyro.sample("z", Normal(0.0, 1.0))
        return pyro.sample("x", Normal(z[..., None], 1.0).to_event(1), obs=x)

def make_model():
    return model

def make_guide(model):
    def guide(x=None, *, size=None):
        weight = pyro.param("weight", lambda: torch.tensor(float(torch.randn(()))))
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", Normal(weight * x[:, 0], 0.5**0.5))
    return guide
"""


def measured(configuration):
    return measure_cell(configuration).results


def only(study):
    (cell,) = study.cells
    return dict(cell.configuration)


def test_an_affine_encoder_reaches_the_posterior_of_a_linear_model(tiny):
    found = measured(
        only(tiny(model=LINEAR, data="simulated:500", steps=800, learning_rate=0.05,
                  batch_size=100, particles=500, test_size=50, oracle_steps=100))
    )  # fmt: skip
    assert 0 <= found["gap"] < 0.01
    assert found["tv"] < 0.1
    assert found["gap"] == pytest.approx(found["approximation_gap"] + found["amortization_gap"])


def test_the_mean_field_gap_of_a_linear_model_is_the_closed_form(tiny):
    configuration = only(
        tiny(model=LINEAR, guide="diagonal:affine", data="simulated:500", steps=0,
             test_size=30, particles=2000, oracle_steps=400)
    )  # fmt: skip
    found = measured(configuration)
    model = make_generator(configuration)
    weight = model.decoder[0].weight.double().detach()
    precision = torch.eye(2) + weight.mT @ weight / 0.5**2
    wanted = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    assert found["approximation_gap"] == pytest.approx(wanted.item(), abs=0.02)


def test_a_loss_is_averaged_over_particles(monkeypatch):
    """Every particle has rows of its own, all in one call."""
    sizes = []

    def total(_model, _guide, x):
        sizes.append(len(x))
        return x.sum()

    monkeypatch.setitem(OBJECTIVES, "made-up", total)
    assert loss_of("made-up", 3)(None, None, torch.tensor([[1.0], [2.0]])).item() == 3.0
    assert sizes == [6]


def test_forward_kl_trains_an_encoder_too(tiny):
    found = measured(
        only(tiny(model=LINEAR, objective="forward-kl", data="simulated:100", steps=800,
                  learning_rate=0.05, batch_size=100, test_size=50, particles=500))
    )  # fmt: skip
    assert abs(found["gap"]) < 5 * found["gap_se"] + 0.02


def test_the_best_of_several_restarts_has_the_lowest_training_loss(tiny):
    study = tiny(guide={"name": "full", "hidden": [[4]]}, steps=20, restarts=[1, 3])
    one, three = (train_pair(cell.configuration) for cell in study.cells)
    assert three.loss <= one.loss
    assert three.restart in (0, 1, 2)


def test_guides_of_one_seed_see_the_same_rows(tiny):
    first, second = (dict(c.configuration) for c in tiny(guide=["exact", "full:affine"]).cells)
    model = make_generator(first)
    torch.testing.assert_close(make_rows(model, first).test, make_rows(model, second).test)


def test_seeds_change_the_rows_and_model_seeds_the_generator(tiny):
    zero, one = (dict(cell.configuration) for cell in tiny(seed=[0, 1]).cells)
    assert not torch.equal(make_rows(make_generator(zero), zero).train,
                           make_rows(make_generator(one), one).train)  # fmt: skip
    weights = [
        make_generator({**zero, "model_seed": seed}).decoder[0].weight for seed in (0, 0, 1)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_rows_and_test_rows_are_different_draws(tiny):
    configuration = only(tiny(test_size=20))
    rows = make_rows(make_generator(configuration), configuration)
    assert not torch.equal(rows.train, rows.test)


def test_a_generator_is_fitted_to_a_data_set_first(tiny):
    study = tiny(model="linear-gaussian:1:noise_scale=3.0", data="circle", model_steps=[0, 200],
                 guide="exact", batch_size=100)  # fmt: skip
    before, after = (measured(cell.configuration) for cell in study.cells)
    assert after["log_evidence"] > before["log_evidence"] + 0.3


def test_a_fitted_generator_is_the_same_whether_it_was_kept_or_not(tiny):
    study = tiny(model="linear-gaussian:1", data="circle", model_steps=20, seed=[0, 1])
    first, second = (cell.configuration for cell in study.cells)
    alone = measured(second)
    measured(first)
    assert measured(second) == alone
    _fitted_generator.cache_clear()
    assert measured(second) == alone


def test_training_both_moves_the_generator(tiny):
    configuration = only(tiny(train="both", steps=3))
    trained = train_pair(configuration)
    fresh = make_generator(configuration)
    assert not torch.equal(trained.model.decoder[0].weight, fresh.decoder[0].weight)


def test_training_the_guide_leaves_the_generator_alone(tiny):
    configuration = only(tiny(steps=3))
    trained = train_pair(configuration)
    torch.testing.assert_close(
        trained.model.state_dict(), make_generator(configuration).state_dict()
    )


def test_a_per_datum_guide_is_fitted_to_the_scored_rows(tiny):
    found = measured(only(tiny(guide="per-datum:full", oracle_steps=100, particles=200)))
    assert found["steps"] == 100
    assert abs(found["gap"]) < 5 * found["gap_se"] + 0.02


@pytest.mark.parametrize("restarts", [1, 2])
def test_plain_programs_of_ones_own_are_measured(tmp_path, monkeypatch, tiny, restarts):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "programs_of_mine.py").write_text(PROGRAMS, encoding="utf-8")
    study = tiny(model="programs_of_mine.make_model", guide="programs_of_mine.make_guide",
                 steps=300, learning_rate=0.05, particles=500, data="simulated:100",
                 restarts=restarts)  # fmt: skip
    found = measured(only(study))
    assert found["kind"] == "program"
    assert found["evidence_is_bound"]
    assert found["parameters"] == 1
    assert abs(found["gap"]) < 0.05


def test_simulated_rows_are_those_of_the_model():
    model = models.LinearGaussian(latent_dim=1, obs_dim=2, noise_scale=0.5)
    x = simulate(model, 20_000, seed=0)
    weight = model.decoder[0].weight
    wanted = (weight @ weight.mT + 0.25 * torch.eye(2)).detach()
    torch.testing.assert_close(x.mT.cov(), wanted, atol=0.05, rtol=0)


def test_measuring_leaves_the_users_random_numbers_alone(tiny):
    state = torch.get_rng_state()
    measured(only(tiny()))
    assert torch.equal(torch.get_rng_state(), state)


def test_checks_find_a_gap_below_zero_and_a_loss_that_rises(tiny):
    from pyrolvm.core import Data
    from pyrolvm.inference.evidence import Evidence
    from pyrolvm.inference.measuring import Training, measure
    from pyrolvm.inference.oracle import Oracles, OracleSettings

    trained = train_pair(only(tiny(steps=0)))
    pair, scored = {"g": (trained.model, trained.guide)}, Data.of(trained.rows.test)
    oracles = Oracles(pair, scored, OracleSettings(0, 100, 0, None, False))
    found, evidence = measure("g", Training(torch.empty(0), 0.0), oracles)
    wrong = type(found)(**{**vars(found), "log_evidence": found.elbo - 1})
    bad = Evidence(wrong.log_evidence, torch.ones(4), "made up", is_bound=True)
    losses = torch.cat([torch.zeros(50), torch.ones(50)])
    failed = {each["check"] for each in checks(wrong, bad, losses) if not each["passed"]}
    assert failed == {"gap below zero", "error of the evidence", "rise of the loss"}
    assert all(each["passed"] for each in checks(found, evidence, losses.flip(0)))


def test_a_study_in_python_and_one_in_toml_are_equal(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\n[[grid]]\nmodel = "vae:1:4:obs_dim=2"\nguide = ["exact-cpa"]\n')
    block = {"model": "vae:1:4:obs_dim=2", "guide": ["exact-cpa"]}
    assert Study.from_toml(path) == Study("s", [block])
