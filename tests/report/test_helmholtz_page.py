"""The page of the study of belief networks: self-contained, and true to its numbers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from pyrolvm.report.helmholtz_page import helmholtz_sections, write_helmholtz
from pyrolvm.report.helmholtz_tables import cell_table, likelihood_table
from pyrolvm.report.helmholtz_words import caveats, findings, headline

HERE = Path(__file__).parent
made = runpy.run_path(str(HERE / "helmholtz_study.py"))
synthetic_study, differences = made["synthetic_study"], made["helmholtz_differences"]
page_test = runpy.run_path(str(HERE / "test_page.py"))
read, EVIL = page_test["read"], page_test["EVIL"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_helmholtz(synthetic_study(tmp_path_factory.mktemp("study"), source=EVIL))


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

    def test_pictures_come_light_and_dark_wide_and_narrow_with_words(self, page):
        assert page.count("<source ") == 3 * page.count("<picture>") == 3 * 6
        assert len(re.findall(r'<img [^>]*alt="([^"]{20,})"', page)) == 6

    def test_tables_have_a_row_an_objective_and_a_row_a_cell(self, page):
        assert [part.count("<tr>") - 1 for part in page.split("<table>")[1:]] == [8, 32]

    def test_names_stay_text(self, page):
        assert EVIL not in page

    def test_figures_lie_beside_it(self, path):
        assert {each.stem for each in (path.parent / "figures").glob("*.svg")} == {
            "ess_against_likelihood", "overlap_by_objective", "likelihood_by_depth",
            "validation_curves", "draws_digits", "completed_digits",
        }  # fmt: skip


def test_sections_without_numbers_are_left_out(tmp_path):
    study = synthetic_study(tmp_path, data=("adult",))
    study.frame["in_sweep"] = False
    keys = [section.key for section in helmholtz_sections(study)]
    assert keys == ["ess_against_likelihood", "overlap_by_objective", "validation_curves"]


class TestTables:
    def test_figures_are_means_over_seeds_with_their_errors(self, study):
        table = likelihood_table(study)
        assert table.headers[2:6] == ("−log p(x)", "−log p~*(x)", "−2 log Z", "−log p*(x)")
        assert table.rows[0] == (
            "adult", "coupled", "14.205 ± 0.020", "14.455 ± 0.020", "0.200 ± 0.020",
            "14.255 ± 0.020", "82 %", "55 %", "0.820 ± 0.020", "estimated",
        )  # fmt: skip

    def test_both_effective_shares_stand_in_every_row(self, study):
        table = likelihood_table(study)
        for row in table.rows:
            shares = [row[table.headers.index(name)] for name in ("ESS, √w", "ESS, w")]
            assert all(share.endswith(" %") for share in shares)

    def test_cells_say_how_they_were_trained(self, study):
        table = cell_table(study)
        row = dict(zip(table.headers, table.rows[1], strict=True))
        assert row["layers"] == "8"
        assert row["stopped early"] == "yes"
        assert (row["learning rate"], row["steps"]) == ("0.01", "4,000")


class TestWords:
    def test_the_headline_sets_overlap_beside_likelihood(self, study):
        assert headline(study) == (
            "The coupled guide overlaps the posterior at BC² 0.820 on adult and 0.820 on digits, "
            "where reweighted wake-sleep's overlaps at 0.550 and 0.550. Its −log p(x) is lower on "
            "adult and digits (differences up to 0.10 nats)."
        )

    def test_equal_likelihoods_are_said_so(self, tmp_path):
        study = synthetic_study(tmp_path, differences=differences(nll=0.05))
        assert "Its −log p(x) is no different on adult and digits" in headline(study)

    def test_a_claim_that_does_not_hold_is_not_made(self, tmp_path):
        study = synthetic_study(tmp_path, differences=differences(nll=0.5, bc2=-0.1))
        assert ": more on 0 of 2, less on 2." in headline(study)
        assert "Its −log p(x) is higher on adult and digits" in headline(study)

    def test_without_a_pair_the_question_stays_open(self, tmp_path):
        study = synthetic_study(tmp_path, differences=differences().iloc[:0])
        assert "is open here" in headline(study)

    def test_findings_name_the_best_and_the_depth(self, study):
        adult, _, depth, _ = findings(study)
        assert "the lowest −log p(x) is 14.2" in adult
        assert "BC² 0.270 ± 0.010" in adult
        assert depth.startswith("adult, of 1, 3, 5 layers: coupled is best with 3 layers")

    def test_caveats_explain_the_columns(self, study):
        notes = " ".join(caveats(study))
        for words in ("upper bound", "no strict bound", "two columns", "2 seeds", "precision"):
            assert words in notes
        assert "fewer than 1 %" not in notes

    def test_few_effective_draws_are_warned_of(self, study):
        study.frame.loc[3, "ess"] = 0.002
        assert "In 1 of 32 cells fewer than 1 %" in " ".join(caveats(study))
