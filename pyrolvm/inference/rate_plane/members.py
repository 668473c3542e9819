"""The models of a rate plane: one for each pair of weights and each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.datasets import Dataset
from pyrolvm.guides import Layerwise
from pyrolvm.models import HierarchicalVAE

SMALLEST_WEIGHT, LARGEST_WEIGHT = 0.1, 10.0


@dataclass(frozen=True)
class PlaneSettings:
    """How every model of a plane is made and trained.

    Args:
        steps: Steps of Adam.
        network: ``"mlp"``, or ``"conv"`` for images.
        latent_dims: Widths of z_1 and z_2.
        hidden: Widths of the hidden layers of every network.
        channels: Channels of the convolutions, near x first (``conv``).
        noise_scale: Standard deviation of x given z_1; fixed, for weights have a meaning only
            relative to it.
        batch_size: Rows of a minibatch.
        learning_rate: Of Adam at the start.
        warm_up: Share of the steps in which the weights rise to their values.

    Raises:
        SettingError: If a value makes no sense.
    """

    steps: int = 1500
    network: str = "mlp"
    latent_dims: tuple[int, int] = (16, 4)
    hidden: tuple[int, ...] = (96,)
    channels: tuple[int, ...] = (32, 64)
    noise_scale: float = 0.1
    batch_size: int = 128
    learning_rate: float = 2e-3
    warm_up: float = 0.2

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps, batch_size=self.batch_size)
        if len(self.latent_dims) != 2:
            raise SettingError(
                f"A rate plane needs 2 layers, but latent_dims are {self.latent_dims}."
            )
        if not 0 < self.warm_up <= 1:
            raise SettingError(f"warm_up should be in (0, 1], but it is {self.warm_up:g}.")


@dataclass(frozen=True)
class Member:
    """One model of a plane.

    Args:
        weight_1: Weight of the rate of z_1, the layer next to x.
        weight_2: Weight of the rate of z_2, the top layer.
        seed: Of its start, its minibatches and its draws.
    """

    weight_1: float
    weight_2: float
    seed: int

    @property
    def key(self) -> str:
        """A name that no other member has."""
        return f"{self.weight_1:g}_{self.weight_2:g}_seed{self.seed}"

    @property
    def rate_weights(self) -> dict[str, float]:
        """Weights by latent site."""
        return {"z_1": self.weight_1, "z_2": self.weight_2}


def weight_grid(grid: int | Sequence[float]) -> tuple[float, ...]:
    """Return the weights of one layer: as given, or so many from 0.1 to 10, evenly in the log.

    Raises:
        SettingError: If there are fewer than 2 or one is not positive.

    >>> weight_grid(5)
    (0.1, 0.3162, 1.0, 3.162, 10.0)
    """
    if isinstance(grid, int):
        require_at_least(2, grid=grid)
        wanted: Sequence[float] = np.geomspace(SMALLEST_WEIGHT, LARGEST_WEIGHT, grid).tolist()
    else:
        wanted = grid
    weights = tuple(float(f"{weight:.4g}") for weight in wanted)
    if len(set(weights)) < 2 or not all(0 < weight < math.inf for weight in weights):
        raise SettingError(
            f"A rate plane needs at least 2 positive weights a layer, but they are {weights}."
        )
    return tuple(sorted(set(weights)))


def all_members(weights: Sequence[float], seeds: Sequence[int]) -> list[Member]:
    """Return a member for each pair of weights and each seed, seed by seed.

    Raises:
        SettingError: If there is no seed, or one is out of range.
    """
    if not seeds:
        raise SettingError("A rate plane needs at least one seed, but seeds is empty.")
    for seed in seeds:
        require_seed(seed)
    return [
        Member(first, second, seed)
        for seed in dict.fromkeys(seeds)
        for first in weights
        for second in weights
    ]


def make_model(dataset: Dataset, settings: PlaneSettings) -> HierarchicalVAE:
    """Build an untrained model."""
    shape = _channels_first(dataset) if settings.network == "conv" else None
    return HierarchicalVAE(
        settings.latent_dims,
        dataset.dim,
        settings.hidden,
        settings.noise_scale,
        network=settings.network,
        image_shape=shape,
        channels=settings.channels,
    )


def make_guide(
    model: HierarchicalVAE,
    rate_weights: dict[str, float],
    dataset: Dataset,
    settings: PlaneSettings,
) -> Layerwise:
    """Build an untrained guide that sees its inputs in units of the training rows."""
    guide = Layerwise(
        model,
        rate_weights,
        hidden=settings.hidden,
        network=settings.network,
        channels=settings.channels,
    )
    return guide.standardise_by(dataset.train)


def _channels_first(dataset: Dataset) -> tuple[int, ...]:
    if dataset.image_shape is None:
        raise SettingError(
            f"network='conv' needs images, but {dataset.name!r} has no image_shape. Use 'mlp'."
        )
    shape = dataset.image_shape
    return (1, *shape) if len(shape) == 2 else shape
