"""Names for the axes of draws and data: chain, draw, datum, and one dimension for each event axis.

A site ``z`` with draws of shape ``(K, N, D)`` becomes ``z (chain, draw, datum, z_dim)``; with two
event axes these are ``z_dim_0`` and ``z_dim_1``. Slashes in names become dots, as a slash
separates groups of a data tree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.core.errors import DataError
from pyrolvm.core.sites import DATA_PLATE

ArrayLike: TypeAlias = Tensor | NDArray[Any] | float
Arrays: TypeAlias = Mapping[str, ArrayLike]
Labelled: TypeAlias = tuple[tuple[str, ...], NDArray[Any]]

RESERVED = ("chain", "draw", "datum")


def as_array(values: ArrayLike) -> NDArray[Any]:
    """A tensor, array or number as a NumPy array, detached and on the CPU.

    Args:
        values: What to convert.

    Returns:
        The array, of the same shape and type.
    """
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


@dataclass(frozen=True)
class Labelling:
    """How draws and data of one guide are laid out.

    Args:
        num_chains: Chains that independent draws are split into.
        size: Number of data N; None if the whole data set is one datum, so that no array has an
            axis for it.
    """

    num_chains: int
    size: int | None

    def draws(self, arrays: Arrays, num_draws: int | None = None) -> dict[str, Labelled]:
        """Draws of the guide, split into chains.

        Args:
            arrays: By name, shape ``(K, N, ...)``, or ``(K, ...)`` if there is one datum.
            num_draws: The K that is wanted; None takes that of the first array.

        Returns:
            Dimensions and values by name, shape ``(chain, draw, datum, ...)``.

        Raises:
            DataError: If a shape does not fit, or K is no multiple of the number of chains.
        """
        labelled = {}
        for name, array in _named(arrays).items():
            num_draws = num_draws or len(np.atleast_1d(array))
            self._check(name, array, (num_draws, *self._data_shape))
            if num_draws % self.num_chains:
                raise DataError(
                    f"{num_draws} draws of {name!r} do not split into {self.num_chains} chains of "
                    "equal length. Draw a multiple, or pass another num_chains."
                )
            split = array.reshape(self.num_chains, -1, *array.shape[1:])
            labelled[name] = self._label(name, split, ("chain", "draw", *self._data_dims))
        return labelled

    def prior_draws(self, arrays: Arrays) -> dict[str, Labelled]:
        """Draws of the model, which belong to no datum, as one chain.

        Args:
            arrays: By name, shape ``(M, ...)``.

        Returns:
            Dimensions and values by name, shape ``(1, M, ...)``.

        Raises:
            DataError: If the arrays have different M.
        """
        labelled, num_draws = {}, None
        for name, array in _named(arrays).items():
            num_draws = num_draws or len(np.atleast_1d(array))
            self._check(name, array, (num_draws,))
            labelled[name] = self._label(name, array[None], ("chain", "draw"))
        return labelled

    def data(self, arrays: Arrays) -> dict[str, Labelled]:
        """Figures or observations that have no draws.

        Args:
            arrays: By name, shape ``(N, ...)``; any shape if there is one datum.

        Returns:
            Dimensions and values by name, shape ``(datum, ...)``.

        Raises:
            DataError: If an array does not have N rows.
        """
        labelled = {}
        for name, array in _named(arrays).items():
            self._check(name, array, self._data_shape)
            labelled[name] = self._label(name, array, self._data_dims)
        return labelled

    @property
    def _data_shape(self) -> tuple[int, ...]:
        return () if self.size is None else (self.size,)

    @property
    def _data_dims(self) -> tuple[str, ...]:
        return () if self.size is None else ("datum",)

    @staticmethod
    def _check(name: str, array: NDArray[Any], leading: tuple[int, ...]) -> None:
        if array.shape[: len(leading)] != leading:
            wanted = ", ".join([*map(str, leading), "..."])
            raise DataError(
                f"{name!r} needs the shape ({wanted}), draws first and data next, but has "
                f"{array.shape}."
            )

    @staticmethod
    def _label(name: str, array: NDArray[Any], leading: tuple[str, ...]) -> Labelled:
        count = array.ndim - len(leading)
        event = [f"{name}_dim"] if count == 1 else [f"{name}_dim_{axis}" for axis in range(count)]
        return (*leading, *event), array


def _named(arrays: Arrays) -> dict[str, NDArray[Any]]:
    named = {name.replace("/", "."): as_array(values) for name, values in arrays.items()}
    taken = sorted(set(RESERVED) & set(named))
    if taken or len(named) < len(arrays):
        raise DataError(
            f"Arrays are called {sorted(arrays)}, but the names {', '.join(RESERVED)} are those "
            "of dimensions, and '/' and '.' count as one. Rename the site."
        )
    return named


def plate_axes(
    arrays: Arrays, plates: Mapping[str, Sequence[str]], leading: tuple[str, ...]
) -> dict[str, Labelled]:
    """Name the axes of arrays after the plates of a program.

    Args:
        arrays: By site, axes as in ``leading``, then one for each plate, then those of the event.
        plates: Names of the plates of each site; empty for an axis without a name. The plate
            ``"data"`` gives the dimension ``datum``.
        leading: Names of the first axes.

    Returns:
        Dimensions and values by name. A plate whose name is that of a variable or of another
        dimension, or that comes in two sizes, is not named: its axes count as those of the event.
    """
    named = _named(arrays)
    sizes: dict[str, int] = {}
    labelled = {}
    for site, (name, array) in zip(arrays, named.items(), strict=True):
        shape = array.shape[len(leading) :]
        dims: list[str] = []
        names = [*plates[site], *[""] * len(shape)]
        for size, plate in zip(shape, names, strict=False):
            dim = "datum" if plate == DATA_PLATE else plate.replace("/", ".")
            taken = {*named, *dims, "chain", "draw"}
            dims.append("" if dim in taken or sizes.setdefault(dim, size) != size else dim)
        count = iter(range(len(dims)))
        several = dims.count("") > 1
        event = (f"{name}_dim_{next(count)}" if several else f"{name}_dim" for _ in dims)
        labelled[name] = ((*leading, *(dim or next(event) for dim in dims)), array)
    return labelled
