r"""Triangular monotone flow with a fixed prior: every observation has one latent code.

.. math:: z \sim p_z \text{ (fixed)}, \qquad x_i = f_i(z_1, \ldots, z_i), \qquad
          s_i \, \partial f_i / \partial z_i > 0

If two such maps f and g give x the same law, then :math:`A = g^{-1} \circ f` keeps p_z. The signs
s cancel in A: it is triangular and increasing, and the only such map that keeps a positive density
is the identity. So f = g: codes of several runs are equal without any alignment. They are relative
to the order of the coordinates and to the signs, which are chosen, not discovered.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
    Jaini, Selby & Yu (2019), Sum-of-Squares Polynomial Flow.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyrolvm.nn.factorised_prior import FactorisedPrior
from pyrolvm.nn.noiseless import NoiselessModel
from pyrolvm.nn.triangular import Signs, triangular_layers


class TriangularMap(NoiselessModel):
    """A flow whose layers are all triangular, in the order 1, ..., d, with a fixed prior.

    The layers map x to z, so that codes and densities take one pass, and draws one for each
    coordinate and layer; the inverse of a triangular monotone map is one.

    Args:
        dim: Dimension of z and x.
        layers: Number of spline or integral layers; each follows an affine one.
        kind: ``"spline"``, ``"integral"`` or ``"affine"``.
        signature: For each coordinate +1 if x_i increases in z_i, −1 if it decreases; all +1
            where it is None.
        prior: The fixed law of z: ``"normal"``, ``"laplace"``, ``"logistic"``, or a
            :class:`pyrolvm.nn.factorised_prior.FactorisedPrior`.
        hidden: Widths of the hidden layers of each conditioner.

    Raises:
        SettingError: If a size is below 1, the signature or the prior does not fit, or a scale of
            the prior is not positive.
        UnknownNameError: If there is no such kind of layer or shape of prior.

    >>> model = TriangularMap(dim=2)
    >>> model.encode(model(size=4)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        dim: int,
        layers: int = 2,
        kind: str = "spline",
        signature: Sequence[int] | None = None,
        prior: FactorisedPrior | str = "normal",
        hidden: Sequence[int] = (32, 32),
    ) -> None:
        signs = Signs(dim, signature)
        super().__init__([signs, *triangular_layers(dim, layers, kind, hidden)], prior)
        self.signature = tuple(int(sign) for sign in signs.signature)
