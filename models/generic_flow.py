r"""Generic normalising flow: the likelihood of a triangular one, and codes that mean nothing.

.. math:: z \sim p_z \text{ (fixed)}, \qquad x = f(z), \qquad f \text{ any diffeomorphism}

Its layers stand in turn in the order 1, ..., d and d, ..., 1, with fixed random rotations between
them. With every f and every map A that keeps p_z (for a normal prior all rotations and much more)
it can represent f ∘ A too, which has the same likelihood. Where a run ends is an accident of its
start: the contrast to ``TriangularMap``.

References:
    Papamakarios, Nalisnick, Rezende, Mohamed & Lakshminarayanan (2021), Normalizing Flows for
    Probabilistic Modeling and Inference.
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyrolvm.core.errors import UnknownNameError, require_at_least
from pyrolvm.nn.factorised_prior import FactorisedPrior
from pyrolvm.nn.noiseless import NoiselessModel
from pyrolvm.nn.rotations import Reversed, Rotation
from pyrolvm.nn.triangular import KINDS, AffineLayer, Bijection


class GenericFlow(NoiselessModel):
    """A flow of the same layers as ``TriangularMap``, with rotations and both orders.

    Args:
        dim: Dimension of z and x.
        layers: Number of spline or integral layers.
        kind: ``"spline"``, ``"integral"`` or ``"affine"``.
        prior: The fixed law of z: ``"normal"``, ``"laplace"``, ``"logistic"``, or a
            :class:`pyrolvm.nn.factorised_prior.FactorisedPrior`.
        hidden: Widths of the hidden layers of each conditioner.

    Raises:
        SettingError: If a size is below 1, the prior does not fit, or a scale of it is not
            positive.
        UnknownNameError: If there is no such kind of layer or shape of prior.

    >>> model = GenericFlow(dim=2)
    >>> model.log_evidence(model(size=4)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        dim: int,
        layers: int = 2,
        kind: str = "spline",
        prior: FactorisedPrior | str = "normal",
        hidden: Sequence[int] = (32, 32),
    ) -> None:
        require_at_least(1, dim=dim, layers=layers)
        if kind not in KINDS:
            raise UnknownNameError("kind of triangular layer", kind, KINDS)
        parts: list[Bijection] = [AffineLayer(dim, hidden)]
        for index in range(layers):
            layer = KINDS[kind](dim, hidden)
            parts += [layer if index % 2 == 0 else Reversed(layer), Rotation(dim)]
        parts += [AffineLayer(dim, hidden)]
        super().__init__(parts, prior)
