"""Environments as labels: one whole number from 0 to E − 1 for each datum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyrolvm.core.errors import DataError, SettingError


def checked_labels(
    u: Any, num_environments: int, *, who: str, rows: int | None = None
) -> Int[Tensor, " data"]:
    """Return labels as ``torch.int64`` after checking them.

    Their values are looked at only where Pyro's validation is on, as it is for a first run.

    Args:
        u: Labels, shape ``(N,)``, of any type of whole numbers.
        num_environments: Number E of environments.
        who: Name of the program that needs them, for messages.
        rows: Number of labels that there must be; None for any.

    Raises:
        DataError: If there are none, they are no whole numbers, their number is another one, or
            one is not a label.

    >>> checked_labels(torch.tensor([0, 2]), 3, who="IVAE")
    tensor([0, 2])
    """
    if u is None:
        raise DataError(
            f"{who} needs the environment of each datum, but u was not given. Pass data as "
            '{"x": x, "u": u}; to sample, pass u alone: one draw for each label.'
        )
    if not isinstance(u, Tensor) or u.dtype == torch.bool or u.is_floating_point():
        came = f"a tensor of {u.dtype}" if isinstance(u, Tensor) else f"a {type(u).__name__}"
        raise DataError(
            f"{who} needs environments u as whole numbers 0 to {num_environments - 1} "
            f"(torch.int64), but got {came}. Convert them with torch.as_tensor(u).long()."
        )
    if u.dim() != 1 or rows not in (None, len(u)):
        wanted = "one label a datum" if rows is None else f"{rows} labels, one a datum"
        raise DataError(f"{who} needs {wanted}, but u has the shape {tuple(u.shape)}.")
    if is_validation_enabled():
        _refuse_unknown(u, num_environments, who)
    return u.long()


def _refuse_unknown(u: Tensor, num_environments: int, who: str) -> None:
    unknown = (u < 0) | (u >= num_environments)
    if bool(unknown.any()):
        row = int(unknown.nonzero()[0, 0])
        raise DataError(
            f"{who} knows the environments 0 to {num_environments - 1}, but u holds the label "
            f"{int(u[row])} (first: row {row}). Number the labels from 0, or build the model with "
            "more environments."
        )


def chosen_environments(chosen: Iterable[int], num_environments: int) -> tuple[int, ...]:
    """Return a set of environments, sorted, after checking it.

    Raises:
        SettingError: If a number is no label, or comes twice.
    """
    labels = tuple(chosen)
    known = range(num_environments)
    if len(set(labels)) < len(labels) or any(label not in known for label in labels):
        raise SettingError(
            f"Chosen environments should be different labels from 0 to {num_environments - 1}, "
            f"but they are {list(labels)}."
        )
    return tuple(sorted(labels))


def label_table(
    num_environments: int, like: Float[Tensor, ...]
) -> Float[Tensor, "environment environment"]:
    """One-hot rows of all labels, shape ``(E, E)``, in the type and on the device of a tensor."""
    return torch.eye(num_environments, dtype=like.dtype, device=like.device)
