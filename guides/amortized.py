r"""Amortized guide: an encoder network puts out the parameters of a family for each datum.

.. math:: q(z \mid x) = q(z; \lambda), \qquad \lambda = \mathrm{encoder}(x)

References:
    Kingma & Welling (2014), Auto-Encoding Variational Bayes.
    Rezende, Mohamed & Wierstra (2014), Stochastic Backpropagation and Approximate Inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from pyrolvm.amortization.family_guide import FamilyGuide, encoder_into
from pyrolvm.amortization.latent_family import layers_obstacle
from pyrolvm.core import Layered, VectorLatent
from pyrolvm.families import Family


class Amortized(FamilyGuide):
    """An encoder into a family of distributions that has no weights of its own.

    Before training every q(z | x) is close to a standard normal. Under layers of zeros and ones
    the Bernoulli family makes all units of all layers independent given x, with one encoder for
    them; they then start mostly off.

    Args:
        model: Any object with one latent site (``latent_sites``), ``latent_dim`` and ``obs_dim``,
            or with layers of zeros and ones.
        family: ``"diagonal"``, ``"full"``, ``"mixture"``, ``"flow"``, ``"sign"``, or a family;
            ``"bernoulli"`` for layers of zeros and ones.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        **family_options: What the family takes besides, for example ``num_components=8`` (mixture)
            or ``num_layers=16`` (flow).

    Raises:
        IncompatiblePairError: If the model has neither a single latent vector nor layers of zeros
            and ones, or the family is over other values than the model's latents.
        UnknownNameError: If there is no such family, option or activation.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> facts = SimpleNamespace(latent_sites=("z",), latent_dim=2, obs_dim=5)
    >>> Amortized(facts, family="full")(torch.zeros(7, 5)).shape
    torch.Size([7, 2])
    """

    requires = (VectorLatent | Layered,)

    def __init__(
        self,
        model: Any,
        family: str | Family = "diagonal",
        hidden: Sequence[int] = (64,),
        activation: str = "relu",
        **family_options: int,
    ) -> None:
        super().__init__(model, family, **family_options)
        self.encoder = encoder_into(self.family, self.obs_dim, hidden, activation)

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Refuse several layers, unless all are of zeros and ones."""
        return layers_obstacle(cls, model)

    def parameters_for(self, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, "data P"]:
        """Return the encoder's λ for each datum, shape ``(N, P)``."""
        return self.encoder(self.standardised(x))
