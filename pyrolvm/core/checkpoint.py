"""Tensors with a few facts in one file, written whole or not at all, read without running code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyrolvm.core.errors import CheckpointError
from pyrolvm.core.files import atomic


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Save tensors (safetensors) with JSON facts in the header.

    Args:
        path: File to write.
        tensors: By name, any shapes and types.
        facts: Anything that JSON can hold.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        text = json.dumps(dict(facts), sort_keys=True)
        try:
            save_file(copies, temporary, metadata={"facts": text})
        except SafetensorError as error:  # a full disk, for example
            raise OSError(str(error)) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what :func:`save_tensors` wrote.

    Returns:
        Tensors by name, and the facts.

    Raises:
        CheckpointError: If the file is truncated, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint ({error}): it is truncated or another kind of "
            "file. Delete it to start from the beginning."
        ) from error


def tensor_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors, their shapes and types to 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def fingerprint(value: Any) -> str:
    """Hash a JSON-like value to 12 hexadecimal digits, the same on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
