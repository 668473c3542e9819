"""The base of every generative model: an ordinary Pyro program with named latent sites."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar

import pyro
import torch
from pyro.infer.util import is_validation_enabled
from pyro.nn import PyroModule
from torch import Tensor

from pyrolvm.core.data import Data
from pyrolvm.core.errors import DataError

_instances: Counter[str] = Counter()


def unique_name(kind: type) -> str:
    """Name a Pyro module so that its parameters never share keys with another module's.

    Pyro's parameter store is keyed by name: two modules of equal names would silently train only
    one.
    """
    _instances[kind.__name__] += 1
    count = _instances[kind.__name__]
    return kind.__name__ if count == 1 else f"{kind.__name__}_{count}"


def holds_more_than_bits(x: Tensor) -> bool:
    """Whether data that should be zeros and ones hold other values.

    They are looked at only where Pyro's validation is on, as it is for a first run.
    """
    return is_validation_enabled() and bool(((x != 0) & (x != 1)).any())


class ProgramMeta(type(PyroModule), ABCMeta):  # type: ignore[misc]
    """Joins Pyro's metaclass with abstract methods, which Python does not do by itself."""


class Program(PyroModule, metaclass=ProgramMeta):  # type: ignore[metaclass]
    """The base of models and guides: a Pyro module whose parts are registered once a run.

    Pyro registers all parameters of a part at every access to it; of a stack of layers that is a
    third of the time of a small step.
    """

    def __getattr__(self, name: str) -> Any:
        part = self.__dict__.get("_modules", {}).get(name)
        context = self.__dict__.get("_pyro_context")
        if part is None or isinstance(part, PyroModule) or not (context and context.active):
            return super().__getattr__(name)
        key = f"part {self._pyro_get_fullname(name)}"
        if context.get(key) is not part:
            context.set(key, super().__getattr__(name))
        return part


class Model(Program):
    """A generative model p(x, z).

    A subclass writes ``forward(x=None, *, size=None)`` as a plain Pyro program: one plate
    ``"data"`` at dim −1 holds every latent site and the observed site ``"x"`` of shape ``(..., N,
    obs_dim)``; all networks act on the last axis, so that a ``"particles"`` plate at dim −2
    vectorises it.

    Attributes:
        latent_sites: Names of the latent sites in ancestral order, top first.
        latent_dim: Dimension of the latent vector.
        obs_dim: Dimension of an observation.
        covariates: Names of the arguments that the program takes beside x, without which it
            neither samples nor scores; data are then a mapping from names to tensors.
    """

    latent_sites: ClassVar[tuple[str, ...]] = ("z",)
    covariates: ClassVar[tuple[str, ...]] = ()
    latent_dim: int
    obs_dim: int

    def __init__(self) -> None:
        super().__init__(name=unique_name(type(self)))

    @abstractmethod
    def forward(self, x: Tensor | None = None, *, size: int | None = None) -> Any:
        """Sample (or score) a batch of observations."""

    def batch_size(self, x: Tensor | None, size: int | None) -> int:
        """Return the size of the data plate.

        Args:
            x: Observations, shape ``(N, obs_dim)``, or None to sample them.
            size: Number of observations to sample; 1 where neither is given.

        Raises:
            DataError: If x has another shape than ``(N, obs_dim)``.
        """
        if x is None:
            return 1 if size is None else size
        if x.dim() < 2 or x.shape[-1] != self.obs_dim:
            raise DataError(
                f"{type(self).__name__} needs observations of shape (N, {self.obs_dim}), "
                f"but got {tuple(x.shape)}. Put one observation in a row."
            )
        return x.shape[-2]

    def check_data(self, rows: Data) -> None:
        """Refuse data that this model cannot have made, before anything runs on it.

        Raises:
            DataError: If a value is not finite, or the observations have another shape or support.
        """
        rows.check_finite()
        with pyro.validation_enabled():
            self.batch_size(dict(rows.items()).get("x"), None)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the model's parameters; torch's default where it has none."""
        types = (tensor.dtype for tensor in self._tensors() if tensor.is_floating_point())
        return next(types, torch.get_default_dtype())

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.parameters()
        yield from self.buffers()
