"""One cell of a study: a configuration with nothing left open, and the hash that names it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pyrolvm.core.checkpoint import fingerprint

ENSEMBLE, MEMBERS = "ensemble", "ensemble_members"
"""Keys of a cell that is trained with others: how, and the seeds of all of them."""


@dataclass(frozen=True)
class Cell:
    """One combination of a study's axes.

    Args:
        configuration: Every key of :data:`pyrolvm.studies.settings.SETTINGS` with its value; model
            and guide in canonical form. JSON holds it. A cell that is trained alone has no key of
            an ensemble.
    """

    configuration: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Hash of the configuration, 12 hexadecimal digits; the name of the cell's folder."""
        return fingerprint(dict(self.configuration))

    @cached_property
    def ensemble(self) -> str | None:
        """Hash that all cells share that are trained together; None for one trained alone."""
        if MEMBERS not in self.configuration:
            return None
        return fingerprint({**self.configuration, "seed": None, "model_seed": None})

    @property
    def label(self) -> str:
        """A short name for messages."""
        model, guide = (self.configuration[k]["name"] for k in ("model", "guide"))
        return f"{self.key} ({model}, {guide}, seed {self.configuration['seed']})"

    def text(self) -> str:
        """The configuration as a file holds it."""
        return as_text(self.configuration)


def as_text(value: Any) -> str:
    """JSON with sorted keys, equal for equal values, byte for byte.

    Raises:
        ValueError: If a number is not finite, which JSON cannot hold.
    """
    return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
