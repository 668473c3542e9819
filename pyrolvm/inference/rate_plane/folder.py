"""The folder of a rate plane: a killed run goes on with the members that are not yet there.

.. code-block:: text

    plane.json                        data and settings that all members share
    members/<key>.safetensors         weights of a trained pair
    measured/<key>.json               what was measured of it
    facts.json                        what all members were measured with
    frame.csv                         the table

Each file is written whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyrolvm.core.checkpoint import load_tensors, save_tensors, tensor_digest
from pyrolvm.core.errors import RunFolderError
from pyrolvm.core.files import write_text
from pyrolvm.core.program_state import load_program_state, program_state
from pyrolvm.datasets import Dataset
from pyrolvm.fit_ensemble import EnsembleMember
from pyrolvm.guides import Layerwise
from pyrolvm.inference.rate_plane.members import Member, PlaneSettings
from pyrolvm.models import HierarchicalVAE

RECORD, FACTS, FRAME = "plane.json", "facts.json", "frame.csv"
KIND = "rate-plane"


@dataclass(frozen=True)
class PlaneFolder:
    """Where a plane is kept.

    Args:
        path: The folder; made by :meth:`claim`.
    """

    path: Path

    def claim(self, dataset: Dataset, settings: PlaneSettings) -> None:
        """Make the folder, or take it up again; grids and seeds may differ, nothing else.

        Raises:
            RunFolderError: If it holds something else, or cannot be written.
        """
        record = {"kind": KIND, "data": dataset.name, "digest": _digest(dataset)}
        record |= {"settings": json.loads(json.dumps(asdict(settings)))}
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"{self.path} is a file, not a folder. Choose another.")
        if any(self.path.glob("[!.]*")):
            stored = self.read(RECORD)
            other = [name for name, value in record.items() if stored.get(name) != value]
            if other:
                raise RunFolderError(
                    f"{self.path} holds something other than this rate plane: its "
                    f"{' and '.join(other)} differ. Choose another folder; nothing was changed."
                )
            return
        self.write(RECORD, record)

    def has_weights(self, member: Member) -> bool:
        """Whether a member is trained."""
        return self._weights(member).is_file()

    def has_row(self, member: Member) -> bool:
        """Whether a member is measured."""
        return self._row(member).is_file()

    def save_pair(self, member: Member, pair: EnsembleMember) -> None:
        """Write the weights of a trained pair."""
        facts = asdict(member) | {"diverged": pair.diverged}
        save_tensors(self._weights(member), program_state(pair.model, pair.guide), facts)

    def load_pair(self, member: Member, model: HierarchicalVAE, guide: Layerwise) -> bool:
        """Give a new pair the weights of a trained one, and say whether that one diverged."""
        path = self._weights(member)
        tensors, facts = load_tensors(path)
        load_program_state(model, guide, tensors, path)
        return bool(facts["diverged"])

    def save_row(self, member: Member, row: Mapping[str, float]) -> None:
        """Write what was measured of a member."""
        write_text(self._row(member), json.dumps(dict(row), indent=1))

    def load_row(self, member: Member) -> dict[str, float]:
        """Read what was measured of a member."""
        return self.read(f"measured/{member.key}.json")

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        write_text(self.path / name, json.dumps(dict(value), indent=1))

    def read(self, name: str) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            RunFolderError: If it is missing or damaged.
        """
        path = self.path / name
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}): the folder holds no rate plane, or a damaged "
                "one. Choose another folder, or delete the file; nothing was changed."
            ) from error
        return dict(found)

    def _weights(self, member: Member) -> Path:
        return self.path / "members" / f"{member.key}.safetensors"

    def _row(self, member: Member) -> Path:
        return self.path / "measured" / f"{member.key}.json"


def _digest(dataset: Dataset) -> str:
    parts = {
        "train": dataset.train,
        "test": dataset.test,
        "train_labels": dataset.train_labels,
        "test_labels": dataset.test_labels,
    }
    return tensor_digest((name, part) for name, part in parts.items() if part is not None)
