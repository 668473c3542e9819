r"""Amortized guide for generators of sgn(z): an encoder puts out the log odds of each sign.

.. math:: q(z \mid x) = \prod_d \left[\pi_d(x) N^+(z_d) + (1 - \pi_d(x)) N^-(z_d)\right]

The posterior of such a generator is a member of this family once its noise is small, so whatever
gap remains is the encoder's: the size that it needs is that of a network which inverts the
generator. Train it with :func:`pyrolvm.objectives.forward_kl.forward_kl`; the ELBO has no pathwise
gradient in the signs, and the score function that SVI falls back to is noisy.

References:
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyrolvm.core import VectorLatent
from pyrolvm.guides.amortized import Amortized


class SignGuide(Amortized):
    """``Amortized(model, family="sign")`` by its own name: even signs, nearly, before training.

    Args:
        model: Any object with one latent site (``latent_sites``), ``latent_dim`` and ``obs_dim``.
        hidden: Widths of the encoder's hidden layers; none makes it affine.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        IncompatiblePairError: If the model has no single latent vector.
        UnknownNameError: If there is no such activation.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> facts = SimpleNamespace(latent_sites=("z",), latent_dim=2, obs_dim=5)
    >>> SignGuide(facts, hidden=(8,))(torch.zeros(7, 5)).shape
    torch.Size([7, 2])
    """

    requires = (VectorLatent,)

    def __init__(
        self, model: Any, hidden: Sequence[int] = (64,), activation: str = "relu"
    ) -> None:
        super().__init__(model, family="sign", hidden=hidden, activation=activation)
