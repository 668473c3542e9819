r"""Weights of the rates of layers, and a handler that puts them on plain programs from outside.

.. math:: \mathcal L_\beta = E_q[-\log p(x \mid z)] + \sum_l \beta_l \,
          E_q[\log q(z_l \mid \cdot) - \log p(z_l \mid \cdot)]

Neither the model nor the guide knows of the weights: a program that held them would be another
one, tempered, under MCMC, importance sampling and prediction.

References:
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import Any, Protocol, runtime_checkable

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyrolvm.core.errors import SettingError, UnknownNameError

RateWeights = Mapping[str, float | Tensor]
"""Weight of a layer's rate by name of its latent site; 1 where none is given."""


@runtime_checkable
class CarriesRateWeights(Protocol):
    """A guide that says which weights it is to be trained with."""

    rate_weights: RateWeights


def number(weight: float | Tensor) -> float:
    """Return a weight as a plain number."""
    return float(weight.detach()) if isinstance(weight, Tensor) else float(weight)


def checked_weights(rate_weights: RateWeights | None) -> dict[str, float | Tensor]:
    """Return weights of rates after checking that each is one number, 0 or more.

    Raises:
        SettingError: Naming the first that is not.
    """
    if rate_weights is not None and not isinstance(rate_weights, Mapping):
        raise SettingError(
            "rate_weights need names of latent sites, for example {'z_2': 0.5}, but they are a "
            f"{type(rate_weights).__name__}."
        )
    weights = dict(rate_weights or {})
    for name, weight in weights.items():
        if not isinstance(weight, Tensor | Real):
            raise SettingError(
                f"A weight of a rate is a number, but that of {name!r} is {weight!r}."
            )
        if isinstance(weight, Tensor) and weight.numel() != 1:
            raise SettingError(
                f"A weight of a rate is one number, but that of {name!r} has shape "
                f"{tuple(weight.shape)}."
            )
        if not 0 <= number(weight) < math.inf:
            raise SettingError(
                "rate_weights should be finite and 0 or more, but that of "
                f"{name!r} is {number(weight):g}."
            )
    return {
        name: weight.reshape(()) if isinstance(weight, Tensor) else float(weight)
        for name, weight in weights.items()
    }


def require_sites(names: Iterable[str], sites: Iterable[str], what: str) -> None:
    """Refuse a name that is not a latent site of the model.

    Args:
        names: What was given.
        sites: The latent sites.
        what: Where the names stand, for the message.

    Raises:
        UnknownNameError: Naming the first that is unknown.
    """
    sites = tuple(sites)
    for name in names:
        if name not in sites:
            raise UnknownNameError(f"latent site in {what}", name, sites)


def unequal_to_one(guide: Any) -> dict[str, float]:
    """Return the weights other than 1 that a guide carries, by site; none for other guides."""
    if not isinstance(guide, CarriesRateWeights):
        return {}
    weights = {name: number(weight) for name, weight in guide.rate_weights.items()}
    return {name: weight for name, weight in weights.items() if weight != 1}


def weighted(program: Callable[..., Any], rate_weights: RateWeights) -> Callable[..., Any]:
    """Return a program whose latent sites' log densities are multiplied by weights.

    Put around model and guide alike, it makes Pyro's own objectives minimise the distortion plus
    the weighted rates::

        SVI(weighted(model, weights), weighted(guide, weights), optimizer, Trace_ELBO())

    Observed sites keep the weight 1. Train with these programs, and measure with the plain ones.

    Args:
        program: A model or a guide.
        rate_weights: Positive weight of each layer's rate, by latent site.

    Raises:
        SettingError: If a weight is not positive; :class:`LayerwiseELBO` takes 0 too.
        UnknownNameError: When it runs, if a name is not a latent site of the program.
    """
    weights = checked_weights(rate_weights)
    for name, weight in weights.items():
        if number(weight) == 0:
            raise SettingError(
                f"weighted needs positive rate_weights, but that of {name!r} is 0: a program "
                "cannot leave a density out. Use LayerwiseELBO, which takes weights of 0."
            )

    def weighted_program(*args: Any, **kwargs: Any) -> Any:
        with _Weighing(weights) as weighing:
            result = program(*args, **kwargs)
        require_sites(weights, weighing.met, "rate_weights")
        return result

    return weighted_program


class _Weighing(Messenger):
    """Multiplies the scale of latent sites by their weight."""

    def __init__(self, weights: RateWeights) -> None:
        super().__init__()
        self.weights = weights
        self.met: list[str] = []

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"]:
            return
        self.met.append(msg["name"])
        if msg["name"] in self.weights:
            msg["scale"] = msg["scale"] * self.weights[msg["name"]]


def linear_warm_up(num_steps: float) -> Callable[[int], float]:
    """Return a schedule that raises the weights of all rates in a straight line to their value.

    Args:
        num_steps: Steps until they are reached, for example a fifth of all.

    Returns:
        Maps the number of steps taken to a factor in (0, 1].

    Raises:
        SettingError: If it is below 1.
    """
    if not num_steps >= 1:
        raise SettingError(f"num_steps should be at least 1, but it is {num_steps:g}.")
    return lambda step: min(1.0, (step + 1) / num_steps)


def weight_at(weight: float | Tensor, factor: float) -> float | Tensor:
    """Return a weight under a schedule's factor; refuse a factor that makes no sense."""
    if not 0 <= factor < math.inf:
        raise SettingError(f"warm_up should give factors of 0 or more, but it gave {factor}.")
    return weight if factor == 1 else weight * factor


def is_one(weight: float | Tensor) -> bool:
    """Whether a weight is the plain number 1, which changes nothing."""
    return not isinstance(weight, torch.Tensor) and weight == 1
