r"""Brenier map: the gradient of a convex potential, identified by optimal transport.

.. math:: z \sim p_z \text{ (fixed)}, \qquad z = \nabla \phi(x), \quad x = \nabla \phi^*(z), \qquad
          \log p(x) = \log p_z(\nabla \phi(x)) + \log \det \nabla^2 \phi(x)

Among all maps that carry one law with a density to another, exactly one is the gradient of a
convex function (Brenier's theorem), and the inverse of a gradient map is the gradient map of the
conjugate φ*. So it makes no difference that the network is φ, which gives the density without
inversion, and not φ*: with a fixed prior there is one generator for each law of x, and an
observation has one latent code.

References:
    Brenier (1991), Polar Factorization and Monotone Rearrangement of Vector-Valued Functions.
    Huang, Chen, Tsirigotis & Courville (2021), Convex Potential Flows.
    Wang, Blei & Cunningham (2021), Posterior Collapse and Latent Variable Non-Identifiability.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from pyrolvm.nn.convex_potential import ConvexGradientMap, ConvexPotential
from pyrolvm.nn.factorised_prior import FactorisedPrior
from pyrolvm.nn.noiseless import NoiselessModel


class BrenierMap(NoiselessModel):
    """A noiseless model whose encoder is the gradient of a strongly convex network.

    Standardising takes one scale for all coordinates: with one each, the whole map would not be a
    gradient. The Hessian of each datum costs d² numbers a unit, so it is meant for small d.

    Args:
        dim: Dimension of z and x.
        hidden: Widths of the network's layers.
        convexity: Least curvature of the potential, below which no training goes.
        prior: The fixed law of z: ``"normal"``, ``"laplace"``, ``"logistic"``, or a
            :class:`pyrolvm.nn.factorised_prior.FactorisedPrior`.

    Raises:
        SettingError: If a size is below 1, the least curvature is not positive, or the prior does
            not fit.
        UnknownNameError: If there is no such shape of prior.

    >>> model = BrenierMap(dim=2)
    >>> model.decode(model.encode(model(size=4))).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        dim: int,
        hidden: Sequence[int] = (32, 32),
        convexity: float = 1e-2,
        prior: FactorisedPrior | str = "normal",
    ) -> None:
        potential = ConvexPotential(dim, tuple(hidden), convexity)
        super().__init__([ConvexGradientMap(potential)], prior, isotropic=True)

    def potential(self, z: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch"]:
        r"""Return the convex function whose gradient generates, :math:`x = \nabla \phi^*(z)`.

        It is the conjugate :math:`\phi^*(z) = z \cdot x - \phi(x)` at x = decode(z).
        """
        standardise = self._standardise
        inner = self.encoder.parts[1]
        assert isinstance(inner, ConvexGradientMap)
        z = z.to(self.dtype)
        y = inner.inverse(z)
        conjugate = (z * y).sum(-1) - inner.potential(y)[0]
        return z @ standardise.loc + conjugate * standardise.scale[0]
