r"""Ladder guide: what x says about each layer is merged with the model's own prior of that layer.

.. math:: d_1 = f_1(x), \quad d_l = f_l(d_{l-1}), \qquad
          q(z_l \mid z_{>l}, x) \propto N(z_l; \hat\mu_l(d_l), \hat v_l(d_l)) \,
          p(z_l \mid z_{>l})

The features d are deterministic and computed from the bottom up; the layers are drawn from the top
down. For a Gaussian prior of mean μ and variance v, precisions add up:

.. math:: v_q = \frac{\hat v v}{\hat v + v}, \qquad
          \mu_q = \frac{\hat\mu v + \mu \hat v}{\hat v + v}

so that q is never wider than the prior, and is the prior where x says nothing (a large
:math:`\hat v`).

References:
    Sønderby et al. (2016), Ladder Variational Autoencoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.amortization.layered_guide import CHANNELS
from pyrolvm.amortization.top_down_guide import RateWeights, TopDownGuide
from pyrolvm.core.layer_laws import first_layer_beyond
from pyrolvm.nn import ACTIVATIONS, mlp
from pyrolvm.nn.one_hot import OneHotHead, StraightThroughOneHot


class Ladder(TopDownGuide):
    """A guide that shares the prior's networks with the model, and reads them live.

    Gradients of the guide reach the prior's networks, which stay the model's. The prior of each
    layer has to be a diagonal Gaussian; that of the top may be one-hot.

    Args:
        model: Any object with several latent layers.
        rate_weights: Weight of each layer's rate by name, 0 or more; 1 where it is not given. Or a
            list of them, one for each layer, bottom first, or one number for all.
        hidden: Widths of the layers between d_{l-1} and d_l, the last of which is that of d_l;
            none makes every d_l what x passed first.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.
        network: What x passes first: ``"mlp"`` (nothing), or ``"conv"``, convolutions of images.
        image_shape: Channels, height and width (``conv``); the model's own where it is None.
        channels: Channels after each convolution (``conv``).

    Raises:
        IncompatiblePairError: If the model has no layers, or one of zeros and ones.
        UnknownNameError: If a weight is for a layer that the model does not have, or there is no
            such network or activation.
        SettingError: If a weight is negative, or the images do not fit.

    >>> import torch
    >>> from pyrolvm.models import HierarchicalVAE
    >>> guide = Ladder(HierarchicalVAE(latent_dims=(3, 2), obs_dim=5))
    >>> guide(torch.zeros(7, 5))["z_1"].shape
    torch.Size([7, 3])
    """

    def __init__(
        self,
        model: Any,
        rate_weights: RateWeights | None = None,
        hidden: Sequence[int] = (96,),
        activation: str = "silu",
        network: str = "mlp",
        image_shape: Sequence[int] | None = None,
        channels: Sequence[int] = CHANNELS,
    ) -> None:
        super().__init__(model, rate_weights)
        self.reader, width = self.make_reader(network, image_shape, channels, activation)
        self.rungs, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for site in reversed(self.sites):
            self.rungs[site] = _rung(width, hidden, activation)
            width = (width, *hidden)[-1]
            self.heads[site] = self.make_head(site, width, (), activation)

    @classmethod
    def obstacle(cls, model: Any) -> str | None:
        """Refuse layers of zeros and ones, which have no precisions to add up."""
        found = first_layer_beyond(model, "real", "one-hot")
        reason = "Ladder adds up the precisions of Gaussian layers"
        return None if found is None else f"{reason}, but {found}"

    def features(self, x: Float[Tensor, "data obs_dim"]) -> Mapping[str, Tensor]:
        """Return d_l of each layer, ``(N, width)`` each."""
        found: dict[str, Tensor] = {}
        value = self.reader(self.standardised(x))
        for site, rung in self.rungs.items():
            found[site] = value = rung(value)
        return found

    def posterior_from(
        self, features: Mapping[str, Tensor], site: str, above: Mapping[str, Tensor]
    ) -> TorchDistribution:
        """Return q(z_l | z_{>l}, x), x given by its features."""
        prior = self.model.layer_prior(site, above)
        told = self.heads[site](features[site])
        if isinstance(self.heads[site], OneHotHead):
            return StraightThroughOneHot(told.temperature, logits=told.logits + prior.logits)
        return merged(told, prior)


def merged(told: TorchDistribution, prior: TorchDistribution) -> TorchDistribution:
    """Return the normalised product of two diagonal Gaussians: precisions add up.

    Args:
        told: Batch shape ``(..., N)``, event shape ``(width,)``.
        prior: Of a batch shape that broadcasts with it, and the same event shape.
    """
    precision, prior_precision = 1 / told.variance, 1 / prior.variance
    variance = 1 / (precision + prior_precision)
    loc = variance * (precision * told.mean + prior_precision * prior.mean)
    return Normal(loc, variance.sqrt()).to_event(1)


def _rung(width: int, hidden: Sequence[int], activation: str) -> nn.Module:
    """Build the map from one layer's features to the next one's; it ends with an activation."""
    if not hidden:
        return nn.Identity()
    *first, last = hidden
    return nn.Sequential(mlp(width, first, last, activation), ACTIVATIONS[activation]())
