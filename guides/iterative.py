r"""Iterative guide: a network that is shown the ELBO's gradient updates λ, a few times over.

.. math:: \lambda_{k+1} = \lambda_k + \sigma(g_k) \odot u_k, \qquad
          (u_k, g_k) = f\big(\lambda_k, \nabla_\lambda \mathrm{ELBO}(x; \lambda_k), x\big)

The same network serves every step: it learns to optimise, where an encoder learns the optimum by
heart.

References:
    Marino, Yue & Mandt (2018), Iterative Amortized Inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import layer_norm

from pyrolvm.amortization import LocalElbo, LogJoint, balanced_noise, value_and_slope
from pyrolvm.amortization.family_guide import INITIAL_SHRINKAGE, FamilyGuide
from pyrolvm.core import ExplicitJoint
from pyrolvm.core.errors import require_at_least
from pyrolvm.families import Family
from pyrolvm.nn import mlp


class Iterative(FamilyGuide):
    """A network that improves the parameters of a family step by step, from about N(0, I).

    It is deterministic given x: the bound's gradient is estimated with fixed noise.

    Args:
        model: A model with ``prior()`` and ``likelihood(z)``.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, or a family.
        hidden: Widths of the network's hidden layers.
        num_refinements: Number of steps.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        num_draws: Noise points that estimate the bound; at least 16 and 4 D where it is None.
        first_order: Whether training takes the gradients as plain inputs; else it differentiates
            them once more.
        **family_options: What the family takes besides, for example ``num_components=8``.

    Raises:
        IncompatiblePairError: If the model has no explicit prior and likelihood.
        UnknownNameError: If there is no such family, option or activation.
        SettingError: If the family's draws do not follow their parameters (``"sign"``).
    """

    requires = (ExplicitJoint,)
    noise: Tensor
    initial: Tensor

    def __init__(
        self,
        model: Any,
        family: str | Family = "diagonal",
        hidden: Sequence[int] = (64,),
        num_refinements: int = 4,
        activation: str = "relu",
        *,
        num_draws: int | None = None,
        first_order: bool = True,
        **family_options: int,
    ) -> None:
        super().__init__(model, family, **family_options)
        require_at_least(1, num_refinements=num_refinements)
        self.num_refinements, self.first_order = num_refinements, first_order
        self.register_buffer("noise", balanced_noise(model.latent_dim, num_draws))
        self.register_buffer("initial", self.family.initial)
        self.family.transport(self.initial, self.noise)
        size = self.family.num_parameters
        self.update = mlp(3 * size + self.obs_dim, tuple(hidden), 2 * size, activation)
        with torch.no_grad():
            last: Any = self.update[-1]
            last.weight.mul_(INITIAL_SHRINKAGE)
            last.bias.zero_()
        prior = model.prior().mean
        self.to(prior.device, prior.dtype)

    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return λ after the last update, shape ``(N, P)``."""
        inputs = self.standardised(x)
        elbo = LocalElbo(self.family, self.noise, LogJoint(self.model, x))
        parameters = self.initial.expand(len(x), -1)
        for _ in range(self.num_refinements):
            _, gradient = value_and_slope(elbo, parameters, create_graph=not self.first_order)
            seen = torch.cat([parameters, *_scaled(gradient), inputs], -1)
            change, gate = self.update(seen).chunk(2, -1)
            parameters = parameters + gate.sigmoid() * change
        return parameters


def _scaled(gradient: Float[Tensor, "data P"]) -> tuple[Tensor, Tensor]:
    """Size of a gradient on a log scale, and its direction, each of about unit size."""
    direction = layer_norm(gradient, gradient.shape[-1:])
    return gradient.sign() * gradient.abs().log1p(), direction
