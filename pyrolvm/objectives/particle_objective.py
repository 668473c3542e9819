r"""The base of objectives that weigh several draws of the guide for each datum against each other.

.. math:: w_{kn} = \frac{p(x_n, z_{kn})}{q(z_{kn} \mid x_n)}, \qquad k = 1, \dots, K

Every datum has K weights of its own. Masked data weigh nothing, a subsampled plate scales the
loss and not the weights.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.data import Arguments, CallArguments
from pyrolvm.core.errors import FactorisationError, SettingError
from pyrolvm.core.matching import run_once
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.tracing import PairTrace, run_pair, run_vectorised
from pyrolvm.core.vectorising import particle_dim


@dataclass(frozen=True)
class Particles:
    """K draws of a guide for each datum, scored under guide and model, with their gradients.

    Args:
        log_joint: log p(x, z) in nats, shape ``(K, N)``.
        log_guide: log q(z | x) in nats, shape ``(K, N)``.
        scale: Size of the whole data set over that of the rows at hand.
    """

    log_joint: Tensor
    log_guide: Tensor
    scale: float

    @property
    def log_weights(self) -> Float[Tensor, "particle data"]:
        """Log importance weights in nats, without gradients."""
        return (self.log_joint - self.log_guide).detach()


class ParticleObjective(ABC):
    """A loss for ``pyro.infer.SVI(..., loss=)`` and ``lvm.fit(..., loss=)``.

    Called with model, guide and their arguments it returns the loss in nats, summed over data as
    Pyro's are, with gradients. Model and guide are plain Pyro programs; all particles run at once
    where the programs allow it.

    Args:
        num_particles: Draws K of the guide for each datum and step.

    Raises:
        SettingError: If there are too few draws.
    """

    fewest = 1
    """Smallest number of particles that the objective can learn from."""

    why_fewest = ""
    """Why fewer do not do; a sentence for the error."""

    holds_draws = True
    """Whether draws are constants, so that no gradient passes through them."""

    def __init__(self, num_particles: int) -> None:
        if not isinstance(num_particles, int) or num_particles < self.fewest:
            raise SettingError(
                f"{type(self).__name__} needs num_particles to be a whole number of at least "
                f"{self.fewest}, but it is {num_particles!r}. {self.why_fewest}".rstrip()
            )
        self.num_particles = num_particles
        self._layout = _Layout()

    def __call__(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Return the loss of one step.

        Args:
            model: A Pyro program.
            guide: A Pyro program with the same arguments.
            *args: Data, rows first.
            **kwargs: Data by name.

        Returns:
            A tensor without dimensions, in nats summed over data.

        Raises:
            FactorisationError: If a plate is subsampled although a latent site lies outside it.
            SiteError: If the sites of model and guide do not match.
        """
        particles = self.particles(model, guide, args, kwargs)
        value, surrogate = self.value(particles), self.surrogate(particles)
        return particles.scale * (value.detach() + surrogate - surrogate.detach()).sum()

    @abstractmethod
    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the loss of each datum in nats, shape ``(N,)``."""

    @abstractmethod
    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms of shape ``(N,)`` whose gradient is the estimate of the loss's gradient."""

    def particles(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Particles:
        """Draw particles and score them."""
        drawn: Callable[..., Any] = _Detached()(guide) if self.holds_draws else guide
        given = CallArguments(args, kwargs)
        dim, outside = self._layout.of(model, guide, given)
        if dim is not None:
            runs = [run_vectorised(model, drawn, given, self.num_particles, dim)]
        else:
            runs = [run_pair(model, drawn, given)]
            runs += [run_pair(model, drawn, given, runs[0]) for _ in range(self.num_particles - 1)]
        scale = _subsampling(runs[0])
        if outside and scale != 1:
            raise FactorisationError(
                f"{type(self).__name__} weighs draws of {', '.join(map(repr, outside))} by all "
                "data, because this lies outside the plate 'data', but the plate is subsampled. "
                "Run it on all rows, or move the site into the plate."
            )
        joint = [
            _sum((*run.latents().values(), *run.observed().values()), run, outside) for run in runs
        ]
        guides = [_sum(tuple(run.guide_sites().values()), run, outside) for run in runs]
        return Particles(torch.cat(joint), torch.cat(guides), scale)


class _Layout:
    """How a pair is laid out, found out in its first step."""

    def __init__(self) -> None:
        self._pair: tuple[Any, Any] | None = None
        self._found: tuple[int | None, tuple[str, ...]] = (None, ())

    def of(
        self, model: Callable[..., Any], guide: Callable[..., Any], given: Arguments
    ) -> tuple[int | None, tuple[str, ...]]:
        """Return the dimension for the plate of particles, and the sites outside ``"data"``."""
        if self._pair is None or self._pair[0] is not model or self._pair[1] is not guide:
            with torch.no_grad(), own_randomness():
                alone = run_once(model, guide, given)
                outside = tuple(dict.fromkeys(_outside(alone)))
                self._found = particle_dim(model, guide, given, alone), outside
            self._pair = (model, guide)
        return self._found


class _Detached(Messenger):
    """Makes every draw a constant as it is drawn, so that later sites see a constant too."""

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], Tensor) and not msg["is_observed"]:
            msg["value"] = msg["value"].detach()


def _outside(pair: PairTrace) -> Iterator[str]:
    return (name for name, site in pair.all_sites() if sites.data_dim(site) is None)


def _sum(
    found: tuple[dict[str, Any], ...], run: PairTrace, outside: tuple[str, ...]
) -> Float[Tensor, "particle data"]:
    """Sum of the sites' log densities, shape ``(K, N)``, or ``(K, 1)`` for global sites."""
    densities = [sites.log_density(site, run.particle_dim, not outside) for site in found]
    return sum(densities[1:], densities[0])


def _subsampling(run: PairTrace) -> float:
    """Size of the whole data set over that of the rows at hand."""
    for _, site in run.all_sites():
        for frame in site["cond_indep_stack"]:
            if frame.name == sites.DATA_PLATE and frame.full_size is not None:
                return float(frame.full_size / frame.size)
    return 1.0
