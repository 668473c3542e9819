"""How far a study is: one bar with the cells that are done and that failed, and the time left."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.studies.worker import Outcome

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts outcomes.

    Args:
        bar: Shows them.
        failed: Cells that had failed before.
    """

    def __init__(self, bar: Any, failed: int) -> None:
        self.bar, self.failed = bar, failed
        self._show()

    def count(self, outcome: Outcome) -> None:
        """Take one more outcome in; one that waits for another runner does not count yet."""
        if outcome.state == "busy":
            return
        self.failed += outcome.state == "failed"
        self._show()
        self.bar.update()

    def _show(self) -> None:
        if self.failed:
            self.bar.set_postfix_str(f"{self.failed} failed", refresh=False)


@contextmanager
def progress_of(
    name: str, total: int, done: int, failed: int, is_shown: bool
) -> Iterator[Progress]:
    """Show a bar on a terminal, a line now and then in a log.

    Args:
        name: Of the study.
        total: Cells in all.
        done: Cells that are there already, failed ones included.
        failed: Those of them that failed.
        is_shown: Whether to show anything.
    """
    on_terminal = sys.stderr.isatty()
    with tqdm(
        total=total, initial=done, desc=name, unit="cell", disable=not is_shown, smoothing=0.05,
        dynamic_ncols=on_terminal, mininterval=0.2 if on_terminal else SECONDS_BETWEEN_LINES,
    ) as bar:  # fmt: skip
        yield Progress(bar, failed)
