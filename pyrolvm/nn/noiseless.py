r"""The base of models without noise: an invertible map of a latent vector of fixed law.

.. math:: z \sim p_z, \quad x = f(z), \qquad
          \log p(x) = \log p_z(f^{-1}(x)) + \log |\det \partial f^{-1} / \partial x|

The latent vector of an observation is not uncertain: its code is :math:`z = f^{-1}(x)`. So the
program has no latent site; x is drawn from, and scored under, the law of f(z). Maximum likelihood
needs no guide (``lvm.fit_exact``).
"""

from __future__ import annotations

from typing import ClassVar, Self

import pyro
from jaxtyping import Float
from pyro.distributions import TorchDistribution, TransformedDistribution, constraints
from torch import Tensor
from torch.distributions import Transform

from pyrolvm.core import Model
from pyrolvm.nn.factorised_prior import FactorisedPrior, fixed_prior
from pyrolvm.nn.triangular.bijection import Bijection, Composition, check_finite
from pyrolvm.nn.triangular.elementwise import Standardise


class NoiselessModel(Model):
    """A model x = f(z) that is given by its encoder, a bijection from x to z.

    A subclass names the parts of the encoder; they follow the standardising of x, which is the
    identity until :meth:`standardise_by` is called.

    Args:
        encoder: Parts of the map from standardised x to z, first to last.
        prior: The fixed law of z, or the name of its shape.
        isotropic: Whether standardising takes one scale for all coordinates, or one each.

    Attributes:
        latent_sites: Empty: no latent is sampled.
        latent_dim: Dimension of z and of x.
        prior_is_fixed: True: the law of z never learns.
    """

    latent_sites: ClassVar[tuple[str, ...]] = ()
    prior_is_fixed: ClassVar[bool] = True

    def __init__(
        self, encoder: list[Bijection], prior: FactorisedPrior | str, *, isotropic: bool = False
    ) -> None:
        super().__init__()
        self.latent_dim = self.obs_dim = encoder[0].dim
        self.fixed_prior = fixed_prior(self.latent_dim, prior)
        self.encoder = Composition([Standardise(self.latent_dim, isotropic), *encoder])

    def forward(
        self, x: Float[Tensor, "data obs_dim"] | None = None, *, size: int | None = None
    ) -> Tensor:
        """Sample or score observations of shape ``(N, obs_dim)``."""
        with pyro.plate("data", self.batch_size(x, size), dim=-1):
            return pyro.sample("x", self.law(), obs=None if x is None else x.to(self.dtype))

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        return self.fixed_prior()

    def law(self) -> TorchDistribution:
        """Return p(x): the prior carried through the decoder, event shape ``(obs_dim,)``."""
        return TransformedDistribution(self.prior(), [Decoding(self.encoder)])

    def encode(self, x: Float[Tensor, "*batch obs_dim"]) -> Float[Tensor, "*batch latent_dim"]:
        """Return the code of each observation.

        Raises:
            DataError: If the width is another one, or a value is not finite.
        """
        check_finite(x, type(self).__name__)
        return self.encoder(x.to(self.dtype))[0]

    def decode(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch obs_dim"]:
        """Return the observation of each code.

        Raises:
            DataError: If the width is another one, or a value is not finite.
        """
        check_finite(z, type(self).__name__)
        return self.encoder.inverse(z.to(self.dtype))

    def log_evidence(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
        """Return log p(x) in nats, shape ``(N,)``, differentiable in the parameters.

        Raises:
            DataError: If the shape is another one, or a value is not finite.
        """
        self.batch_size(x, None)
        check_finite(x, type(self).__name__)
        z, log_det = self.encoder(x.to(self.dtype))
        return self.prior().log_prob(z) + log_det

    def standardise_by(self, x: Float[Tensor, "data obs_dim"]) -> Self:
        """Let the encoder begin with centring and scaling coordinates as in these data.

        Args:
            x: Training data, shape ``(N, obs_dim)``. ``lvm.fit_exact`` and ``lvm.fit`` do this by
                themselves, where it was not done before.

        Raises:
            DataError: If the width is another one, a value is not finite, there are fewer than
                two rows, or a coordinate does not vary.
        """
        self._standardise.set_from(x)
        return self

    @property
    def is_standardised(self) -> bool:
        """Whether :meth:`standardise_by` was called."""
        return bool(self._standardise.was_set)

    @property
    def _standardise(self) -> Standardise:
        first = self.encoder.parts[0]
        assert isinstance(first, Standardise)
        return first


class Decoding(Transform):
    """A bijection from x to z, read from z to x, as a transform of distributions.

    Args:
        encoder: The bijection.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, encoder: Bijection) -> None:
        super().__init__()
        self.encoder = encoder
        self._latest: tuple[Tensor, Tensor] | None = None

    def _call(self, x: Tensor) -> Tensor:
        return self.encoder.inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        z, log_det = self.encoder(y)
        self._latest = (y, log_det)
        return z

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log |det dx/dz|, in nats; the pass that has just inverted y has found it."""
        if self._latest is None or self._latest[0] is not y:
            self._inverse(y)
        assert self._latest is not None
        return -self._latest[1]
