"""Running statistics of normalisation layers: a step changes them before its loss is known."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from pyrolvm.core.reachable import reachable_modules


class RunningStatistics:
    """Remembers the buffers that a forward pass changes, so that a failed step can be undone.

    Args:
        *programs: Models and guides.
    """

    def __init__(self, *programs: Any) -> None:
        found = {
            id(part): part
            for module in reachable_modules(*programs)
            for part in module.modules()
            if isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
        }
        self._buffers = [buffer for part in found.values() for buffer in part.buffers()]
        self.remember()

    def remember(self) -> None:
        """Copy the buffers as they are."""
        self._copies = [buffer.clone() for buffer in self._buffers]

    def put_back(self) -> None:
        """Give the buffers their remembered values."""
        with torch.no_grad():
            for buffer, copy in zip(self._buffers, self._copies, strict=True):
                buffer.copy_(copy)
