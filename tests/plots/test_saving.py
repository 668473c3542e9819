"""Files of figures: both formats, whole or not at all."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from pyrolvm.core.errors import RunFolderError
from pyrolvm.plots import gap_bars, save


def test_writes_both_formats_and_nothing_else(tree, tmp_path):
    save(gap_bars(tree), tmp_path / "new", "gaps")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["gaps.png", "gaps.svg"]


def test_svg_holds_no_date(tree, tmp_path):
    _, svg = save(gap_bars(tree), tmp_path, "gaps")
    assert "dc:date" not in svg.read_text()


def test_the_same_figure_gives_the_same_files(tree, tmp_path):
    first = [path.read_bytes() for path in save(gap_bars(tree), tmp_path / "a", "gaps")]
    second = [path.read_bytes() for path in save(gap_bars(tree), tmp_path / "b", "gaps")]
    assert first == second


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        save(Figure(), tmp_path / "file", "gaps")
