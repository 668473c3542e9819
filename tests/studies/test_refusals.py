"""What cannot run is refused before anything runs, with the line of the file."""

from __future__ import annotations

import pytest

from pyrolvm.core import DataError, IncompatiblePairError, PyroLVMError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.studies import Study

GOOD = """name = "mine"
[common]
steps = 5

[[grid]]
model = [
    "linear-gaussian:1:obs_dim=2",
    {name = "cpa-generator", obs_dim = 2, hidden = [[4]]},
]
guide = [
    "exact-cpa",
    {name = "full", hidden = [[4], [8]]},
]
seed = [0, 1]

[sizes.smoke]
seed = 0
"""


def read(tmp_path, text, size="default"):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return Study.from_toml(path, size)


def line_with(text, part):
    return text[: text.index(part)].count("\n") + 1


def test_the_good_file_has_its_cells(tmp_path):
    text = GOOD.replace("linear-gaussian:1", "vae:1:8")
    assert len(read(tmp_path, text).cells) == 2 * 3 * 2
    assert len(read(tmp_path, text, "smoke").cells) == 2 * 3


WRONG = [
    ("seed = [0, 1]", "sed = [0, 1]", "sed", "Did you mean 'seed'"),
    ("steps = 5", "stepps = 5", "stepps", "Did you mean 'steps'"),
    ("[sizes.smoke]\nseed = 0", "[sizes.smoke]\nseeds = 0", "seeds", "Did you mean 'seed'"),
    ("hidden = [[4], [8]]", "hiden = [[4], [8]]", "hiden", "Did you mean 'hidden'"),
    ("hidden = [[4], [8]]", "hidden = [4, 8]", "hidden = [4, 8]", "written hidden = [[…]]"),
    ('"exact-cpa",', '"exact-cpaa",', "exact-cpaa", "Did you mean 'exact-cpa'"),
    ('"full"', '"ful"', "ful", "Did you mean 'full'"),
    ('"cpa-generator"', '"cpa-generater"', "cpa-generater", "Did you mean 'cpa-generator'"),
    ("steps = 5", "steps = 5.5", "steps = 5.5", "should be a whole number"),
    ("steps = 5", 'train = "guides"', 'train = "guides"', "Did you mean 'guide'"),
    ("steps = 5", 'data = "circel"', 'data = "circel"', "Did you mean 'circle'"),
    ("steps = 5", 'data = "simulated"', 'data = "simulated"', "simulated:1000"),
    ("steps = 5", "particles = 1", "particles = 1", "at least 20"),
    (", obs_dim = 2", "", "cpa-generator", "needs obs_dim"),
    ('name = "mine"', 'name = "mine"\nsteps = 3', "steps = 3", "put it under [[grid]]"),
    ('name = "mine"', 'name = "mine"\ntitel = 3', "titel", "Known: common, description"),
]


@pytest.mark.parametrize(("old", "new", "mark", "wanted"), WRONG, ids=[w[1] for w in WRONG])
def test_a_mistake_is_named_with_its_line(tmp_path, old, new, mark, wanted):
    text = GOOD.replace(old, new, 1)
    size = "smoke" if "smoke" in new else "default"
    with pytest.raises(PyroLVMError) as refusal:
        _ = read(tmp_path, text, size).cells
    assert str(refusal.value).startswith(f"mine.toml, line {line_with(text, mark)}: ")
    assert wanted in str(refusal.value)


def test_a_guide_that_cannot_serve_a_model_is_refused_before_anything_runs(tmp_path):
    text = GOOD.replace('"linear-gaussian:1:obs_dim=2"', '"vae:2:8:obs_dim=3:activation=tanh"')
    out = tmp_path / "out"
    with pytest.raises(IncompatiblePairError) as refusal:
        read(tmp_path, text).run(out=out)
    assert f"line {line_with(text, 'exact-cpa')}: ExactCPA needs" in str(refusal.value)
    assert not out.exists()


def test_a_guide_that_the_objective_cannot_train_is_refused_before_anything_runs(tmp_path):
    text = GOOD.replace('"exact-cpa"', '"langevin"').replace(
        "seed = [0, 1]", 'objective = "forward-kl"'
    )
    with pytest.raises(PyroLVMError, match=r"^mine\.toml, line 11: The forward KL"):
        _ = read(tmp_path, text).cells


def test_a_size_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'smoke'"):
        read(tmp_path, GOOD, "smok")


def test_a_file_without_blocks_is_refused(tmp_path):
    with pytest.raises(SettingError, match="at least one"):
        read(tmp_path, 'name = "mine"')


def test_a_file_that_is_no_toml_is_refused_with_the_line(tmp_path):
    with pytest.raises(SettingError, match=r"cannot be read.*line 2"):
        read(tmp_path, 'name = "mine"\ngrid = = 2')


@pytest.mark.parametrize("key", ["model", "guide"])
def test_a_block_without_a_model_or_a_guide_is_refused(tiny, key):
    block = {name: value for name, value in tiny().grid[0].items() if name != key}
    with pytest.raises(SettingError, match=f"names no {key}"):
        _ = Study("mine", [block]).cells


def test_data_of_another_width_are_refused(tiny):
    with pytest.raises(DataError, match=r"shape \(N, 5\), but got \(500, 2\)"):
        _ = tiny(model="linear-gaussian:1:obs_dim=5", data="circle").cells


def test_a_factory_that_cannot_be_imported_is_refused(tiny):
    with pytest.raises(SettingError, match="import path of your own factory"):
        _ = tiny(model="no_such_module.make_model").cells


def test_a_python_study_is_refused_without_a_line(tiny):
    with pytest.raises(UnknownNameError, match=r"^Unknown key of a cell 'sed'"):
        _ = tiny(sed=3).cells
