"""Every tutorial runs, in its smoke size, without a warning, and asks a question."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))

pytestmark = pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)


def test_title_is_a_question(tutorial: Path) -> None:
    first, title, *_ = tutorial.read_text(encoding="utf-8").splitlines()
    assert first == "# %% [markdown]"
    assert title.startswith("# # ")
    assert title.endswith("?")


def test_prose_and_code_take_turns(tutorial: Path) -> None:
    lines = tutorial.read_text(encoding="utf-8").splitlines()
    prose, code = lines.count("# %% [markdown]"), lines.count("# %%")
    assert prose >= 4
    assert code >= 4


def test_reads_the_smoke_setting_in_one_line(tutorial: Path) -> None:
    text = tutorial.read_text(encoding="utf-8")
    assert text.count('smoke = bool(os.environ.get("PYROLVM_SMOKE"))\n') == 1


def test_runs_without_a_warning(tutorial: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYROLVM_SMOKE": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    command = [
        sys.executable, "-W", "error",
        "-W", "ignore:FigureCanvasAgg is non-interactive:UserWarning",  # plt.show without a screen
        str(tutorial),
    ]  # fmt: skip
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True,
        encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout
    assert list(tmp_path.iterdir()) == []
