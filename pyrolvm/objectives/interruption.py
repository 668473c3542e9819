"""Ctrl-C between two steps, and not in the middle of one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold a Ctrl-C back inside; a second one gets through.

    A step that is cut in the middle leaves parameters, optimizer and random numbers that do not
    belong together.

    Yields:
        A function that tells whether Ctrl-C was pressed.
    """
    asked = False

    def hold(*args: Any) -> None:
        nonlocal asked
        if asked:
            signal.default_int_handler(*args)
        asked = True

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: asked
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
