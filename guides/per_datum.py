r"""Per-datum guide: the best member of a family for each datum alone, without an encoder.

.. math:: q(z \mid x_n) = q(z; \lambda_n), \qquad
          \lambda_n = \arg\max_\lambda \; E_{q(z; \lambda)}[\log p(x_n, z) - \log q(z; \lambda)]

It is the oracle of the approximation gap: what remains between its ELBO and log p(x) is the
family's doing, what an encoder into the same family loses besides is the amortization gap.

References:
    Hoffman, Blei, Wang & Paisley (2013), Stochastic Variational Inference.
    Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from pyrolvm.amortization.latent_family import LatentFamily, Latents, layers_obstacle
from pyrolvm.core import DataError, Guide, Layered, VectorLatent
from pyrolvm.families import Family
from pyrolvm.nn.row_table import RowTable


@runtime_checkable
class Encoder(Protocol):
    """What an oracle can start from: an amortized guide."""

    family: Family

    @property
    def model(self) -> Any:
        """The model that the encoder was made for."""
        ...

    def parameters_for(self, x: Tensor) -> Tensor:
        """Return one parameter vector of the family for each datum, shape ``(N, P)``."""
        ...


class PerDatum(Guide):
    """A family with parameters of its own for each datum.

    They are allocated by :meth:`initialise`, or at the first call with data. Afterwards the guide
    serves these rows, in any order and in minibatches; it knows a row by its content (in single
    precision), and equal rows share their parameters. ``load_state_dict`` brings rows and
    parameters along.

    Args:
        model: Any object with one latent site (``latent_sites``), ``latent_dim`` and ``obs_dim``,
            or with layers of zeros and ones.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, or a family;
            ``"bernoulli"`` for layers of zeros and ones.
        **family_options: What the family takes besides, for example ``num_components=8``.

    Raises:
        IncompatiblePairError: If the model has neither a single latent vector nor layers of zeros
            and ones, or the family is over other values than the model's latents.
        UnknownNameError: If there is no such family or option.

    >>> from types import SimpleNamespace
    >>> facts = SimpleNamespace(latent_sites=("z",), latent_dim=2, obs_dim=4)
    >>> PerDatum(facts, family="full").initialise(torch.randn(7, 4)).variational_parameters.shape
    torch.Size([7, 5])
    """

    requires = (VectorLatent | Layered,)
    per_datum = True

    def __init__(self, model: Any, family: str | Family = "full", **family_options: int) -> None:
        super().__init__(model)
        self.obs_dim = model.obs_dim
        self.latents = LatentFamily(self, family, **family_options)
        self.family = self.latents.family
        self.table = RowTable()

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Refuse several layers, unless all are of zeros and ones."""
        return layers_obstacle(cls, model)

    @classmethod
    def from_amortized(cls, amortized: Encoder, x: Float[Tensor, "data obs_dim"]) -> PerDatum:
        """Make an oracle in the family of an amortized guide, started from its parameters.

        Args:
            amortized: The guide, for example :class:`Amortized`.
            x: The data to fit, shape ``(N, obs_dim)``.
        """
        with torch.no_grad():
            parameters = amortized.parameters_for(x)
        return cls(amortized.model, amortized.family).initialise(x, parameters)

    def initialise(
        self,
        x: Float[Tensor, "data obs_dim"],
        parameters: Float[Tensor, "data P"] | None = None,
    ) -> PerDatum:
        """Take these rows, and start their parameters anew.

        Args:
            x: Data, shape ``(N, obs_dim)``.
            parameters: One vector a row, shape ``(N, P)``; the family's initial one where it is
                None.

        Raises:
            DataError: If the shapes do not fit.
        """
        rows = self.observations(x, self.obs_dim).detach()
        count = self.family.num_parameters
        if parameters is None:
            dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
            parameters = self.family.initial.to(x.device, dtype).expand(len(rows), count)
        if parameters.shape != (len(rows), count):
            raise DataError(
                f"{len(rows)} rows of {self.family} need parameters of shape "
                f"{(len(rows), count)}, but got {tuple(parameters.shape)}."
            )
        self.table.fill(rows, parameters)
        self._forget_stored()
        return self

    def start_from(self, x: Float[Tensor, "data obs_dim"], start: TorchDistribution) -> PerDatum:
        """Take these rows, and start from the Gaussian with the moments of another distribution.

        The solution of a simpler family is a start that can only improve.

        Args:
            x: Data, shape ``(N, obs_dim)``.
            start: Batch shape ``(N,)``, event shape ``(latent_dim,)``, with a mean and a
                covariance.
        """
        return self.initialise(x, self.parameters_near(start))

    def parameters_near(self, start: TorchDistribution) -> Float[Tensor, "data P"]:
        """Return the family's parameters for the Gaussian with the moments of a distribution.

        Args:
            start: Batch shape ``(N,)``, event shape ``(latent_dim,)``, with a mean and a
                covariance.
        """
        with torch.no_grad():
            covariance = getattr(start, "covariance_matrix", None)
            if covariance is None:
                covariance = torch.diag_embed(start.variance)
            return self.family.from_gaussian(start.mean, torch.linalg.cholesky(covariance))

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Latents:
        """Sample every latent site given rows that the guide has parameters for."""
        parameters = self.parameters_for(self.observations(x, self.obs_dim))
        with pyro.plate("data", parameters.shape[-2], dim=-1):
            return self.latents.sample(parameters)

    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return the λ of these rows, shape ``(N, P)``.

        Raises:
            DataError: If a row is not among those that the guide was initialised with.
        """
        x = self.observations(x, self.obs_dim)
        if self.table.rows is None:
            self.initialise(x)
        parameters = self.table.look_up(x)
        return parameters.to(x.dtype) if x.is_floating_point() else parameters

    def distribution(self, x: Float[Tensor, "data obs_dim"]) -> TorchDistribution:
        """Return q(z | x): batch shape ``(N,)``, event shape ``(latent_dim,)``.

        Layers stand side by side, the top first: the event is as wide as all of them.
        """
        return self.family.distribution(self.parameters_for(x))

    @property
    def variational_parameters(self) -> nn.Parameter | None:
        """All parameters, shape ``(N, P)``; None before the first data."""
        return self.table.variational_parameters

    @property
    def num_parameters(self) -> int:
        """Number of parameters over all data; 0 before the first data."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _load_from_state_dict(self, *args: Any) -> None:
        self._forget_stored()
        super()._load_from_state_dict(*args)

    def _forget_stored(self) -> None:
        """Drop earlier parameters from Pyro's store: SVI would train them in place of these."""
        store = pyro.get_param_store()
        for name in [n for n in store if n.startswith(f"{self._pyro_name}.table$$$")]:
            del store[name]
