"""The base of models whose data come with the label of an environment."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from pyrolvm.core import Data, Model
from pyrolvm.nn.environment_labels import checked_labels


class EnvironmentModel(Model):
    """A model of x given u; a subclass writes ``forward(x=None, u=None, *, size=None)``.

    Attributes:
        covariates: Names of the arguments that a program takes beside x.
        num_environments: Number E of environments; labels are 0 to E − 1.
    """

    covariates: ClassVar[tuple[str, ...]] = ("u",)
    num_environments: int

    def environments(
        self, x: Tensor | None, u: Tensor | None, size: int | None = None
    ) -> Int[Tensor, " data"]:
        """Return the labels of all rows, shape ``(N,)``, after checking them.

        Args:
            x: Observations, shape ``(N, obs_dim)``, or None to sample them.
            u: Labels, shape ``(N,)``.
            size: Number of rows, where it is given: it says nothing that u does not.

        Raises:
            DataError: If there are no labels, or they do not fit x, ``size`` or the environments.
        """
        rows = None if x is None and size is None else self.batch_size(x, size)
        return checked_labels(u, self.num_environments, who=type(self).__name__, rows=rows)

    def check_data(self, rows: Data) -> None:
        """Refuse data that this model cannot have made: observations or labels.

        Raises:
            DataError: If a value is not finite, a shape another one, or a label unknown.
        """
        super().check_data(rows)
        given = dict(rows.items())
        self.environments(given.get("x"), given.get("u"))
