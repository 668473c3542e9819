r"""A one-hot latent vector that gradients pass through, and a network into its probabilities.

.. math:: z = \operatorname{onehot}(\arg\max_k s_k), \qquad
          s = \operatorname{softmax}((\log \pi + g) / \tau), \quad g_k \sim \text{Gumbel}(0, 1)

Forward, z is an exact draw of the categorical variable, and its density is that variable's: bounds
hold. Backward, the gradient of the relaxed s stands in for that of z, which is biased and falls in
variance as τ rises.

References:
    Jang, Gu & Poole (2017), Categorical Reparameterization with Gumbel-Softmax.
    Bengio, Léonard & Courville (2013), Estimating or Propagating Gradients Through Stochastic
    Neurons for Conditional Computation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.distributions import (
    OneHotCategorical,
    RelaxedOneHotCategoricalStraightThrough,
    TorchDistribution,
    constraints,
)
from torch import Tensor, nn
from torch.distributions import kl_divergence, register_kl

from pyrolvm.nn.gaussian_head import INITIAL_SHRINKAGE
from pyrolvm.nn.mlp import mlp

TEMPERATURE = 0.5


class StraightThroughOneHot(RelaxedOneHotCategoricalStraightThrough):
    """One-hot draws with straight-through gradients, scored as draws of the categorical variable.

    Args:
        temperature: τ, a positive tensor without dimensions.
        logits: Unnormalised log probabilities, shape ``(..., K)``.
    """

    support = constraints.one_hot

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Float[Tensor, "*sample K"]:  # noqa: B008
        """Draw one-hot vectors without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape).detach()

    def log_prob(self, value: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch"]:
        """Return the log probability of one-hot vectors in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return (value * self.logits.log_softmax(-1)).sum(-1)

    def expand(self, batch_shape: torch.Size, _instance: object = None) -> StraightThroughOneHot:
        """Add batch dimensions on the left, as a plate of particles does."""
        shape = torch.Size(batch_shape) + self.event_shape
        return StraightThroughOneHot(self.temperature, logits=self.logits.expand(shape))


@register_kl(StraightThroughOneHot, OneHotCategorical)  # type: ignore[untyped-decorator]
def _kl_to_categorical(q: StraightThroughOneHot, p: OneHotCategorical) -> Tensor:
    return kl_divergence(OneHotCategorical(logits=q.logits), p)


class OneHotHead(nn.Module):
    """A multilayer perceptron into the probabilities of a one-hot vector, near uniform at first.

    Args:
        in_dim: Width of the input.
        hidden: Widths of the hidden layers.
        dim: Number of categories.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    >>> OneHotHead(3, (8,), 4)(torch.zeros(5, 3)).sample().sum(-1)
    tensor([1., 1., 1., 1., 1.])
    """

    def __init__(
        self, in_dim: int, hidden: Sequence[int], dim: int, activation: str = "silu"
    ) -> None:
        super().__init__()
        self.network = mlp(in_dim, tuple(hidden), dim, activation)
        last = self.network[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.weight *= INITIAL_SHRINKAGE
            last.bias.zero_()

    def forward(self, inputs: Float[Tensor, "*batch features"]) -> TorchDistribution:
        """Return the one-hot law of each input: batch shape ``(...)``, event shape ``(dim,)``."""
        logits = self.network(inputs)
        return StraightThroughOneHot(logits.new_tensor(TEMPERATURE), logits=logits)
