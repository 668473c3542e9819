"""Comparing guides: the gaps against closed forms, the table, the tree, the refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import MultivariateNormal, Normal
from pyro.infer.autoguide import AutoNormal

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, SiteError
from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics import arviz_export

QUICK: dict[str, Any] = {
    "steps": 150,
    "oracle_steps": 150,
    "num_particles": 200,
    "progress": False,
}


def mean_field_gap(model):
    """KL from the best factorised Gaussian to a Gaussian posterior of this precision."""
    precision = torch.linalg.inv(model.posterior(torch.zeros(1, 4)).covariance_matrix[0]).double()
    return (0.5 * (precision.diagonal().log().sum() - precision.logdet())).item()


def test_affine_encoders_reach_the_closed_form_gaps(linear):
    model, x = linear
    found = lvm.compare(
        model,
        {
            "diagonal": guides.Amortized(model, "diagonal", hidden=()),
            "full": guides.Amortized(model, "full", hidden=()),
            "exact": guides.Exact(model),
            "exact-cpa": guides.ExactCPA(model),
        },
        x,
        steps=1500,
        oracle_steps=300,
        num_particles=2000,
        learning_rate=0.02,
        batch_size=240,
        progress=False,
    ).frame
    assert found.gap["diagonal"] == pytest.approx(
        mean_field_gap(model), abs=5 * found.gap_se["diagonal"] + 2e-3
    )
    assert found.gap["full"] < 1e-3
    assert abs(found.gap["exact"]) < 1e-6
    assert abs(found.gap["exact-cpa"]) < 1e-6
    assert found.khat_median["exact"] == -np.inf
    assert found.bc2["exact-cpa"] == pytest.approx(1.0, abs=1e-6)
    split = found.approximation_gap + found.amortization_gap
    assert split.to_numpy() == pytest.approx(found.gap.to_numpy(), abs=1e-9)


@pytest.fixture(scope="module")
def digits_comparison():
    from pyrolvm.datasets import load

    torch.manual_seed(0)
    data = load("digits")
    x = data.train[:400]
    model = models.CPAGenerator(2, 64, (12,), 0.3, learn_noise=True)
    lvm.fit(model, guides.Amortized(model, "full", (32,)), x, steps=600, progress=False)
    return lvm.compare(
        model,
        {
            "diagonal": guides.Amortized(model, "diagonal", (32,)),
            "full": guides.Amortized(model, "full", (32,)),
            "mixture": guides.Amortized(model, "mixture", (32,)),
            "per datum": guides.PerDatum(model, "full"),
            "exact": guides.ExactCPA(model),
        },
        x,
        data.test[:60] if data.test is not None else None,
        steps=400,
        oracle_steps=600,
        num_particles=1000,
        progress=False,
    )


def test_approximation_gaps_fall_from_diagonal_over_full_to_exact(digits_comparison):
    found = digits_comparison.frame
    gaps, errors = found.approximation_gap, found.approximation_gap_se
    assert gaps["diagonal"] > gaps["full"] > gaps["exact"]
    assert abs(found.gap["exact"]) < 1e-6
    assert (gaps > -2 * errors - 1e-9).all()
    assert (found.amortization_gap > -2 * found.amortization_gap_se - 1e-9).all()


def test_a_per_datum_guide_is_the_oracle_of_its_own_family(digits_comparison):
    found = digits_comparison.frame
    assert found.amortization_gap["per datum"] == 0
    full = digits_comparison.to_datatree("full")["per_datum"].to_dataset()
    own = digits_comparison.to_datatree("per datum")["per_datum"].to_dataset()
    noise = np.abs(full.approximation_gap - own.gap).mean()
    assert noise < 0.05  # the same densities, scored with other draws


def test_the_model_is_untouched_while_guides_train(linear):
    model, x = linear
    before = [parameter.clone() for parameter in model.parameters()]
    lvm.compare(model, {"full": guides.Amortized(model, "full", (8,))}, x, **QUICK)
    assert all(map(torch.equal, before, model.parameters()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_together_trains_a_copy_of_the_model_with_each_guide(linear):
    model, x = linear
    names: dict[str, Any] = {
        "diagonal": guides.Amortized(model, "diagonal"),
        "exact": guides.Exact(model),
    }
    before = [parameter.clone() for parameter in model.parameters()]
    found = lvm.compare(model, names, x, train="together", **QUICK)
    assert all(map(torch.equal, before, model.parameters()))
    own = [found.pairs[name][0] for name in names]
    assert own[0] is not own[1]
    weights = [each.get_parameter("decoder.0.weight") for each in own]
    assert not torch.equal(*weights)
    assert found.pairs["diagonal"][1].model is own[0]


def test_together_takes_autoguides_and_refuses_functions(linear):
    model, x = linear
    found = lvm.compare(model, {"auto": AutoNormal(model)}, x, x, train="together", **QUICK)
    assert found.frame.parameters["auto"] == 2 * x.shape[0] * 2
    with pytest.raises(SettingError, match="torch modules"):
        lvm.compare(model, {"plain": lambda x: None}, x, train="together", **QUICK)


def test_without_test_data_a_fifth_is_held_out_and_named(linear):
    model, x = linear
    found = lvm.compare(model, {"exact": guides.Exact(model)}, x, **QUICK)
    assert found.tree.attrs["scored"] == "held-out 20 % (60 of 300 rows)"
    assert found.to_datatree("exact")["observed_data"].sizes["datum"] == 60


def test_the_same_seed_gives_the_same_comparison(linear):
    model, x = linear

    def run():
        torch.manual_seed(1)
        made = {"full": guides.Amortized(model, "full", (8,))}
        return lvm.compare(model, made, x, **QUICK).frame.drop(
            columns=["ms_per_datum", "train_seconds"]
        )

    first, second = run(), run()
    assert first.equals(second)


def test_an_interrupted_comparison_goes_on_to_the_same_result(linear, tmp_path, monkeypatch):
    from pyrolvm.objectives import SVILoop

    model, x = linear

    def run(folder):
        torch.manual_seed(1)
        made = {
            "full": guides.Amortized(model, "full", (8,)),
            "mixture": guides.Amortized(model, "mixture", (8,)),
        }
        found = lvm.compare(model, made, x, folder=folder, **QUICK)
        return found.frame.drop(columns=["ms_per_datum", "train_seconds"])

    whole = run(None)
    step = SVILoop._step
    count = 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == 400:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(SVILoop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    monkeypatch.setattr(SVILoop, "_step", step)
    assert run(tmp_path).equals(whole)


def test_the_evidence_of_other_models_is_a_bound_and_named_so():
    model = models.VAE(3, 4, (8,), activation="tanh")
    found = lvm.compare(
        model,
        {"diagonal": guides.Amortized(model, "diagonal"), "full": guides.Amortized(model, "full")},
        torch.randn(60, 4),
        **QUICK,
    )
    assert found.tree.attrs["evidence_is_bound"] == 1
    assert found.tree.attrs["evidence_method"].startswith("iwae (K=200")
    assert found.frame.bc2.isna().all()
    assert found.frame.log_evidence.nunique() == 1
    assert "≥" in str(found)


def test_a_plain_pyro_pair_is_diagnosed_with_a_bound():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", Normal(0.0, 1.0))
            pyro.sample("x", Normal(z, 1.0), obs=x[:, 0])

    def guide(x):
        loc = pyro.param("loc", torch.tensor(0.5))
        with pyro.plate("data", len(x)):
            pyro.sample("z", Normal(loc * x[:, 0], 0.5**0.5))

    x = torch.randn(50, 1)
    found = lvm.score(model, guide, x, num_particles=500)
    row = found.frame.iloc[0]
    truth = Normal(0.0, 2**0.5).log_prob(x[:, 0]).mean().item()
    assert row.log_evidence == pytest.approx(truth, abs=1e-5)  # this guide is the posterior
    assert row.gap == pytest.approx(0.0, abs=1e-5)
    assert found.frame.index[0] == "guide"
    assert np.isnan(row.approximation_gap)


def test_with_a_global_latent_the_data_set_is_one_datum():
    def model(x):
        mean = pyro.sample("mean", Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", Normal(mean, 1.0), obs=x[:, 0])

    x = torch.randn(20, 1)
    precision = 21.0

    def guide(x):
        pyro.sample("mean", Normal(x.sum() / precision, precision**-0.5))

    found = lvm.score(model, guide, x, num_particles=100)
    covariance = torch.eye(20) + 1.0
    truth = MultivariateNormal(torch.zeros(20), covariance).log_prob(x[:, 0]).item()
    assert found.frame.log_evidence.iloc[0] == pytest.approx(truth, abs=1e-4)
    assert found.frame.gap.iloc[0] == pytest.approx(0.0, abs=1e-4)
    assert "one datum as a whole: mean outside the data plate" in str(found)


def test_the_tree_comes_back_from_a_file_without_loss(digits_comparison, tmp_path):
    path = tmp_path / "comparison.nc"
    arviz_export.save(digits_comparison.tree, path)
    assert arviz_export.load(path).identical(digits_comparison.tree)


def test_the_tree_has_the_groups_that_arviz_reads(digits_comparison):
    tree = digits_comparison.to_datatree("per datum")
    wanted = {"posterior", "posterior_predictive", "prior", "log_likelihood", "observed_data"}
    assert wanted | {"sample_stats"} <= set(tree.children)
    assert tree["posterior"].to_dataset()["z"].dims[:3] == ("chain", "draw", "datum")


def test_the_pictured_densities_integrate_to_one(digits_comparison):
    picture = digits_comparison.tree["picture"].to_dataset()
    cell = picture.z_1.diff("grid_1").mean("grid_1") * picture.z_2.diff("grid_2").mean("grid_2")
    mass = np.exp(picture.log_density).sum(("grid_1", "grid_2")) * cell
    assert mass.to_numpy() == pytest.approx(np.ones(picture.sizes["picture"]), abs=0.05)


def test_the_page_is_written(digits_comparison, tmp_path):
    page = digits_comparison.to_html(tmp_path / "report.html")
    assert "per datum" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (torch.zeros(0, 4), "no rows"),
        (torch.full((5, 4), float("nan")), "NaN or infinity"),
        (torch.zeros(5, 3), r"shape \(N, 4\)"),
        (torch.zeros(1, 4), "at least 2 rows"),
    ],
)
def test_bad_data_is_refused(linear, data, part):
    with pytest.raises(DataError, match=part):
        lvm.compare(linear[0], {"exact": guides.Exact(linear[0])}, data)


def test_a_guide_that_misses_a_site_is_refused(linear):
    model, x = linear
    with pytest.raises(SiteError, match="'z'"):
        lvm.compare(model, {"none": lambda x: None}, x, train="nothing")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"a": "diagonal"}, r"'diagonal'.*guides.Amortized\(model, family='diagonal'\)"),
        ([guides.Exact], 'got a list. Pass a mapping such as {"full": guide}'),
        ({"a": guides.Exact}, r"it is the class Exact. .*Exact\(\.\.\.\)"),
        ({3: guides.Exact}, "name of a guide should be a text, but one is 3"),
    ],
)
def test_guides_that_are_no_programs_by_name_are_refused(linear, given, sentence):
    with pytest.raises(SettingError, match=sentence):
        lvm.compare(linear[0], given, linear[1])


def test_a_number_as_model_or_guide_is_refused(linear):
    model, x = linear
    with pytest.raises(SettingError, match=r"The guide should be a Pyro program .* it is 3"):
        lvm.score(model, 3, x)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match=r"The model should be a Pyro program .* it is 3"):
        lvm.score(3, guides.Exact(model), x)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_none_is_refused(linear, seed):
    with pytest.raises(SettingError, match=str(seed)):
        lvm.compare(linear[0], {"exact": guides.Exact(linear[0])}, linear[1], seed=seed)


def test_no_guides_and_unknown_training_are_refused(linear):
    with pytest.raises(ValueError, match="at least one guide"):
        lvm.compare(linear[0], {}, linear[1])
    with pytest.raises(ValueError, match="'guides', 'together' or 'nothing'"):
        lvm.compare(linear[0], {"exact": guides.Exact(linear[0])}, linear[1], train="both")  # type: ignore[arg-type]


def test_guides_of_binary_layers_are_compared_and_their_gap_is_split():
    model = models.SigmoidBeliefNetwork((4, 2), obs_dim=6)
    x = model(size=60)
    found = lvm.compare(
        model,
        {
            "coupled": guides.HelmholtzCoupled(model),
            "layerwise": guides.Layerwise(model, hidden=(8,)),
            "bottom-up": guides.BottomUp(model, hidden=(8,)),
            "independent": guides.Amortized(model, "bernoulli", hidden=(8,)),
            "oracle": guides.PerDatum(model, "bernoulli"),
        },
        x,
        **{**QUICK, "steps": 30, "oracle_steps": 30},
    )
    frame = found.frame
    assert frame.gap.notna().all()
    split = frame.approximation_gap["independent"] + frame.amortization_gap["independent"]
    assert split == pytest.approx(frame.gap["independent"], abs=1e-4)
    assert frame.approximation_gap["oracle"] == pytest.approx(frame.gap["oracle"])
    assert frame.approximation_gap[["coupled", "layerwise", "bottom-up"]].isna().all()
    assert "layers=(4, 2)" in found.tree.attrs["model"]
    assert set(found.to_datatree("coupled")["posterior"].data_vars) == {"z_1", "z_2"}
