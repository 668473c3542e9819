"""A verdict on any Pyro pair: right for known defects, clear where a part cannot be measured."""

import json
import math
from dataclasses import replace

import pyro
import pytest
import torch
from markupsafe import escape
from pyro.distributions import Delta, MultivariateNormal, Normal
from pyro.infer.autoguide import AutoNormal

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core.errors import SettingError, SiteError
from pyrolvm.diagnosis.effort import Effort
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.verdict import (
    DECISIVE,
    MASS_WITHIN_REACH,
    MOST_ADVICE,
    MOST_REASONS,
    judge,
)

SMALL = Effort(
    num_annealed=0, num_reference=3, reference_seconds=60.0, num_gap=3, num_simulations=200,
    num_refits=0,
)  # fmt: skip
SIZE = 24


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    model = models.LinearGaussian(latent_dim=2, obs_dim=3, noise_scale=0.5)
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.tensor([[1.0, 0.8], [0.2, 0.5], [0.3, 0.6]]))
    return model, model(size=SIZE).detach()


def altered(model, *, scale=1.0, shift=0.0, independent=False):
    """The exact posterior, spoilt in one way, as a plain Pyro function."""

    def guide(x):
        posterior = model.posterior(x)
        loc, covariance = posterior.mean, posterior.covariance_matrix
        if independent:  # what the mean-field ELBO has as its optimum
            precision = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
            covariance = torch.diag_embed(1 / precision)
        loc = loc + shift * covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", MultivariateNormal(loc, scale**2 * covariance))

    return guide


def diagnosed(linear, **defect):
    model, x = linear
    return lvm.diagnose(
        model, altered(model, **defect), x, effort=SMALL, num_particles=1000, progress=False
    )


class TestVerdict:
    """The posterior is known, and so is what is wrong with each guide."""

    def test_the_posterior_itself_is_trusted(self, linear):
        report = diagnosed(linear)
        assert report.verdict.answer == "trusted"
        assert not report.verdict.defects
        assert {"bad", "care"}.isdisjoint(finding.level for finding in report.findings)

    @pytest.mark.parametrize(
        ("defect", "name"),
        [
            ({"scale": 0.4}, "too narrow"),
            ({"scale": 2.5}, "too wide"),
            ({"shift": 1.5}, "shifted"),
            ({"independent": True}, "ignores correlation"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_right_defect_is_named(self, linear, defect, name):
        report = diagnosed(linear, **defect)
        assert report.verdict.answer != "trusted"
        assert report.verdict.defects[0] == name
        others = {"too narrow", "too wide", "shifted", "ignores correlation", "misses a mode"}
        assert not (others - {name}) & set(report.verdict.defects)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("defect", "name"),
        [
            *[({"scale": scale}, "too narrow") for scale in (0.75, 0.6, 0.2)],
            *[({"scale": scale}, "too wide") for scale in (1.35, 1.7, 4.0)],
            *[({"shift": shift}, "shifted") for shift in (0.5, 1.0, 3.0)],
        ],
        ids=str,
    )
    def test_the_right_defect_is_named_near_and_far(self, linear, defect, name):
        report = diagnosed(linear, **defect)
        assert report.verdict.answer != "trusted"
        assert report.verdict.defects[0] == name

    @pytest.mark.slow
    @pytest.mark.parametrize("slant", [0.6, 0.8, 1.2])
    def test_ignored_correlation_is_named_near_and_far(self, slant):
        """The weights' second column leans towards the first: so do the latents, against it."""
        model = models.LinearGaussian(latent_dim=2, obs_dim=3, noise_scale=0.5)
        with torch.no_grad():
            weight = torch.tensor([[1.0, slant], [0.2, 0.5], [0.3, 0.6]])
            model.decoder[0].weight.copy_(weight)
        pair = model, model(size=SIZE).detach()
        report = diagnosed(pair, independent=True)
        assert report.verdict.answer != "trusted"
        assert report.verdict.defects[0] == "ignores correlation"

    def test_figures_have_their_closed_forms(self, linear):
        report = diagnosed(linear, scale=0.5, shift=1.0)
        moments = report.tree["moments"].to_dataset()
        assert abs((moments.log_sd_ratio - math.log(0.5)) / moments.log_sd_ratio_se).max() < 5
        assert abs((moments.mean_error - 1.0) / moments.mean_error_se).max() < 5
        covariance = linear[0].posterior(linear[1].double()).covariance_matrix[0].detach()
        shift = covariance.diagonal().sqrt()
        distance = shift @ torch.linalg.solve(covariance, shift)
        divergence = 0.5 * (2 * 0.25 - 2 - 2 * math.log(0.25) + distance.item())
        gaps = report.per_datum.gap
        assert gaps.mean() == pytest.approx(divergence, abs=5 * gaps.std() / SIZE**0.5)


def test_everything_is_in_one_tree_that_arviz_reads(linear, tmp_path):
    report = diagnosed(linear, scale=0.8)
    tree = report.to_datatree()
    groups = {
        "posterior", "sample_stats", "per_datum", "evidence", "importance", "reference",
        "moments", "two_sample", "gaps", "calibration", "prediction", "findings",
    }  # fmt: skip
    assert groups <= set(tree.children)
    assert tree.posterior.z.dims == ("chain", "draw", "datum", "z_dim")
    assert report.frame.columns.tolist()[:3] == ["diagnostic", "name", "value"]
    assert len(report.per_datum) == SIZE
    assert str(report).splitlines()[1].startswith(report.verdict.answer.upper())
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert str(escape(report.verdict.reasons[0])) in page
    assert str(escape(report.verdict.reasons[0])) in report._repr_html_()
    lvm_tree = tmp_path / "diagnosis.nc"
    from pyrolvm.diagnostics import arviz_export

    arviz_export.save(tree, lvm_tree)
    again = lvm.Diagnosis(arviz_export.load(lvm_tree))
    assert again.frame.equals(report.frame)
    assert again.verdict == report.verdict


def test_the_same_seed_gives_the_same_figures(linear):
    one, other = diagnosed(linear, scale=0.8), diagnosed(linear, scale=0.8)
    assert one.frame.equals(other.frame)


def test_a_latent_outside_the_plate_makes_the_data_one_datum():
    def model(x):
        mean = pyro.sample("mean", Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", Normal(mean, 1.0), obs=x)

    torch.manual_seed(0)
    guide = AutoNormal(model)
    x = torch.randn(20)
    guide(x)
    quick = lvm.diagnose(model, guide, x, effort="quick", progress=False)
    assert json.loads(quick.tree.attrs["global_sites"])[0] == "mean"
    assert "one datum: mean" in str(quick)
    assert len(quick.per_datum) == 1
    assert quick.per_datum.khat.item() == quick.tree["importance"].khat.item()


class TestBadInput:
    """One sentence that names the site."""

    x = torch.randn(5, 1)

    @staticmethod
    def model(x):
        with pyro.plate("data", len(x)):
            height = pyro.sample("height", Normal(0.0, 1.0))
            pyro.sample("weight", Normal(height, 1.0), obs=x[:, 0])

    def test_a_guide_that_misses_a_site(self) -> None:
        with pytest.raises(SiteError, match="latent site 'height', but the guide does not"):
            lvm.diagnose(self.model, lambda x: None, self.x, progress=False)

    def test_a_site_of_another_shape(self) -> None:
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("height", Normal(torch.zeros(2, 1), 1.0))

        with pytest.raises((SiteError, lvm.PyroLVMError), match="height"):
            lvm.diagnose(self.model, guide, self.x, progress=False)

    def test_nan_in_a_weight(self) -> None:
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("height", Normal(torch.full((len(x),), math.nan), 1.0))

        with pytest.raises(SiteError, match="'height' is NaN"):
            lvm.diagnose(self.model, guide, self.x, progress=False)

    def test_a_model_without_observations(self) -> None:
        def model(x):
            with pyro.plate("data", len(x)):
                pyro.sample("height", Normal(0.0, 1.0))

        with pytest.raises(SiteError, match=r"observed site.* 'height'"):
            lvm.diagnose(model, model, self.x, progress=False)

    def test_a_point_mass(self) -> None:
        def guide(x):
            with pyro.plate("data", len(x)):
                pyro.sample("height", Delta(torch.zeros(len(x))))

        with pytest.raises(SiteError, match="'height' of the guide is a point mass"):
            lvm.diagnose(self.model, guide, self.x, progress=False)

    def test_an_unknown_effort(self) -> None:
        with pytest.raises(SettingError, match=r"'quick', 'standard', 'full'.*'enormous'"):
            lvm.diagnose(self.model, self.model, self.x, effort="enormous", progress=False)


def test_what_stops_a_part_is_a_finding(linear, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("no memory left")

    monkeypatch.setattr("pyrolvm.diagnosis.measuring.gap_split", broken)
    model, x = linear
    report = lvm.diagnose(model, guides.Exact(model), x, effort=SMALL, progress=False)
    lost = [finding for finding in report.findings if finding.level == "unknown"]
    assert [finding.sentence for finding in lost] == [
        "The split of the gap could not be measured: no memory left."
    ]
    assert report.verdict.answer == "trusted"


def finding(diagnostic, level, defect=None, sentence="s"):
    return Finding(diagnostic, "n", 1.0, level=level, defect=defect, sentence=sentence)


@pytest.mark.parametrize(
    ("findings", "answer"),
    [
        ([finding("importance", "good")], "use with care"),  # its own draws alone
        ([finding("importance", "good"), finding("moments", "unknown")], "use with care"),
        ([replace(finding("importance", "good"), name=MASS_WITHIN_REACH)], "trusted"),
        ([finding("importance", "good"), finding("moments", "good")], "trusted"),
        ([finding("importance", "good"), finding("moments", "care", "shifted")], "use with care"),
        ([finding("importance", "good"), finding("calibration", "bad")], "not trusted"),
        ([finding("calibration", "good"), finding("gaps", "bad", "encoder")], "trusted"),
        ([finding("prediction", "bad", "model misfit"), finding("moments", "good")], "trusted"),
        ([finding("importance", "unknown")], "use with care"),
        ([], "use with care"),
    ],
)
def test_only_what_compares_with_the_posterior_decides(findings, answer):
    assert judge(findings).answer == answer


def test_reasons_begin_with_the_weightiest():
    verdict = judge(
        [
            finding("gaps", "bad", "encoder", "gap"),
            finding("importance", "care", None, "weights"),
            finding("moments", "bad", "too narrow", "narrow"),
            finding("calibration", "unknown", None, "not run"),
        ]
    )
    assert verdict.reasons == ("narrow", "gap", "weights", "not run")
    assert verdict.defects == ("too narrow", "encoder")


def test_reasons_and_advice_are_few_and_of_every_kind():
    many = [
        Finding(each, str(i), 1.0, level="good", sentence=f"{each} {i}")
        for each in DECISIVE
        for i in range(5)
    ]
    missing = [finding("reference", "unknown", None, f"missing {i}") for i in range(5)]
    verdict = judge([*many, *missing])
    assert len(verdict.reasons) == MOST_REASONS
    assert verdict.reasons[:4] == tuple(f"{each} 0" for each in DECISIVE)
    assert verdict.reasons[4:] == ("missing 0", "missing 1")
    defects = ["too narrow", "shifted", "too narrow", "wrong shape", "misses a mode", "encoder"]
    wrong = [
        Finding("moments", str(i), 1.0, level="bad", sentence=str(i), defect=each, advice=str(i))
        for i, each in enumerate(defects)
    ]
    vague = Finding("importance", "k-hat", 1.0, level="bad", sentence="k", advice="vague")
    advice = judge([vague, *wrong]).advice
    assert advice == ("0", "1", "3", "4")
    assert len(advice) == MOST_ADVICE
    assert judge([vague, *wrong[:2]]).advice == ("0", "1", "vague")


def test_what_was_not_measured_comes_first_where_it_decides():
    verdict = judge([finding("importance", "good"), finding("evidence", "unknown", None, "blind")])
    assert verdict.reasons == ("blind", "s")
