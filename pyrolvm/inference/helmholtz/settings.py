"""How much the study spends on a cell: steps, learning rates, draws, by size and data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyrolvm.core.errors import SettingError, UnknownNameError
from pyrolvm.inference.helmholtz.layers import default_layers, layers_of_depth
from pyrolvm.inference.helmholtz.objectives import COUPLED, OBJECTIVES, REWEIGHTED

FULL_STEPS: Mapping[str, int] = {
    "adult": 40_000,
    "connect4": 40_000,
    "binarized_mnist": 40_000,
    "mushrooms": 30_000,
    "ocr_letters": 30_000,
    "nltcs": 15_000,
    "dna": 12_000,
    "nips": 8_000,
    "bars": 8_000,
}
"""Steps of training in the size ``full``, by data set."""
OTHER_STEPS = 20_000
"""Steps for all other data sets."""
SEARCH_SHARE, LEAST_SEARCH = 0.1, 50
"""Length of the trainings that try a learning rate: a share of all steps, and steps at least."""
PATIENCE_SHARE = 0.25
"""Share of the steps after which a bound that no longer rises ends training."""
DEPTH_OBJECTIVES = (COUPLED, REWEIGHTED)
"""Objectives of the sweep over depths."""


@dataclass(frozen=True)
class Settings:
    """What all cells of a run share.

    Args:
        steps_share: Share of the steps of :data:`FULL_STEPS`.
        learning_rates: Of Adam at the start; the best one on validation rows is taken.
        seeds: Each trains every cell once.
        objectives: Trained where the user names none.
        evaluation_particles: Draws for each test row.
        z_samples: Draws of the model for the estimate of Z.
        test_rows: Test rows at most; None for all.
        most_units: Units that a layer has at most; None for no limit.
        batch_size: Rows of a minibatch.
        num_particles: Draws for each row in training.
        sweeps: Of the chains that draw images from p*.
    """

    steps_share: float
    learning_rates: tuple[float, ...]
    seeds: tuple[int, ...]
    objectives: tuple[str, ...]
    evaluation_particles: int = 1000
    z_samples: int = 100_000
    test_rows: int | None = None
    most_units: int | None = None
    batch_size: int = 100
    num_particles: int = 10
    sweeps: int = 250


SIZES: Mapping[str, Settings] = {
    "smoke": Settings(
        0.003,
        (1e-2,),
        (0,),
        (COUPLED, REWEIGHTED),
        100,
        2000,
        test_rows=100,
        most_units=8,
        sweeps=20,
    ),
    "default": Settings(0.25, (2e-2, 5e-3), (0,), tuple(OBJECTIVES)),
    "full": Settings(1.0, (2e-2, 1e-2, 3e-3), (0, 1, 2), tuple(OBJECTIVES)),
}


@dataclass(frozen=True)
class Cell:
    """One training and what is measured of it.

    Args:
        data: Name of the data set.
        objective: A key of :data:`OBJECTIVES`.
        layers: Widths, bottom first.
        seed: Of initial weights, minibatches and draws.
        in_table: Whether it has the default layers of its data set.
        in_sweep: Whether it belongs to the sweep over depths.
    """

    data: str
    objective: str
    layers: tuple[int, ...]
    seed: int
    in_table: bool = True
    in_sweep: bool = False

    @property
    def key(self) -> str:
        """Name of its folder.

        >>> Cell("nltcs", "rws", (8, 6, 4), 0).key
        'nltcs-rws-8-6-4-seed0'
        """
        data = "".join(
            letter if letter.isalnum() or letter in "_+." else "-" for letter in self.data
        )
        widths = "-".join(map(str, self.layers))
        return f"{data.strip('-.')}-{self.objective}-{widths}-seed{self.seed}"

    @property
    def label(self) -> str:
        """What progress bars call it."""
        layers = "1 layer" if len(self.layers) == 1 else f"{len(self.layers)} layers"
        return f"{self.data} {self.objective}, {layers}, seed {self.seed}"


def size_named(size: str) -> Settings:
    """Look a size up.

    Raises:
        UnknownNameError: If there is no such size.
    """
    if size not in SIZES:
        raise UnknownNameError("size", size, SIZES)
    return SIZES[size]


def steps_for(data: str, settings: Settings) -> int:
    """Return the steps of training on a data set."""
    return round(settings.steps_share * FULL_STEPS.get(data, OTHER_STEPS))


def all_cells(
    data: Sequence[str],
    objectives: Sequence[str],
    depths: Sequence[int],
    settings: Settings,
) -> list[Cell]:
    """List the cells of a study, those of one data set together, each once.

    Raises:
        SettingError: If a depth is below 1, or none of the objectives is in the sweep.
    """
    swept = [key for key in objectives if key in DEPTH_OBJECTIVES]
    if depths and not swept:
        raise SettingError(
            f"The sweep over depths trains {' and '.join(DEPTH_OBJECTIVES)}, but --objectives "
            f"names {', '.join(objectives)} only. Add one of them, or leave --depths out."
        )
    cells = []
    for name in data:
        default = _limited(default_layers(name), settings)
        deep = [layers_of_depth(default, depth) for depth in depths]
        for layers in dict.fromkeys((default, *deep)):
            in_sweep = layers in deep
            own = objectives if layers == default else swept
            cells += [
                Cell(name, key, layers, seed, layers == default, in_sweep and key in swept)
                for key in own
                for seed in settings.seeds
            ]
    return cells


def _limited(widths: tuple[int, ...], settings: Settings) -> tuple[int, ...]:
    if settings.most_units is None:
        return widths
    return tuple(min(width, settings.most_units) for width in widths)
