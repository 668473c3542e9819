"""The page of a diagnosis: the verdict first, self-contained, escaped, whole without groups."""

from __future__ import annotations

import base64
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import pytest
import xarray as xr

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import arviz_export
from pyrolvm.diagnostics.diagnosis_tree import findings_dataset
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.verdict import MOST_ADVICE, judge
from pyrolvm.plots.theme import NARROW, WIDE
from pyrolvm.report.diagnosis_page import notebook, render
from pyrolvm.report.diagnosis_sections import SECTIONS, figures
from pyrolvm.report.four_looks import LOOKS
from pyrolvm.report.page import Picture, data_uri, pixels

made = runpy.run_path(str(Path(__file__).with_name("synthetic_diagnosis.py")))
build, EVIL, BAD, GOOD = made["diagnosis_tree"], made["EVIL"], made["BAD"], made["GOOD"]
VOID = {"meta", "img", "source", "br"}


class Reader(HTMLParser):
    """Collects tags, links and text, and checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.links, self.open, self.words = [], [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        assert not any(key.startswith("on") for key, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def svgs(page):
    found = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page)
    return [base64.b64decode(text).decode() for text in found]


@pytest.fixture(scope="module", autouse=True)
def _one_look():
    """Every figure is drawn once; the four looks are those of all pages, tested with them."""

    def once(key, title, caption, alternative, draw):
        drawn = draw("light", WIDE)
        sources = dict.fromkeys((name for name, _, _ in LOOKS), data_uri(drawn))
        return Picture(key, title, caption, alternative, sources, *pixels(drawn))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrolvm.report.diagnosis_page.picture", once)
        yield


@pytest.fixture(scope="module")
def tree():
    return build()


@pytest.fixture(scope="module")
def page(tree):
    return render(tree)


@pytest.fixture(scope="module")
def one_datum():
    """A trusted guide of a data set whose posterior does not factorise; nothing else is known."""
    whole = build(GOOD, num_data=1)
    kept = {name: whole[name].to_dataset() for name in ("importance", "findings")}
    bare = xr.DataTree.from_dict({f"/{name}": group for name, group in kept.items()})
    bare.attrs = whole.attrs
    return Reader(render(bare))


def test_the_verdict_comes_first_then_pictures_numbers_advice_and_provenance(page):
    titles = ["The verdict<", "What was looked at?<", "reweighted?<", "The numbers<",
              "What to try next</h2>", "Where the numbers come from<"]  # fmt: skip
    places = [page.index(title) for title in titles]
    assert places == sorted(places)


def test_the_verdict_names_its_defects_and_reasons_in_words(page):
    text = Reader(page).text
    assert "Not trusted" in text
    assert "The guide is too narrow, ignores correlation, is shifted and has an encoder" in text
    assert "Apart from the guide, the model does not predict" in text
    assert "Bad. At z[0] the guide's standard deviation is 0.54 of the posterior's." in text
    assert text.count("Not measured. LOO cannot be trusted") == 1


def test_every_finding_stands_in_the_numbers_with_its_error_and_level(page):
    text = Reader(page).text.split("The numbers")[1]
    for finding in BAD:
        assert finding.name in text
        assert finding.sentence in text
    assert "−0.610 ± 0.020" in text
    assert "0.210 ± 0.050 posterior sd" in text


def test_the_advice_of_the_verdict_is_given_once(page):
    advice = judge(BAD).advice
    after = Reader(page).text.split("What to try next")[-1]
    assert [after.count(each) for each in advice] == [1] * MOST_ADVICE


def test_the_worst_data_are_listed_by_their_row(page, tree):
    worst = int(tree["importance"]["khat"].values.argmax())
    assert f'data-label="datum">{worst}</th>' in page


def test_it_needs_no_network_and_no_script(page):
    reader = Reader(page)
    assert all(link.startswith(("data:image/", "#")) for link in reader.links)
    assert not {"script", "link", "iframe", "object"} & set(reader.tags)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_every_picture_comes_with_words_and_a_way_to_read_it(page):
    pictures = len(SECTIONS)
    assert page.count("<picture>") == page.count("<figcaption>") == pictures
    assert page.count("<source ") == 3 * pictures
    assert all(re.findall(r'<img [^>]*alt="([^"]{20,})"', page))


def test_all_figures_are_drawn_dark_and_narrow_too(tree):
    drawn = figures(tree, "dark", width=NARROW)
    assert list(drawn) == [section.key for section in SECTIONS]
    assert all(figure.get_size_inches()[0] <= NARROW for figure in drawn.values())


def test_the_draws_shown_are_those_of_the_worst_datum_and_coordinates():
    wide = build(names=[f"z[{i}]" for i in range(6)])
    wide["moments"]["log_sd_ratio"][:, 5] = -3.0
    wide["moments"]["correlation_pair"][:] = ["z[1]", "z[4]"]
    wide["two_sample"]["c2st"][:] = [0.5, 0.9, 0.6]
    (drawn,) = (s.draw(wide) for s in SECTIONS if s.key == "draws_at_worst")
    labels = {axes.get_xlabel() for axes in drawn.axes} - {""}
    assert {"z[1]", "z[4]", "z[5]"} <= labels
    assert len(labels) == 4
    assert "datum 20" in drawn.legends[0].get_texts()[0].get_text()


def test_in_a_notebook_the_verdict_stands_alone_and_escaped(tree):
    text = Reader(notebook(tree)).text
    assert "Not trusted" in text
    assert "At z[0] the guide's standard deviation" in text
    assert "script" not in Reader(notebook(made["evil_tree"]())).tags


def test_names_that_a_person_chose_stay_text():
    page = render(made["evil_tree"]())
    reader = Reader(page)
    assert "script" not in reader.tags
    assert reader.tags.count("style") == 1
    assert "".join(reader.words).count(EVIL) > 12
    assert all(link.startswith(("data:image/", "#")) for link in reader.links)
    pictures = svgs(page)
    assert pictures
    assert all("<script" not in svg and svg.rstrip().endswith("</svg>") for svg in pictures)


def test_a_posterior_that_does_not_factorise_names_its_sites_and_what_follows(one_datum):
    assert "mu, tau lie outside the plate “data”" in one_datum.text
    assert "The data set counts as one datum" in one_datum.text


def test_a_trusted_guide_shows_what_could_not_be_measured(one_datum):
    assert "Trusted" in one_datum.text
    assert "Nothing that was measured speaks against the guide." in one_datum.text
    assert "not measured: two-sample tests and calibration." in one_datum.text
    assert "it would need 300 refits" in one_datum.text
    assert "What to try next" not in one_datum.text


def test_nothing_measured_is_not_trusted_silently():
    unknown = [Finding("importance", "k-hat", float("nan"), level="unknown", sentence="No draws.")]
    bare = xr.DataTree.from_dict({"/findings": findings_dataset(unknown)})
    text = Reader(render(bare)).text
    assert "Use with care" in text
    assert "Nothing that decides could be measured of the guide." in text


def test_the_stored_tree_gives_the_same_page(tmp_path, page, tree):
    stored = arviz_export.save(tree, tmp_path / "diagnosis.nc")
    assert render(arviz_export.load(stored)) == page


def test_a_tree_without_findings_is_refused():
    with pytest.raises(DataError, match="/findings"):
        render(xr.DataTree.from_dict({"/gaps": xr.Dataset()}))
