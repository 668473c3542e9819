"""What compiling takes and saves, by the size of a program: no clock decides.

Measured on a 2-core x86 VM (torch 2.13): 602 operations with Adam took 30 s of CPU time. Compiling
saves what Python and single operations cost, 1 ms of a step with 218 captured operations.
"""

from __future__ import annotations

SECONDS_SAVED = 4e-6
"""What compiling saves in a step, for each operation of the captured graph."""
SECONDS_TO_START, SECONDS_TO_COMPILE = 8.0, 0.04
"""What compiling takes: once, and for each operation of the whole step."""


def saves_time(num_steps: int, num_captured: int, num_compiled: int) -> bool:
    """Whether compiling takes less time than it saves.

    Args:
        num_steps: Steps to come.
        num_captured: Operations of loss and gradients, which would run one by one.
        num_compiled: Operations of what is compiled, Adam included.

    >>> saves_time(2000, 218, 602), saves_time(100_000, 218, 602)
    (False, True)
    """
    saved = num_steps * num_captured * SECONDS_SAVED
    return saved > SECONDS_TO_START + num_compiled * SECONDS_TO_COMPILE
