"""Programs named as module:attribute: found, made by factories, or refused in one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pyrolvm.core.errors import SettingError
from pyrolvm.core.named_programs import importing_from, named_program, source_files

PROGRAMS = """
import torch
from torch.distributions import Normal
from types import SimpleNamespace

class Guide(torch.nn.Module):
    def forward(self, x):
        return "a module"

def model(x):
    return "a function"

def make_guide():
    return Guide()

def broken():
    raise KeyError("no such file")

guide = Guide()
pairs = SimpleNamespace(model=model)
number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "g_own_pair.py").write_text(PROGRAMS, encoding="utf-8")
    (tmp_path / "g_no_syntax.py").write_text("x = (\n", encoding="utf-8")
    (tmp_path / "g_needs_more.py").write_text("import g_not_installed\n", encoding="utf-8")
    before = set(sys.modules)
    with importing_from(tmp_path):
        yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("attribute", "returned"),
    [
        ("model", "a function"),
        ("guide", "a module"),
        ("make_guide()", "a module"),
        ("Guide()", "a module"),
        ("pairs.model", "a function"),
    ],
)
def test_functions_modules_and_factories_are_found(attribute, returned):
    assert named_program(f"g_own_pair:{attribute}", "model")(None) == returned


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("g_own_pair", "module:attribute"),
        ("g_nowhere:guide", "module 'g_nowhere' was not found"),
        ("g_own_pair:gide", "'g_own_pair' has no 'gide'; of its own it has Guide, broken, guide, "
                            "make_guide, model."),
        ("g_own_pair:number", "should be a Pyro program .* but it is of type int"),
        ("g_own_pair:number()", "cannot be called: it is of type int"),
        ("g_own_pair:Guide", r"is a class; .* write g_own_pair:Guide\(\)"),
        ("g_own_pair:broken()", r"cannot be made: KeyError: .*g_own_pair.py, line 17\)"),
        ("g_no_syntax:guide", r"SyntaxError: .*g_no_syntax.py, line 1\)"),
        ("g_needs_more:guide", "cannot be imported: ModuleNotFoundError: .*g_not_installed"),
    ],
)  # fmt: skip
def test_what_is_no_program_is_refused(name, message):
    with pytest.raises(SettingError, match=message):
        named_program(name, "guide")


def test_the_folder_is_searched_inside_the_block_only(folder):
    before = sys.path.count(str(folder))
    with importing_from(folder):
        assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == before


def test_each_source_file_comes_once(folder):
    named_program("g_own_pair:model", "model")
    found = list(source_files("g_own_pair:model", "g_own_pair:guide"))
    assert found == [Path(folder / "g_own_pair.py")]
