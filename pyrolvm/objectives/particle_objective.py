r"""The base of objectives that weigh several draws of the guide for each datum against each other.

.. math:: w_{kn} = \frac{p(x_n, z_{kn})}{q(z_{kn} \mid x_n)}, \qquad k = 1, \dots, K

Every datum has K weights of its own. Masked data weigh nothing, a subsampled plate scales the
loss and not the weights. An objective says what its loss is worth for each datum, and gives a
surrogate whose gradient is the one to follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrolvm.core import sites
from pyrolvm.core.data import CallArguments
from pyrolvm.core.errors import FactorisationError, SettingError
from pyrolvm.core.tracing import PairTrace, run_pair, run_vectorised
from pyrolvm.objectives.forward_kl import forward_kl
from pyrolvm.objectives.pair_layout import PairLayout


@dataclass(frozen=True)
class Particles:
    """K draws of a guide for each datum, scored under guide and model, with their gradients.

    Args:
        log_joint: log p(x, z) in nats, shape ``(K, N)``.
        log_guide: log q(z | x) in nats, shape ``(K, N)``.
        log_score: The part of ``log_guide`` from sites through whose draws no gradient passes
            (discrete ones), shape ``(K, N)``; their gradients go by the score function.
        scale: Size of the whole data set over that of the rows at hand.
    """

    log_joint: Tensor
    log_guide: Tensor
    log_score: Tensor
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
    """Whether all draws are constants, so that no gradient passes through any of them."""

    sleep_phi = 0.0
    """Weight of the guide's fit to dreams, pairs (x, z) drawn from the model; 0 for none."""

    def __init__(self, num_particles: int) -> None:
        whole = isinstance(num_particles, Integral) and not isinstance(num_particles, bool)
        if not whole or num_particles < self.fewest:
            raise SettingError(
                f"{type(self).__name__} needs num_particles to be a whole number of at least "
                f"{self.fewest}, but it is {num_particles!r}. {self.why_fewest}".rstrip()
            )
        self.num_particles = int(num_particles)
        self._layout = PairLayout()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_particles={self.num_particles})"

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
            SiteError: If the sites of model and guide do not match, or the guide has a point mass
                where a density is wanted.
        """
        particles = self.particles(model, guide, args, kwargs)
        value = self.value(particles).detach()
        if not torch.is_grad_enabled():
            return particles.scale * value.sum()
        loss = particles.scale * _with_gradient(value, self.surrogate(particles)).sum()
        if self.sleep_phi:
            dreams = self.sleep_phi * forward_kl(model, guide, *args, **kwargs)
            loss = _with_gradient(loss, loss + dreams)
        return loss

    @abstractmethod
    def value(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return the loss of each datum in nats, shape ``(N,)``."""

    @abstractmethod
    def surrogate(self, particles: Particles) -> Float[Tensor, " data"]:
        """Return terms of shape ``(N,)`` whose gradient is the estimate of the loss's gradient."""

    def runs_at_once(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> bool:
        """Whether a pair takes all particles in one plate; else they run one after another."""
        return self._layout.of(model, guide, CallArguments(args, kwargs))[0] is not None

    def particles(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Particles:
        """Draw particles and score them."""
        given = CallArguments(args, kwargs)
        dim, outside = self._layout.of(model, guide, given)
        with _Detached() if self.holds_draws else nullcontext():
            if dim is not None:
                runs = [run_vectorised(model, guide, given, self.num_particles, dim)]
            else:
                runs = [run_pair(model, guide, given)]
                more = range(self.num_particles - 1)
                runs += [run_pair(model, guide, given, runs[0]) for _ in more]
        scale = _subsampling(runs[0])
        if outside and scale != 1:
            raise FactorisationError(
                f"{type(self).__name__} weighs draws of {', '.join(map(repr, outside))} by all "
                "data, because this lies outside the plate 'data', but the plate is subsampled. "
                "Run it on all rows, or move the site into the plate."
            )
        parts = [_scored(run, not outside) for run in runs]
        log_joint, log_guide, log_score = (torch.cat(each) for each in zip(*parts, strict=True))
        return Particles(log_joint, log_guide, log_score, scale)


class _Detached(Messenger):
    """Makes every draw a constant as it is drawn, so that later sites see a constant too.

    It has to stand around a trace: Pyro lets the outer of two handlers see a finished site first.
    """

    def _pyro_post_sample(self, msg: Any) -> None:
        if isinstance(msg["value"], Tensor) and not msg["is_observed"]:
            msg["value"] = msg["value"].detach()


def _with_gradient(value: Tensor, surrogate: Tensor) -> Tensor:
    """Give a value the gradient of a surrogate."""
    return value.detach() + (surrogate - surrogate.detach())


def _scored(run: PairTrace, per_datum: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Score one run: log joint, log guide, and that part of it which goes by the score function.

    Args:
        run: One run of a pair.
        per_datum: Whether every site of the pair lies in the data plate.

    Returns:
        Shape ``(K, N)`` each, ``(K, 1)`` where ``per_datum`` is false.
    """

    def densities(found: Iterable[dict[str, Any]]) -> list[Tensor]:
        return [sites.log_density(site, run.particle_dim, per_datum) for site in found]

    joint = densities((*run.latents().values(), *run.observed().values()))
    drawn = run.guide_sites().values()
    parts = densities(drawn)
    by_score = [
        part
        for site, part in zip(drawn, parts, strict=True)
        if not (site["is_observed"] or site["fn"].has_rsample)
    ]
    if not parts:  # x has one latent code, which the guide computes
        zeros = torch.zeros_like(_total(joint))
        return _total(joint), zeros, zeros
    log_guide = _total(parts)
    if len(by_score) == len(parts):
        return _total(joint), log_guide, log_guide
    return _total(joint), log_guide, _total([torch.zeros_like(log_guide), *by_score])


def _total(parts: list[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])


def _subsampling(run: PairTrace) -> float:
    """Size of the whole data set over that of the rows at hand."""
    for _, site in run.all_sites():
        for frame in site["cond_indep_stack"]:
            if frame.name == sites.DATA_PLATE and frame.full_size is not None:
                return float(frame.full_size / frame.size)
    return 1.0
