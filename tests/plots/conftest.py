"""The synthetic comparison, for the tests of figures."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

frames = runpy.run_path(str(Path(__file__).parents[1] / "report" / "study_frame.py"))
build = runpy.run_path(str(Path(__file__).parents[1] / "report" / "synthetic.py"))[
    "comparison_tree"
]


@pytest.fixture(scope="session")
def tree():
    return build()


@pytest.fixture(scope="session")
def bounded_tree():
    return build(is_bound=True)


@pytest.fixture
def own_tree():
    """A tree of the test's own, to change."""
    return build()


@pytest.fixture
def frame():
    """The table of a study, of the test's own."""
    return frames["study_frame"]()


@pytest.fixture
def folding_frame():
    """The table of a study of folds."""
    return frames["folding_frame"]()
