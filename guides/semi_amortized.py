r"""Semi-amortized guide: an encoder starts each datum, a few gradient steps on its ELBO refine it.

.. math:: \lambda_0 = \mathrm{encoder}(x), \qquad
          \lambda_{k+1} = \lambda_k + e^{r} \odot \nabla_\lambda \mathrm{ELBO}(x; \lambda_k)

What an encoder of limited size leaves open (the amortization gap), the generator's own gradient
closes. The encoder is trained through the refinement.

References:
    Kim, Wiseman, Miller, Sontag & Rush (2018), Semi-Amortized Variational Autoencoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pyrolvm.amortization import (
    ElboAscent,
    LocalElbo,
    LogJoint,
    balanced_noise,
    typical_curvature,
)
from pyrolvm.amortization.family_guide import FamilyGuide, encoder_into
from pyrolvm.core import ExplicitJoint
from pyrolvm.core.errors import require_at_least
from pyrolvm.families import Family

RATE_FRACTION = 0.5
"""Rate before training, in units of the inverse of the largest curvature."""


class SemiAmortized(FamilyGuide):
    """An encoder into a family, refined for each datum by gradient ascent with learned rates.

    The refinement is deterministic given x: its bound is estimated with fixed noise.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, or a family.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        num_refinements: Number of steps.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        num_draws: Noise points that estimate the bound; at least 16 and 4 D where it is None.
        first_order: Whether training does without second derivatives.
        **family_options: What the family takes besides, for example ``num_components=8``.

    Raises:
        IncompatiblePairError: If the model has no explicit prior and likelihood.
        UnknownNameError: If there is no such family, option or activation.
        SettingError: If the family's draws do not follow their parameters (``"sign"``).
    """

    requires = (ExplicitJoint,)
    noise: Tensor

    def __init__(
        self,
        model: Any,
        family: str | Family = "diagonal",
        hidden: Sequence[int] = (64,),
        num_refinements: int = 4,
        activation: str = "relu",
        *,
        num_draws: int | None = None,
        first_order: bool = False,
        **family_options: int,
    ) -> None:
        super().__init__(model, family, **family_options)
        require_at_least(0, num_refinements=num_refinements)
        self.register_buffer("noise", balanced_noise(model.latent_dim, num_draws))
        self.family.transport(self.family.initial, self.noise)
        found = typical_curvature(model)
        self.encoder = encoder_into(self.family, self.obs_dim, hidden, activation)
        self.ascent = ElboAscent(
            num_refinements, self.family.num_parameters, RATE_FRACTION / found.largest,
            first_order=first_order,
        )  # fmt: skip
        self.to(found.x.device, found.scale_tril.dtype)

    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return the refined λ of each datum, shape ``(N, P)``."""
        start = self.encoder(self.standardised(x))
        return self.ascent(LocalElbo(self.family, self.noise, LogJoint(self.model, x)), start)
