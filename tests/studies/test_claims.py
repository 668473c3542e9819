"""What the built-in studies show, at a size that takes minutes: run with ``pytest -m slow``."""

from __future__ import annotations

import math

import pytest

from pyrolvm.studies import Study
from pyrolvm.studies.measurement import measure_cell

pytestmark = pytest.mark.slow


def measured(**keys):
    """Results of a study of one cell."""
    (cell,) = Study("claim", [keys]).cells
    return measure_cell(cell.configuration).results


@pytest.mark.parametrize("num_folds", [1, 2, 3])
@pytest.mark.parametrize("num_components", [1, 2, 4])
def test_folds_cost_the_logarithm_of_the_modes_left_out(num_folds, num_components):
    found = measured(
        model={"name": "folding", "num_folds": num_folds, "noise_scale": 0.01},
        guide={"name": "amortized", "family": "mixture", "num_components": num_components},
        steps=50,
        test_size=400,
    )
    theory = max(0.0, math.log(2**num_folds / num_components))
    assert found["approximation_gap"] == pytest.approx(theory, abs=0.05)


@pytest.mark.parametrize("num_doublings", [1, 2, 3])
def test_the_injective_control_needs_one_component(num_doublings):
    found = measured(
        model={"name": "injective-slope", "num_doublings": num_doublings, "noise_scale": 0.01},
        guide={"name": "amortized", "family": "mixture", "num_components": 1},
        steps=50,
        test_size=200,
    )
    assert abs(found["approximation_gap"]) < 0.05


def share_right(permutation, width, depth=1):
    return measured(
        model={"name": "sign-permutation", "latent_dim": 8, "permutation": permutation},
        guide={"name": "sign-guide", "hidden": [[width] * depth]},
        objective="forward-kl",
        data="simulated:1024",
        batch_size=1024,
        steps=3000,
        learning_rate=3e-2,
        restarts=2,
        oracle_steps=0,
        test_size=512,
        particles=50,
    )["tv_share"]


def test_the_encoder_grows_from_signed_bits_to_the_gray_code_to_a_random_permutation():
    assert share_right("signed-bits", 16) >= 0.99 > share_right("gray-code", 16)
    assert share_right("gray-code", 64) >= 0.99 > share_right("random", 64)
    assert share_right("random", 256) >= 0.99


def leaky(slope, **keys):
    return measured(
        model={"name": "leaky-generator", "latent_dim": 2, "slope": slope},
        guide={"name": "amortized", "family": "full", "hidden": [[8]]},
        oracle_steps=0,
        **keys,
    )


def test_contraction_looks_easy_only_where_it_takes_information_away():
    assert leaky(0.25)["gap"] < leaky(1.0)["gap"]
    fair = [leaky(slope, information=3.0)["gap"] for slope in (1.0, 0.5)]
    assert fair[1] > fair[0]


NETS = [[8], [8, 8]]
MEDIANS = {
    ("circle", "8"): 1.06,
    ("circle", "8x8"): 0.94,
    ("wave", "8"): 0.98,
    ("wave", "8x8"): 0.83,
}
"""Training negative log likelihood of safeguarded EM, median over six problems."""


@pytest.fixture(scope="module")
def learners(tmp_path_factory):
    """The toy data of the study of learners, with the best of the VAE's step sizes."""
    study = Study.builtin("em-versus-vae").with_data("circle", "wave")
    grid = [
        {**block, "learning_rate": 5e-3} if block.get("train") == "both" else block
        for block in study.grid
    ]
    folder = tmp_path_factory.mktemp("learners")
    frame = Study(study.name, grid).run(out=folder, n_jobs=2, progress=False).frame
    how = frame["model_learner"].where(frame["train"] == "guide", "vae")
    return frame.assign(how=how).set_index(["how", "data", "model.hidden"]).sort_index()


def test_safeguarded_em_never_rises(learners):
    assert learners.loc["em", "largest_rise"].max() == 0.0


def test_the_undamped_update_rises_in_most_runs(learners):
    assert (learners.loc["em-undamped", "rises"] > 0).mean() > 0.5


@pytest.mark.parametrize("problem", MEDIANS, ids="-".join)
def test_safeguarded_em_beats_the_best_vae_at_no_more_cost(learners, problem):
    em, vae = (learners.loc[(how, *problem)] for how in ("em", "vae"))
    assert em["train_nll"].median() == pytest.approx(MEDIANS[problem], abs=0.05)
    assert em["train_nll"].median() < vae["train_nll"].median()
    assert em["seconds_training"].median() <= vae["seconds_training"].median()
