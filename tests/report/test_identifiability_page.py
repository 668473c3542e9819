"""The page of the study of identifiability: self-contained, and its words follow the numbers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from pyrolvm.report.identifiability_page import (
    agreement_table,
    ladder_table,
    short_table,
    write_identifiability,
)
from pyrolvm.report.identifiability_words import findings, headline, notes
from pyrolvm.studies.identifiability import CELLS

HERE = Path(__file__).parent
synthetic_study = runpy.run_path(str(HERE / "identifiability_frame.py"))["synthetic_study"]
page_test = runpy.run_path(str(HERE / "test_page.py"))
read, EVIL = page_test["read"], page_test["EVIL"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    study = synthetic_study(tmp_path_factory.mktemp("study"))
    study.frame.loc[0, "symmetries"] = EVIL
    return write_identifiability(study)


@pytest.fixture(scope="module")
def page(path):
    return path.read_text(encoding="utf-8")


@pytest.fixture
def study(tmp_path):
    return synthetic_study(tmp_path)


class TestPage:
    def test_needs_no_network_and_no_script(self, page):
        reader = read(page)
        assert all(link.startswith("data:image/") for link in reader.links)
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        assert "url(" not in page
        assert EVIL not in page

    def test_pictures_come_light_and_dark_wide_and_narrow(self, page):
        assert page.count("<source ") == 3 * page.count("<picture>") == 3 * 2
        assert len(re.findall(r'<img [^>]*alt="([^"]{20,})"', page)) == 2

    def test_tables_have_a_row_a_model_and_a_row_a_run(self, page):
        counts = [part.count("<tr>") - 1 for part in page.split("<table>")[1:]]
        assert counts == [len(CELLS), len(CELLS), 4 * len(CELLS)]

    def test_the_answer_comes_before_the_ladder_and_the_table(self, page):
        places = [page.index(f'id="{key}"') for key in ("answer", "ladder", "agreement", "notes")]
        assert places == sorted(places)

    def test_figures_lie_beside_it(self, path):
        assert {each.name for each in (path.parent / "figures").glob("*.png")} == {
            "ladder.png", "ladder_signs.png",
        }  # fmt: skip


class TestTables:
    def test_mean_lowest_and_interval_of_raw_agreement(self, study):
        table = agreement_table(study)
        row = dict(zip(table.headers, table.rows[0], strict=True))
        assert row["raw R²"] == "0.992 / 0.990 [0.980, 1.000]"
        assert row["check"] == "strongly"
        assert row["runs"] == "3 of 4"

    def test_what_is_not_known_is_a_dash(self, study):
        table = agreement_table(study)
        generic = dict(zip(table.headers, table.rows[1], strict=True))
        assert generic["R-hat"] == "–"

    def test_all_tables_have_all_models(self, study):
        for table in (agreement_table(study), ladder_table(study), short_table(study)):
            assert len(table.rows) == len(CELLS)
            assert all(len(row) == len(table.headers) for row in table.rows)


class TestWords:
    def test_the_headline_says_that_theory_holds_where_it_does(self, study):
        said = headline(study)
        assert said.startswith("Where the model leaves no symmetry open, its best runs give")
        assert "over 5 models: 0.990" in said
        assert "over 6 models: −1.00" in said
        assert "MCC (up to 0.980)" in said

    @pytest.mark.parametrize(
        ("cell", "raw"), [("fixed_prior", 0.8), ("learned_prior", 0.99), ("vae", 0.7)]
    )
    def test_the_headline_says_what_does_not_hold(self, tmp_path, cell, raw):
        study = synthetic_study(tmp_path, **{cell: raw})
        titles = {each.key: each.title for each in CELLS}
        said = headline(study)
        assert said.startswith("Runs do not all do what theory says")
        assert f"{titles[cell.replace('_', '-')]} (lowest raw R² {raw:.3f})" in said
        assert "other 10 models" in said

    def test_likelihoods_are_called_equal_only_where_they_are(self, study):
        assert "8 runs are equal (they lie within 0.009 nats" in findings(study)[0]
        study.runs.loc[0, "bound"] = -3.5
        assert "8 runs are not equal" in findings(study)[0]

    def test_each_experiment_has_a_finding(self, study):
        assert [each.split(":")[0] for each in findings(study)] == [
            "Flows", "Environments", "Curve", "Surface",
        ]  # fmt: skip

    def test_findings_follow_the_numbers(self, tmp_path):
        *_, curve, surface = findings(synthetic_study(tmp_path))
        assert "agree up to their sign" in curve
        assert "they agree as they stand" in curve
        assert "anchors are enough" in surface
        other = synthetic_study(tmp_path, curve_sign=0.2, triangular_vae=0.9)
        other.frame["sign_r2_min"], other.frame["mcc_mean"] = 0.1, 0.7
        _, environments, curve, surface = findings(other)
        assert "MCC cannot" not in environments
        assert "do not agree, even up to their sign" in curve
        assert "they do not agree as they stand" in curve
        assert "anchors were not enough" in surface

    def test_failures_and_models_without_a_pair_are_counted(self, study):
        study.frame.loc[1, "used"] = 1
        said = " ".join(notes(study))
        assert f"{len(CELLS)} of {4 * len(CELLS)} did" in said
        assert "Too few runs are left to compare: generic flow." in said
        assert len(findings(study)) == 3
        assert "generic flow" not in headline(study)

    def test_a_model_without_a_pair_is_left_out_of_the_figure(self, study):
        study.frame["used"] = 1
        assert "<picture>" not in write_identifiability(study).read_text(encoding="utf-8")

    def test_notes_disclose_whose_numbers_these_are(self, study):
        said = " ".join(notes(study))
        assert "experiments and numbers are our own" in said
        assert "blind to sign, permutation and scale" in said
