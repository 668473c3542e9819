r"""A Gaussian prior whose scales, and means if wanted, a network finds for each environment.

.. math:: p(z \mid u) = \prod_i N(z_i; \mu_i(u), e^{v_i(u)}), \qquad
          (\mu, v) = \mathrm{network}(\mathrm{onehot}(u))

References:
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core.errors import require_at_least
from pyrolvm.nn.environment_labels import checked_labels, label_table
from pyrolvm.nn.gaussian_head import INITIAL_SHRINKAGE
from pyrolvm.nn.mlp import mlp


class LearnedEnvironmentPrior(nn.Module):
    """A network from one-hot labels into log variances, and means where they learn too.

    Every p(z | u) starts close to a standard normal.

    Args:
        num_environments: Number E of environments.
        latent_dim: Dimension D of z.
        hidden: Widths of the hidden layers; none makes it a table with a row a label.
        learn_means: Whether means are learned; they are 0 otherwise.
        activation: A key of :data:`pyrolvm.nn.ACTIVATIONS`.

    Raises:
        SettingError: If a number is not positive.

    >>> LearnedEnvironmentPrior(5, 2, learn_means=True)(torch.tensor([0, 4])).event_shape
    torch.Size([2])
    """

    def __init__(
        self,
        num_environments: int,
        latent_dim: int,
        hidden: Sequence[int] = (100, 100),
        *,
        learn_means: bool = False,
        activation: str = "leaky_relu",
    ) -> None:
        super().__init__()
        require_at_least(1, num_environments=num_environments, latent_dim=latent_dim)
        self.num_environments, self.latent_dim = num_environments, latent_dim
        self.learn_means = learn_means
        width = (1 + learn_means) * latent_dim
        self.network = mlp(num_environments, tuple(hidden), width, activation)
        with torch.no_grad():
            last = self.network[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(INITIAL_SHRINKAGE)
            last.bias.zero_()

    @property
    def loc(self) -> Float[Tensor, "environment D"]:
        """Means of all environments, shape ``(E, D)``."""
        return self._table()[0]

    @property
    def scale(self) -> Float[Tensor, "environment D"]:
        """Standard deviations of all environments, shape ``(E, D)``."""
        return self._table()[1]

    @property
    def fixed(self) -> tuple[int, ...]:
        """Labels of the environments whose prior does not learn: none."""
        return ()

    def forward(self, u: Int[Tensor, " data"]) -> TorchDistribution:
        """Return p(z | u): batch shape ``(N,)``, event shape ``(D,)``.

        Raises:
            DataError: If u does not hold labels.
        """
        labels = checked_labels(u, self.num_environments, who=type(self).__name__)
        loc, scale = self._table()
        return Normal(loc[labels], scale[labels]).to_event(1)

    def _table(self) -> tuple[Tensor, Tensor]:
        """Means and scales of all labels: E rows through the network, however many data."""
        like = next(self.network.parameters())
        found = self.network(label_table(self.num_environments, like))
        scale = (0.5 * found[:, -self.latent_dim :]).exp()
        loc = found[:, : self.latent_dim] if self.learn_means else torch.zeros_like(scale)
        return loc, scale
