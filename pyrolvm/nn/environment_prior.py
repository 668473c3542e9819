r"""A Gaussian prior for each environment, fixed: what makes a latent code strongly identifiable.

.. math:: p(z \mid u) = \prod_i N(z_i; \mu_{ui}, \sigma_{ui}^2), \qquad u \in \{0, \ldots, E - 1\}

A map A that carries every p(z | u) into itself keeps all ratios p(z | u) / p(z | 0). Where these
ratios tell any two points apart, A is the identity: an observation has one code. Means that are
affinely independent in d + 1 environments suffice; equal means leave the signs of z open.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from pyro.distributions import Normal, TorchDistribution
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.nn.environment_labels import checked_labels, chosen_environments


class EnvironmentPrior(nn.Module):
    """Means and scales of z for each environment, held as buffers; some may be set free.

    Fixing the priors of enough environments anchors the code, so that those of the others may
    learn: they start at the values given here.

    Args:
        loc: Means, shape ``(E, D)``.
        scale: Standard deviations, shape ``(E, D)``; one for all where it is a number.
        learned: Labels of the environments whose means and scales are trained.

    Raises:
        SettingError: If a shape does not fit, a mean is not finite, a scale is not positive and
            finite, or ``learned`` holds what is no label.

    >>> prior = EnvironmentPrior(torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]]), 1.0)
    >>> prior(torch.tensor([0, 2, 2, 1])).mean[:, 1]
    tensor([0., 2., 2., 0.])
    """

    start_loc: Tensor
    start_scale: Tensor
    freed: Tensor

    def __init__(
        self,
        loc: Float[Tensor, "environment D"],
        scale: Float[Tensor, "environment D"] | float,
        learned: Sequence[int] = (),
    ) -> None:
        super().__init__()
        loc = torch.as_tensor(loc)
        loc = loc if loc.is_floating_point() else loc.to(torch.get_default_dtype())
        scale = torch.as_tensor(scale, dtype=loc.dtype, device=loc.device)
        scale = scale.expand_as(loc) if scale.dim() == 0 else scale
        _check(loc, scale)
        self.num_environments, self.latent_dim = loc.shape
        self.learned = chosen_environments(learned, self.num_environments)
        self.register_buffer("start_loc", loc.detach().clone())
        self.register_buffer("start_scale", scale.detach().clone())
        self.register_buffer("freed", torch.tensor(self.learned, dtype=torch.int64))
        if self.learned:
            self.shift = nn.Parameter(loc.new_zeros(len(self.learned), self.latent_dim))
            self.log_stretch = nn.Parameter(loc.new_zeros(len(self.learned), self.latent_dim))

    @classmethod
    def simplex(cls, latent_dim: int, distance: float = 4.0) -> EnvironmentPrior:
        """Unit Gaussians around d + 1 affinely independent means: the fewest that anchor a code.

        Args:
            latent_dim: Dimension d of z.
            distance: Distance of the means ``distance * e_i`` of environments 1 to d from that of
                environment 0, the origin.
        """
        require_at_least(1, latent_dim=latent_dim)
        means = torch.cat([torch.zeros(1, latent_dim), distance * torch.eye(latent_dim)])
        return cls(means, 1.0)

    @property
    def loc(self) -> Float[Tensor, "environment D"]:
        """Means of all environments, shape ``(E, D)``."""
        if not self.learned:
            return self.start_loc
        return self.start_loc.index_add(0, self.freed, self.shift)

    @property
    def scale(self) -> Float[Tensor, "environment D"]:
        """Standard deviations of all environments, shape ``(E, D)``."""
        if not self.learned:
            return self.start_scale
        stretch = torch.zeros_like(self.start_scale).index_add(0, self.freed, self.log_stretch)
        return self.start_scale * stretch.exp()

    @property
    def fixed(self) -> tuple[int, ...]:
        """Labels of the environments whose prior does not learn."""
        return tuple(e for e in range(self.num_environments) if e not in self.learned)

    def forward(self, u: Int[Tensor, " data"]) -> TorchDistribution:
        """Return p(z | u): batch shape ``(N,)``, event shape ``(D,)``.

        Raises:
            DataError: If u does not hold labels.
        """
        labels = checked_labels(u, self.num_environments, who=type(self).__name__)
        return Normal(self.loc[labels], self.scale[labels]).to_event(1)

    def extra_repr(self) -> str:
        """Sizes, and what learns."""
        learned = f", learned={list(self.learned)}" if self.learned else ""
        return f"num_environments={self.num_environments}, latent_dim={self.latent_dim}{learned}"


def _check(loc: Tensor, scale: Tensor) -> None:
    if loc.dim() != 2 or loc.numel() == 0 or scale.shape != loc.shape:
        raise SettingError(
            "EnvironmentPrior needs means and scales of one shape (E, D), a row for each "
            f"environment, but got {tuple(loc.shape)} and {tuple(scale.shape)}."
        )
    if not bool(loc.isfinite().all()):
        row = int((~loc.isfinite()).any(-1).nonzero()[0, 0])
        raise SettingError(
            f"EnvironmentPrior needs finite means, but that of environment {row} is "
            f"{loc[row].tolist()}."
        )
    bad = ~(scale.isfinite() & (scale > 0))
    if bool(bad.any()):
        row = int(bad.any(-1).nonzero()[0, 0])
        raise SettingError(
            "EnvironmentPrior needs positive finite scales (a scale of 0 makes the prior "
            f"singular), but those of environment {row} are {scale[row].tolist()}."
        )
