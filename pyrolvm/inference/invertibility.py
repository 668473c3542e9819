r"""How far a generator is from losing information: its bi-Lipschitz constants.

.. math:: m \, \|z - z'\| \le \|G(z) - G(z')\| \le M \, \|z - z'\|

Proven constants come from the model. Measured ones come from draws of the prior: the ratio over
pairs, and the singular values of the Jacobian at points. A measured m is never too small, and a
measured M never too large: the proven interval holds the measured ones.

References:
    Pareek & Risteski (2021), The Effects of Invertibility on the Representational Complexity of
    Encoders in Variational Autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core import evaluating
from pyrolvm.core.capabilities import BiLipschitz, Generator
from pyrolvm.core.errors import require_at_least
from pyrolvm.core.randomness import own_randomness

CLOSEST = 1e-3
"""Smallest distance of the two points of a close pair."""


@dataclass(frozen=True)
class Invertibility:
    """Constants (m, M) of a generator, proven and measured.

    Args:
        certified: Proven for all pairs of points; None where the model proves nothing.
        pairs: Smallest and largest ratio of distances over the sampled pairs.
        jacobian: Smallest and largest singular value of the Jacobian over the sampled points.
        is_square: Whether z and x have equally many dimensions. For a square map onto the whole
            space, singular values of at least m everywhere prove m; a surface of a lower
            dimension may come back to itself all the same.
        num_pairs: Number of sampled pairs.
        num_points: Number of sampled points.
    """

    certified: tuple[float, float] | None
    pairs: tuple[float, float]
    jacobian: tuple[float, float]
    is_square: bool
    num_pairs: int
    num_points: int

    @property
    def condition_number(self) -> float:
        """M / m of the measured constants, pairs and points together; infinite for m = 0."""
        smallest = min(self.pairs[0], self.jacobian[0])
        largest = max(self.pairs[1], self.jacobian[1])
        return largest / smallest if smallest > 0 else math.inf

    def __str__(self) -> str:
        """Return proven and measured constants, a line each, and what the latter mean."""
        proven = "none" if self.certified is None else "m {:.4g}, M {:.4g}".format(*self.certified)
        shape = "square, so that bounds on them at every point would prove m"
        if not self.is_square:
            shape = "not square, so that even bounds on them at every point would not prove m"
        return (
            f"certified: {proven}\n"
            f"{self.num_pairs} pairs: m {self.pairs[0]:.4g}, M {self.pairs[1]:.4g}\n"
            f"{self.num_points} Jacobians: m {self.jacobian[0]:.4g}, M {self.jacobian[1]:.4g}\n"
            f"condition number: {self.condition_number:.4g}\n"
            f"Pairs and Jacobians are samples, which bound m from above and M from below; "
            f"Jacobians here are {shape}."
        )


def invertibility(
    model: Generator, *, num_pairs: int = 4096, num_points: int = 512, seed: int = 0
) -> Invertibility:
    """Measure a generator's bi-Lipschitz constants, beside those that it proves.

    Half of the pairs are independent draws of the prior, half are close to each other.

    Args:
        model: A model with ``prior()`` and ``generate(z)``.
        num_pairs: Number of pairs, at least 2.
        num_points: Number of Jacobians, at least 1.
        seed: Of the draws; the caller's random numbers stay as they are.

    Raises:
        SettingError: If there are too few pairs or points.

    >>> from pyrolvm.models import LeakyGenerator
    >>> invertibility(LeakyGenerator(2, slope=0.5), num_points=8).certified
    (0.125, 1.0)
    """
    require_at_least(2, num_pairs=num_pairs)
    require_at_least(1, num_points=num_points)
    with evaluating(model), own_randomness(seed):
        ratios = _ratios(model, num_pairs)
        values = _singular_values(model.generate, model.prior().sample((num_points,)))
    return Invertibility(
        certified=model.certified_constants if isinstance(model, BiLipschitz) else None,
        pairs=(ratios.min().item(), ratios.max().item()),
        jacobian=(values.min().item(), values.max().item()),
        is_square=model.latent_dim == model.obs_dim,
        num_pairs=num_pairs,
        num_points=num_points,
    )


def _ratios(model: Generator, number: int) -> Float[Tensor, " pair"]:
    """Ratios of distances, x over z, of independent and of close pairs."""
    points = model.prior().sample((number,))
    others = model.prior().sample((number,))
    close = others[: number // 2]
    distance = CLOSEST ** torch.rand(len(close), 1, dtype=points.dtype, device=points.device)
    step = distance * torch.nn.functional.normalize(close, dim=-1)
    others = torch.cat([points[: len(close)] + step, others[len(close) :]])
    apart = model.generate(points) - model.generate(others)
    return apart.norm(dim=-1) / (points - others).norm(dim=-1)


def _singular_values(
    generate: Callable[[Tensor], Tensor], points: Float[Tensor, "point latent_dim"]
) -> Float[Tensor, "point latent_dim"]:
    """Singular values of the Jacobian at each point; zeros where x has fewer dimensions."""
    summed = torch.autograd.functional.jacobian(lambda z: generate(z).sum(0), points)
    values = torch.linalg.svdvals(summed.movedim(0, 1))  # rows do not see each other
    missing = points.shape[-1] - values.shape[-1]
    return torch.nn.functional.pad(values, (0, missing))
