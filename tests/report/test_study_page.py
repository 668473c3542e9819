"""The page of a study: whole, self-contained, escaped, also when cells failed or none finished."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from pyrolvm.report.study_page import write_study
from pyrolvm.studies import Study, StudyResult

page_test = runpy.run_path(str(Path(__file__).with_name("test_page.py")))
read, EVIL = page_test["read"], page_test["EVIL"]

BLOCK = {"model": {"name": "linear-gaussian", "latent_dim": 1, "obs_dim": 2},
         "guide": {"name": "full", "hidden": [[4]]}, "data": "simulated:20"}  # fmt: skip
SWEEP = {
    "name": "by_width", "kind": "sweep", "x": "guide.width", "y": "gap", "threshold": 0.05,
}  # fmt: skip
BUDGET = {"name": "budget", "kind": "encoder-budget", "title": "What a larger encoder buys"}


def study(**changes):
    return Study(**{"name": "widths", "grid": [BLOCK], "description": "How wide?", **changes})


def page_of(asked, frame, folder, failures=None):
    path, tables = write_study(asked, StudyResult(frame, failures or {}, folder))
    return path.read_text(encoding="utf-8"), tables


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    frame = runpy.run_path(str(Path(__file__).with_name("study_frame.py")))["study_frame"]()
    asked = study(figures=[BUDGET, SWEEP], notes=["Left is small."])
    return page_of(asked, frame, tmp_path_factory.mktemp("study"))[0]


class TestPage:
    def test_needs_no_network_and_no_script(self, page):
        reader = read(page)
        assert all(link.startswith("data:image/") for link in reader.links)
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        assert "url(" not in page

    def test_pictures_come_light_and_dark_wide_and_narrow(self, page):
        assert page.count("<source ") == 3 * page.count("<picture>") == 3 * 2

    def test_every_figure_stands_above_its_table(self, page):
        order = ["What a larger encoder buys<", "Smallest encoder within", "By width<",
                 "Gap, nats a datum, by width", "Left is small."]  # fmt: skip
        places = [page.index(title) for title in order]
        assert places == sorted(places)

    def test_captions_say_how_to_read_the_figure(self, page):
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
        assert "approximation part" in captions[0]
        assert captions[1] == "Means over seeds with one standard error. Dotted: 0.05."

    def test_every_picture_has_words_for_those_who_do_not_see_it(self, page):
        assert len(re.findall(r'<img [^>]*alt="([^"]{20,})"', page)) == 2

    def test_numbers_carry_their_headers_for_narrow_screens(self, page):
        assert 'data-label="parameters"' in page
        assert "max-width: 640px) {\n  thead" in page


def test_figures_and_page_lie_in_the_folder(frame, tmp_path):
    page_of(study(figures=[SWEEP]), frame, tmp_path)
    assert (tmp_path / "study.html").is_file()
    assert {each.stem for each in (tmp_path / "figures").iterdir()} == {"by_width"}


def test_names_and_notes_stay_text(frame, tmp_path):
    frame["model"] = frame["model"].replace("residual-generator", EVIL)
    asked = study(name=EVIL, description=EVIL, notes=[EVIL], figures=[{**BUDGET, "title": EVIL}])
    reader = read(page_of(asked, frame, tmp_path)[0])
    assert "script" not in reader.tags
    assert "".join(reader.words).count(EVIL) >= 5


def test_failed_cells_are_named_with_their_error(frame, tmp_path):
    (cell,) = study().cells
    failures = {cell.key: "Traceback\n  line 1\nArithmeticError: no <guide> today\n"}
    page, _ = page_of(study(), frame, tmp_path, failures)
    assert "30 finished, 1 failed" in page
    assert "ArithmeticError: no &lt;guide&gt; today" in page
    assert cell.label in "".join(read(page).words)


def test_failed_checks_are_named(frame, tmp_path):
    frame.loc[3, "checks_failed"] = "gap below zero"
    page, _ = page_of(study(), frame, tmp_path)
    assert "Cells with a check that did not pass" in page
    assert "gap below zero" in page


def test_a_study_without_figures_gets_one(frame, tmp_path):
    page, tables = page_of(study(), frame, tmp_path)
    assert page.count("<picture>") == len(tables) == 1


def test_a_study_without_encoders_has_a_page_without_figures(frame, tmp_path):
    page, tables = page_of(study(), frame.assign(parameters=0), tmp_path)
    assert not tables
    assert "<picture>" not in page
    read(page)


@pytest.mark.parametrize("figures", [(), (SWEEP, BUDGET)])
def test_a_study_of_which_nothing_is_finished_has_a_page(tmp_path, figures):
    page, tables = page_of(study(figures=figures), pd.DataFrame(), tmp_path)
    assert not tables
    assert "0 finished, 0 failed" in page
    read(page)


def test_a_figure_of_cells_that_are_not_finished_is_left_for_later(frame, tmp_path):
    asked = study(figures=[{**SWEEP, "where": {"guide.depth": 1}}, BUDGET])
    page, _ = page_of(asked, frame, tmp_path)
    assert page.count("<picture>") == 1


def test_a_single_seed_and_a_bound_are_said(frame, tmp_path):
    frame = frame[frame["seed"] == 0].assign(evidence_is_bound=True)
    page, _ = page_of(study(), frame, tmp_path)
    assert "standard errors over data" in page
    assert "their gaps are at least these" in page
