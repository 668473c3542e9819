"""Random numbers of one's own: a library call leaves the user's as they were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def own_randomness(seed: int | None = None) -> Iterator[None]:
    """Give back afterwards the random states of torch (every device), NumPy and Python.

    A GPU that nobody has used yet is neither woken up nor seeded.

    Args:
        seed: Where random numbers start inside; None goes on from where they are.
    """
    uses_cuda = torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if uses_cuda else ()
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - Pyro uses these
    try:
        with torch.random.fork_rng(devices=devices):
            if seed is not None:
                torch.default_generator.manual_seed(seed)
                if uses_cuda:
                    torch.cuda.manual_seed_all(seed)
                random.seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
