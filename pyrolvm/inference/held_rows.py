"""The chosen rows of a latent space, read off where the program only runs on all rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.latent_site import LatentSite
from pyrolvm.core.latent_space import LatentSpace, Points


class Space(Protocol):
    """What of a latent space is used for chosen rows."""

    @property
    def num_data(self) -> int: ...  # noqa: D102 - as in LatentSpace, all of them
    @property
    def dim(self) -> int: ...  # noqa: D102
    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def sites(self) -> tuple[LatentSite, ...]: ...  # noqa: D102
    @property
    def factorises(self) -> bool: ...  # noqa: D102
    @property
    def vectorised(self) -> bool: ...  # noqa: D102
    def log_joint(self, points: Points) -> Float[Tensor, "particle data"]: ...  # noqa: D102
    def log_terms(self, points: Points) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def to_points(self, values: Mapping[str, Tensor]) -> Points: ...  # noqa: D102
    def to_values(self, points: Points, names: Iterable[str] = ()) -> dict[str, Tensor]: ...  # noqa: D102
    def prior_points(self, num_particles: int) -> Points: ...  # noqa: D102


class HeldRows:
    """The chosen rows of a space whose program only runs on all of them; the others stay put.

    Args:
        whole: The space of all rows.
        rows: The chosen ones.
    """

    def __init__(self, whole: LatentSpace, rows: Tensor) -> None:
        self.whole, self.rows = whole, rows
        self._others = whole.prior_points(1)

    @property
    def num_data(self) -> int:
        """Number of chosen rows."""
        return len(self.rows)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return self.whole.dim

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.whole.names

    @property
    def sites(self) -> tuple[LatentSite, ...]:
        """The latent sites."""
        return self.whole.sites

    @property
    def factorises(self) -> bool:
        """True: what does not factorise has no rows to choose."""
        return True

    @property
    def vectorised(self) -> bool:
        """As of the whole."""
        return self.whole.vectorised

    def log_joint(self, points: Points) -> Float[Tensor, "particle data"]:
        """Log joint density of the chosen rows, shape ``(K, N)``."""
        return self.whole.log_joint(self._among(points))[:, self.rows]

    def log_terms(self, points: Points) -> tuple[Tensor, Tensor]:
        """Log prior and log likelihood of the chosen rows, shape ``(K, N)`` each."""
        prior, likelihood = self.whole.log_terms(self._among(points))
        return prior[:, self.rows], likelihood[:, self.rows]

    def to_points(self, values: Mapping[str, Tensor]) -> Points:
        """Points of draws at the chosen rows."""
        full = self.whole.to_values(self._others.expand(len(_any(values)), -1, -1))
        for name, value in values.items():
            full[name][:, self.rows] = value
        return self.whole.to_points(full)[:, self.rows]

    def to_values(self, points: Points, names: Iterable[str] = ()) -> dict[str, Tensor]:
        """Values of sites at the chosen rows."""
        found = self.whole.to_values(self._among(points), names)
        return {name: value[:, self.rows] for name, value in found.items()}

    def prior_points(self, num_particles: int) -> Points:
        """Draws of the prior at the chosen rows."""
        return self.whole.prior_points(num_particles)[:, self.rows]

    def _among(self, points: Points) -> Points:
        others = self._others.expand(len(points), -1, -1)
        return others.index_copy(1, self.rows, points)


def _any(values: Mapping[str, Tensor]) -> Tensor:
    return next(iter(values.values()))
