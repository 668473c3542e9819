"""Compiled copies into longer arrays; plain loops, since array expressions compile slowly."""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lengthen(array, used, capacity):
    """Copy the first ``used`` entries of a vector to a new one of length ``capacity``."""
    longer = np.empty(capacity, array.dtype)
    for i in range(used):
        longer[i] = array[i]
    return longer


@njit(cache=True, nogil=True)
def lengthen_rows(array, used, capacity):
    """Copy the first ``used`` rows of a matrix to a new one of ``capacity`` rows."""
    longer = np.empty((capacity, array.shape[1]), array.dtype)
    for i in range(used):
        for j in range(array.shape[1]):
            longer[i, j] = array[i, j]
    return longer
