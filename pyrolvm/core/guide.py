"""The base of every guide, and the record of which guides exist."""

from __future__ import annotations

from abc import abstractmethod
from types import UnionType
from typing import Any, ClassVar

from torch import Tensor

from pyrolvm.core.errors import DataError, IncompatiblePairError
from pyrolvm.core.model import Model, Program, unique_name
from pyrolvm.core.pairing import record_guide, require_capabilities


class Guide(Program):
    """An approximate (or exact) posterior q(z | x) for a model.

    A subclass states the capabilities that it ``requires`` of a model and writes ``forward`` with
    the model's signature; it samples every latent site inside the plate ``"data"``. The model is
    held behind a tuple: its parameters stay the model's and are neither registered nor trained a
    second time.

    Args:
        model: The model whose posterior is approximated.

    Raises:
        IncompatiblePairError: If the model lacks a capability that this guide requires, or has
            more latent dimensions than it takes.

    Attributes:
        requires: Capabilities (protocols of :mod:`pyrolvm.core`) that a model must offer;
            ``A | B`` asks for one of the two.
        max_latent_dim: Most latent dimensions that a model may have, for guides that require a
            capability with ``latent_dim``; None for any number.
        per_datum: Whether the parameters belong to single data, so that the guide is fitted to the
            data that it is scored on, all rows at once.
        is_exact: Whether the guide is the posterior itself.
        extended_space: Whether the guide's density is over a chain that ends at z: its bound
            holds, but weights and k-hat speak of the extended space, and there is no log q at a
            given z.
        top_down: Of a guide for several latent layers, whether it draws them in the order of the
            model's prior, from the top down, so that its rate is a sum of one rate for each layer;
            None where the question does not arise.
        has_density: Whether draws come with log q(z | x); training and comparing need it.
        covariates: Names of the arguments that the guide takes beside x; it serves models with
            no others.
    """

    requires: ClassVar[tuple[type | UnionType, ...]] = ()
    max_latent_dim: ClassVar[int | None] = None
    per_datum: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False
    extended_space: ClassVar[bool] = False
    top_down: ClassVar[bool | None] = None
    has_density: ClassVar[bool] = True
    covariates: ClassVar[tuple[str, ...]] = ()

    def __init__(self, model: Any) -> None:
        super().__init__(name=unique_name(type(self)))
        require_capabilities(type(self), model)
        self._model = (model,)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        record_guide(cls)

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Say why a model cannot be served although it offers what the guide requires.

        Args:
            model: Offers all that the class ``requires``.

        Returns:
            A sentence without its full stop, to which the guides that would do are added; None
            where nothing stands in the way.
        """
        return None

    @property
    def model(self) -> Any:
        """The model that this guide was made for; its weights are read live."""
        return self._model[0]

    def only_site(self) -> str:
        """Return the name of the model's only latent site.

        Raises:
            IncompatiblePairError: If the model has several.
        """
        sites = tuple(self.model.latent_sites)
        if len(sites) != 1:
            raise IncompatiblePairError(
                f"{type(self).__name__} serves models with one latent site, but this model has "
                f"{len(sites)}: {', '.join(map(repr, sites))}. Use a guide for hierarchies."
            )
        return sites[0]

    def observations(self, x: Tensor | None, obs_dim: int | None = None) -> Tensor:
        """Return the observations that latents are inferred from, after checking their shape.

        Args:
            x: Observations, shape ``(N, obs_dim)``.
            obs_dim: Width that they must have, where the guide depends on it.

        Raises:
            DataError: If there are none, they are no tensor, or their shape is another one.
        """
        if x is None:
            raise DataError(
                f"{type(self).__name__} infers latents from observations, but it was called "
                "without. Pass x of shape (N, obs_dim); to sample from the prior, call the model."
            )
        if not isinstance(x, Tensor):
            raise DataError(
                f"{type(self).__name__} needs observations as a tensor, but got "
                f"{type(x).__name__}. Convert them with torch.as_tensor."
            )
        if x.dim() < 2 or (obs_dim is not None and x.shape[-1] != obs_dim):
            raise DataError(
                f"{type(self).__name__} needs observations of shape (N, {obs_dim or 'obs_dim'}), "
                f"but got {tuple(x.shape)}. Put one observation in a row."
            )
        return x

    @abstractmethod
    def forward(self, x: Any = None, *, size: int | None = None) -> Any:
        """Sample every latent site given the observations."""


def keep_the_contract(model: Any, guide: Any) -> bool:
    """Whether both programs are PyroLVM's, which vectorise and take any part of the rows."""
    return isinstance(model, Model) and isinstance(guide, Guide)
