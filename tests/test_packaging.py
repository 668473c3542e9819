"""What is installed: every package, nothing else, and nothing that runs on import."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_folder_with_an_init_is_packaged():
    found = {
        ".".join(init.parent.relative_to(ROOT).parts)
        for init in (ROOT / "pyrolvm").rglob("__init__.py")
        if not init.parent.is_symlink()
    }
    found |= {"pyrolvm.models", "pyrolvm.guides"}
    assert sorted(found) == sorted(SETTINGS["tool"]["setuptools"]["packages"])


@pytest.mark.parametrize("name", ["models", "guides"])
def test_the_link_shows_the_folder_under_the_package(name):
    assert (ROOT / "pyrolvm" / name).resolve() == ROOT / name


@pytest.mark.slow
def test_the_wheel_holds_only_pyrolvm_and_works_elsewhere(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} <= {"pyrolvm", "pyrolvm-0.1.0.dist-info"}
    assert {"pyrolvm/py.typed", "pyrolvm/models/vae.py", "pyrolvm/report/page.html"} <= set(names)
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = "import pyrolvm.models, pyrolvm.guides; print(pyrolvm.__file__)"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(site))


def test_help_does_not_wait_for_torch():
    code = (
        "import sys, pyrolvm, pyrolvm.cli; "
        "print([name for name in ('torch', 'pyro', 'xarray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fit_and_compare_are_functions_however_they_were_imported():
    code = (
        "import pyrolvm.fit, pyrolvm.compare, pyrolvm as lvm; "
        "from pyrolvm import compare, fit; "
        "assert lvm.fit is fit and callable(fit); "
        "assert lvm.compare is compare and callable(compare)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    import pyrolvm

    for name in pyrolvm.__all__:
        assert getattr(pyrolvm, name).__doc__


def test_importing_changes_no_global_setting():
    code = (
        "import torch, numpy; before = torch.get_rng_state(), torch.get_num_threads(), "
        "torch.get_default_dtype(), torch.distributions.Distribution._validate_args; "
        "import pyrolvm.compare, pyrolvm.report; "
        "after = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype(), "
        "torch.distributions.Distribution._validate_args; "
        "assert torch.equal(before[0], after[0]) and before[1:] == after[1:]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
