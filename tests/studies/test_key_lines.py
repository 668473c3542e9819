"""Lines of keys in TOML, checked against what ``tomllib`` reads."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pytest

from pyrolvm.studies.builtin import builtin_names
from pyrolvm.studies.key_lines import key_lines

TEXT = '''# a comment with = and [brackets]
name = "a # no comment"
"quoted key" = 'it''s'

[common]
steps = 10   # after a value
note = """
model = "not a key"
"""

[[grid]]
model = [
    "vae:2:64",     # first
    {name = "cpa-generator", hidden = [[8],
     [16, 16]], noise_scale = 0.1},
]
guide.name = "full"
[[grid]]
seed = [0,
        1]
[sizes.smoke]
seed = 0
[[sizes.smoke.grid]]
steps = 1
'''.replace("''s'", "s'")


def paths(value, path=()):
    """Every path of a parsed document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inside:
        yield (*path, key)
        if isinstance(each, (dict, list)):
            yield from paths(each, (*path, key))


def test_every_key_has_a_line():
    found = key_lines(TEXT)
    implied = {("grid",), ("sizes",), ("sizes", "smoke", "grid"), ("grid", 0, "guide")}
    assert set(paths(tomllib.loads(TEXT))) - implied == set(found)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("name",), "name ="),
        (("common", "steps"), "steps = 10"),
        (("grid", 0, "model"), "model = ["),
        (("grid", 0, "model", 0), '"vae:2:64"'),
        (("grid", 0, "model", 1, "noise_scale"), "noise_scale"),
        (("grid", 0, "guide", "name"), "guide.name"),
        (("grid", 1, "seed", 1), " 1]"),
        (("sizes", "smoke", "seed"), "seed = 0"),
        (("sizes", "smoke", "grid", 0, "steps"), "steps = 1\n"),
    ],
)
def test_the_line_is_where_the_key_stands(path, text):
    wanted = TEXT[: TEXT.index(text)].count("\n") + 1
    assert key_lines(TEXT)[path].line == wanted


@pytest.mark.parametrize("name", builtin_names())
def test_the_built_in_files_can_be_walked(name):
    text = (files("pyrolvm.studies") / f"{name}.toml").read_text("utf-8")
    leaves = {path for path in paths(tomllib.loads(text)) if not isinstance(path[-1], int)}
    assert leaves - set(key_lines(text)) <= {
        ("grid",),
        ("figure",),
        ("sizes",),
        *_sizes_with_grids(text),
    }


def _sizes_with_grids(text):
    sizes = tomllib.loads(text).get("sizes", {})
    return {path for name in sizes for path in (("sizes", name), ("sizes", name, "grid"))}
