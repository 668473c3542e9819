"""The page: self-contained, escaped, deterministic, and whole without optional groups."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
import xarray as xr
from matplotlib.figure import Figure

from pyrolvm.core.errors import DataError, RunFolderError
from pyrolvm.report import figures, render, write

EVIL = '<script>alert("guide")<b>'
VOID = {"meta", "img", "source", "br"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.open, self.words = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [
            value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")
        ]
        assert not any(key.startswith("on") for key, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def page(tree):
    return render(tree)


@pytest.fixture(scope="module")
def evil_tree(tree):
    evil = tree.copy(deep=True)
    table = evil["table"].to_dataset()
    evil["table"] = xr.DataTree(
        table.assign_coords(guide=[EVIL, *table["guide"].values[1:]]).assign(
            family=("guide", [EVIL] * table.sizes["guide"])
        )
    )
    evil[EVIL] = evil.children["amortized:diagonal"]
    del evil["picture"]  # the other figures show the same names
    for key in ("title", "model", "data", "scored", "config", "versions", "source_note"):
        evil.attrs[key] = f"</style></script><script src='http://evil.example/{key}.js'></script>"
    evil.attrs["evidence_method"] = EVIL
    return evil


@pytest.fixture(scope="module")
def evil_page(evil_tree):
    return render(evil_tree)


@pytest.fixture(scope="module")
def bare_tree(tree):
    return xr.DataTree.from_dict({"/table": tree["table"].to_dataset()})


class TestPage:
    def test_sections_come_in_order(self, page):
        order = ["The answer<", "The table<", "and why?<", "Where the numbers come from<"]
        places = [page.index(title) for title in order]
        assert places == sorted(places)

    def test_needs_no_network_and_no_script(self, page):
        reader = read(page)
        assert all(link.startswith(("data:image/", "#note-")) for link in reader.links)
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        assert "url(" not in page
        assert "@import" not in page

    def test_pictures_come_light_and_dark_wide_and_narrow(self, page):
        assert page.count("<source ") == 3 * page.count("<picture>") == 3 * 7

    def test_pictures_are_whole_svg_without_script(self, page):
        for text in re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page):
            svg = base64.b64decode(text).decode()
            assert svg.rstrip().endswith("</svg>")
            assert "<script" not in svg

    def test_every_picture_has_words_for_those_who_do_not_see_it(self, page):
        assert all(re.findall(r'<img [^>]*alt="([^"]{20,})"', page))

    def test_footnotes_are_linked(self, page):
        assert set(re.findall(r'href="#(note-\d+)"', page)) == set(
            re.findall(r'id="(note-\d+)"', page)
        )

    def test_config_can_be_read_back(self, page):
        assert "&#34;steps&#34;: 2000" in page

    def test_same_tree_same_page(self, bare_tree):
        assert render(bare_tree) == render(bare_tree)

    def test_bound_signs(self, bounded_tree, page):
        bounded = render(bounded_tree, figures={})
        assert '<span class="sign">≥</span> 1.51' in bounded
        assert '<span class="sign">' not in page


class TestEscaping:
    def test_names_stay_text(self, evil_page):
        reader = read(evil_page)
        assert "script" not in reader.tags
        assert EVIL in "".join(reader.words)
        assert all(link.startswith(("data:image/", "#note-")) for link in reader.links)

    def test_drawn_names_stay_text(self, evil_page):
        for text in re.findall(r"base64,([A-Za-z0-9+/=]+)", evil_page):
            assert b"<script" not in base64.b64decode(text)


class TestMissingGroups:
    def test_only_a_table(self, bare_tree):
        page = render(bare_tree)
        assert page.count("<picture>") == 1
        assert "How far is each guide, and why?" in page
        read(page)

    def test_pictures_alone_are_left_out(self, own_tree):
        del own_tree["picture"]
        assert "posterior_contours" not in figures(own_tree)

    def test_no_table_is_refused(self, tree):
        with pytest.raises(DataError, match="/table"):
            render(xr.DataTree.from_dict({"/picture": tree["picture"].to_dataset()}))


class TestGivenFigures:
    def test_replace_the_drawn_ones(self, tree):
        page = render(tree, {"gap_bars": Figure(), "my <own>": Figure()})
        assert page.count("<picture>") == 2
        assert "my &lt;own&gt;" in page
        read(page)


class TestWrite:
    def test_writes_the_page_and_nothing_else(self, bare_tree, tmp_path):
        path = write(bare_tree, tmp_path / "new" / "report.html")
        assert path.read_text(encoding="utf-8") == render(bare_tree)
        assert [each.name for each in path.parent.iterdir()] == ["report.html"]

    def test_an_unwritable_place_is_named(self, tmp_path, bare_tree):
        (tmp_path / "file").write_text("kept")
        with pytest.raises(RunFolderError, match="cannot be written"):
            write(bare_tree, tmp_path / "file" / "report.html")
        assert (tmp_path / "file").read_text() == "kept"

    def test_a_saved_tree_gives_the_same_page(self, tree, tmp_path):
        tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
        with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as loaded:
            assert render(loaded, {}) == render(tree, {})
