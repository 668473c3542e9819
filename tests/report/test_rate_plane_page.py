"""The page of a rate plane: self-contained, escaped, and its words follow from its numbers."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from pyrolvm import models
from pyrolvm.inference.rate_plane import linear_rate_plane
from pyrolvm.report.rate_plane_page import rate_plane_sections, write_rate_plane
from pyrolvm.report.rate_plane_words import caveats, findings, headline

HERE = Path(__file__).parent
synthetic_plane = runpy.run_path(str(HERE / "rate_plane_frame.py"))["synthetic_plane"]
page_test = runpy.run_path(str(HERE / "test_page.py"))
read, EVIL = page_test["read"], page_test["EVIL"]


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    return linear_rate_plane(models.HierarchicalLinearGaussian((3, 2), 5), 3)


@pytest.fixture(scope="module")
def path(tmp_path_factory, linear):
    plane = synthetic_plane(tmp_path_factory.mktemp("plane"), data=EVIL, source=EVIL)
    return write_rate_plane(plane, linear=linear)


@pytest.fixture(scope="module")
def page(path):
    return path.read_text(encoding="utf-8")


class TestPage:
    def test_needs_no_network_and_no_script(self, page):
        reader = read(page)
        assert all(link.startswith("data:image/") for link in reader.links)
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        assert "url(" not in page

    def test_pictures_come_light_and_dark_wide_and_narrow(self, page):
        assert page.count("<source ") == 3 * page.count("<picture>") == 3 * 5

    def test_every_picture_has_words_for_those_who_do_not_see_it(self, page):
        assert len(re.findall(r'<img [^>]*alt="([^"]{20,})"', page)) == 5

    def test_tables_have_a_row_a_task_and_a_row_a_pair_of_weights(self, page):
        assert [part.count("<tr>") - 1 for part in page.split("<table>")[1:]] == [5, 9]

    def test_names_stay_text(self, page):
        assert EVIL not in page
        assert "script" not in read(page).tags

    def test_figures_lie_beside_it(self, path):
        assert len(list((path.parent / "figures").glob("*.png"))) == 5


def test_without_a_linear_plane_its_section_is_left_out(tmp_path, linear):
    plane = synthetic_plane(tmp_path)
    keys = [section.key for section in rate_plane_sections(plane, linear)]
    assert [section.key for section in rate_plane_sections(plane, None)] == keys[:-1]
    assert keys[-1] == "linear_rate_plane"


class TestWords:
    def test_the_headline_names_the_optima(self, tmp_path):
        said = headline(synthetic_plane(tmp_path).optima)
        assert said.startswith("No setting serves every task")
        assert "likelihood at (1, 1)" in said

    def test_one_optimum_for_all_is_said_so(self, tmp_path):
        optima = synthetic_plane(tmp_path).optima
        assert headline(optima[-1:]).startswith("One pair of weights, (1, 1), serves all")

    def test_findings_say_who_obeys_the_bound(self, tmp_path):
        plane = synthetic_plane(tmp_path)
        *_, draws, means = findings(plane)
        above = int((plane.frame["accuracy_mean"] > plane.frame["fano_bound"]).sum())
        assert above > 0
        assert draws.startswith("All 18 probes of draws stay below")
        assert means.startswith(f"{above} of 18 probes of mean codes")

    def test_a_crossing_within_the_error_is_said_so(self, tmp_path):
        plane = synthetic_plane(tmp_path)
        plane.frame.loc[0, "accuracy_drawn"] = plane.frame.loc[0, "fano_bound"] + 0.004
        assert any(
            "pass it by at most 0.004, within the error" in each for each in findings(plane)
        )

    def test_a_crossing_beyond_the_error_is_not_explained_away(self, tmp_path):
        plane = synthetic_plane(tmp_path)
        error = plane.frame.loc[0, "accuracy_drawn_se"]
        plane.frame.loc[0, "accuracy_drawn"] = plane.frame.loc[0, "fano_bound"] + 4 * error
        *_, draws, _ = findings(plane)
        assert "1 by more than 3 standard errors: that cannot be" in draws
        assert "within the error" not in draws

    def test_caveats_count_seeds_and_capped_information(self, tmp_path):
        plane = synthetic_plane(tmp_path)
        capped = int(
            (plane.frame["information_2"] > plane.frame["information_2_ceiling"] - 1).sum()
        )
        notes = " ".join(caveats(plane))
        assert "2 seeds" in notes
        assert f"{capped} of 18 models" in notes
        assert "One seed only" in " ".join(caveats(synthetic_plane(tmp_path, (0,))))

    def test_diverged_models_are_counted(self, tmp_path):
        plane = synthetic_plane(tmp_path)
        plane.frame.loc[3, "diverged"] = 1.0
        assert "1 of 18 models stopped" in " ".join(caveats(plane))
