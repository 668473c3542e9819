"""Run compiled kernels over chunks of data, on as many threads as torch may use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def run_in_threads(
    run: Callable[[int, int], Result], size: int, smallest: int, largest: int = 2**60
) -> list[Result]:
    """Call ``run(begin, end)`` on consecutive chunks that cover ``range(size)``.

    The pool lives for one call, which is safe where processes fork; the kernels release the GIL.

    Args:
        run: Work on one chunk; it must not depend on how the range is cut.
        size: Length of the range; one empty chunk if 0.
        smallest: Fewest items worth a thread of their own.
        largest: Most items in a chunk.

    Returns:
        Results in order.
    """
    threads = max(1, torch.get_num_threads())
    even = -(-size // (4 * threads)) if threads > 1 else size
    chunk = max(1, min(largest, max(smallest, even)))
    begins = range(0, max(size, 1), chunk)
    if threads == 1 or len(begins) == 1:
        return [run(begin, min(begin + chunk, size)) for begin in begins]
    with ThreadPoolExecutor(min(threads, len(begins))) as pool:
        return list(pool.map(lambda begin: run(begin, min(begin + chunk, size)), begins))
