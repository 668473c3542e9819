"""Generators that are fitted by their exact likelihood, beside those that a helper fits."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core import PyroLVMError
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import ExactCPA
from pyrolvm.studies import Study
from pyrolvm.studies.learners import LEARNERS, FittedGenerator
from pyrolvm.studies.measurement import measure_cell
from pyrolvm.studies.problem import make_generator, make_rows
from pyrolvm.studies.training import _fitted_generator, train_pair

GENERATOR = {"name": "cpa-generator", "latent_dim": 1, "hidden": [[3]], "learn_noise": True}
EXACT = {
    "model": GENERATOR, "guide": "exact-cpa", "data": "circle", "test_size": 20, "particles": 20,
    "oracle_steps": 0, "model_steps": 3, "model_learner": "em",
}  # fmt: skip
VAE = {
    **EXACT, "guide": "diagonal:affine", "model_steps": 0, "model_learner": "svi", "steps": 3,
    "train": "both",
}  # fmt: skip


def configuration(block, **changes):
    (cell,) = Study("mine", [{**block, **changes}]).cells
    return dict(cell.configuration)


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name != "svi"])
def test_an_exact_learner_improves_on_the_first_weights(learner):
    asked = configuration(EXACT, model_learner=learner)
    found = measure_cell(asked).results
    model = make_generator(asked)
    rows = make_rows(model, asked)
    start = -ExactCPA(model).log_evidence(rows.train.double()).mean().item()
    assert found["train_nll"] < start - 0.01
    assert found["gap"] == pytest.approx(0.0, abs=1e-9)


def test_both_likelihoods_are_exact():
    asked = configuration(EXACT)
    found = measure_cell(asked).results
    trained = train_pair(asked)
    exact = ExactCPA(trained.model)
    for name, rows in (("train_nll", trained.rows.train), ("nll", trained.rows.test)):
        with torch.no_grad():
            value = -exact.log_evidence(rows.double())
        assert found[name] == pytest.approx(value.mean().item())
        assert found[f"{name}_se"] == pytest.approx(value.std().item() / len(rows) ** 0.5)


def test_safeguarded_em_never_rises_and_a_vae_has_no_such_figure():
    exact, vae = (measure_cell(configuration(block)).results for block in (EXACT, VAE))
    assert exact["largest_rise"] == 0.0
    assert exact["rises"] == 0
    assert vae["largest_rise"] is vae["rises"] is None
    assert vae["train_nll"] > 0


def test_a_learner_and_a_vae_start_from_the_same_weights_and_rows():
    asked = [configuration(block) for block in (EXACT, VAE)]
    models = [make_generator(each) for each in asked]
    weights = [model.state_dict().values() for model in models]
    assert all(torch.equal(*pair) for pair in zip(*weights, strict=True))
    rows = [make_rows(model, each) for model, each in zip(models, asked, strict=True)]
    assert torch.equal(rows[0].train, rows[1].train)
    assert torch.equal(rows[0].test, rows[1].test)


def test_what_a_shared_generator_cost_is_told_for_each_cell():
    _fitted_generator.cache_clear()
    spent = [train_pair(configuration(EXACT, seed=seed)).cpu_seconds for seed in (0, 1)]
    assert spent[0] == spent[1] > 0


def test_a_run_that_breaks_off_has_risen():
    losses = torch.tensor([3.0, 1.0, 1.005, 2.0, torch.inf])
    rises = FittedGenerator({}, losses, True, 0.0).rises
    assert (rises > 0.01).tolist() == [False, False, True, True]


def test_generators_that_are_given_have_no_likelihood_to_report(tiny):
    (cell,) = tiny(guide="exact").cells
    found = measure_cell(cell.configuration).results
    assert found["train_nll"] is found["nll"] is None


TEXT = """name = "mine"
[[grid]]
model = {name = "vae", latent_dim = 1, obs_dim = 2, activation = "tanh"}
guide = "full:affine"
data = "circle"
model_learner = "em"
model_steps = 5
"""


def test_a_learner_that_cannot_serve_is_refused_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(PyroLVMError, match=r"^mine\.toml, line 6: .*needs the exact likelihood"):
        _ = Study.from_toml(path).cells


def test_an_exact_learner_without_steps_is_refused():
    with pytest.raises(SettingError, match="model_steps is 0"):
        configuration(EXACT, model_steps=0)


def test_an_unknown_learner_names_the_nearest():
    with pytest.raises(PyroLVMError, match="Did you mean 'lbfgs'"):
        configuration(EXACT, model_learner="lbgfs")
