"""Train a hierarchy under a grid of weights of its rates, and measure what each is good for.

References:
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from pyrolvm.core.files import write_text
from pyrolvm.datasets import Dataset, load
from pyrolvm.inference.rate_plane.folder import FACTS, FRAME, PlaneFolder
from pyrolvm.inference.rate_plane.measuring import measured
from pyrolvm.inference.rate_plane.members import (
    Member,
    PlaneSettings,
    all_members,
    make_guide,
    make_model,
    weight_grid,
)
from pyrolvm.inference.rate_plane.tasks import TASKS, Optimum, optimum
from pyrolvm.inference.rate_plane.training import MEMBERS_AT_ONCE, trained
from pyrolvm.inference.rate_plane.yardstick import Yardstick, labelled, make_yardstick

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class RatePlane:
    """What models trained under a grid of weights spend on each layer, and what they can do.

    Args:
        frame: One row a model: ``weight_1``, ``weight_2``, ``seed``; ``rate_1``, ``rate_2``,
            ``distortion``, ``negative_elbo``, ``information_2``, ``label_information`` and
            ``excess_2`` in nats; ``psnr`` (from mean codes) and ``psnr_drawn`` in decibels;
            ``accuracy_drawn`` (of a probe that sees a draw of z_2) with ``fano_bound``, and
            ``accuracy_mean``; ``score`` of prior samples, ``diversity`` times ``sharpness``;
            ``diverged``, 1 where training met a loss that is not finite. Standard errors over
            data end in ``_se``.
        facts: What they were measured with: ``data``, ``num_test``, ``num_classes``,
            ``label_entropy``, ``classifier_accuracy``, and the settings of training.
        folder: Where weights and table lie.
    """

    frame: pd.DataFrame
    facts: dict[str, Any]
    folder: Path

    @property
    def optima(self) -> tuple[Optimum, ...]:
        """Where in the plane each task is served best."""
        return tuple(optimum(self.frame, task) for task in TASKS)

    def __repr__(self) -> str:
        best = ", ".join(
            f"{one.task.key} at ({one.weight_1:g}, {one.weight_2:g})" for one in self.optima
        )
        return f"RatePlane({len(self.frame)} models on {self.facts['data']}; best {best})"


def run_rate_plane(
    data: Dataset | str,
    *,
    grid: int | Sequence[float] = 5,
    seeds: Sequence[int] = (0, 1),
    steps: int = 1500,
    network: str = "mlp",
    out: str | Path,
    progress: bool = True,
    settings: PlaneSettings | None = None,
) -> RatePlane:
    """Train two-layer models under all pairs of weights, and measure each on held-out rows.

    A run that was killed goes on where it stopped, and a finished one is read again; a larger grid
    or more seeds take over the models that are there.

    Args:
        data: A data set with classes and rows held out, or its name in the catalogue.
        grid: Weights of each layer's rate, or how many from 0.1 to 10.
        seeds: Each trains the whole grid once.
        steps: Steps of training.
        network: ``"mlp"``, or ``"conv"`` for images.
        out: Folder for weights and table.
        progress: Whether to show how far it is.
        settings: All settings of training, in place of ``steps`` and ``network``.

    Returns:
        The plane.

    Raises:
        DataError: If there are no classes or no rows held out.
        SettingError: If a setting makes no sense.
        RunFolderError: If the folder holds another plane, or cannot be written.
    """
    dataset = load(data) if isinstance(data, str) else data
    labelled(dataset)
    settings = settings or PlaneSettings(steps=steps, network=network)
    members = all_members(weight_grid(grid), seeds)
    folder = PlaneFolder(Path(out))
    folder.claim(dataset, settings)
    _train_missing(members, dataset, settings, folder, progress)
    _measure_missing(members, dataset, settings, folder, progress)
    frame = _table(members, folder)
    write_text(folder.path / FRAME, frame.to_csv(index=False))
    return RatePlane(frame, folder.read(FACTS), folder.path)


def _train_missing(
    members: list[Member],
    dataset: Dataset,
    settings: PlaneSettings,
    folder: PlaneFolder,
    progress: bool,
) -> None:
    left = [member for member in members if not folder.has_weights(member)]
    size = MEMBERS_AT_ONCE.get(settings.network, 1)
    chunks = [
        own[start : start + size]
        for own in ([m for m in left if m.seed == seed] for seed in {m.seed: None for m in left})
        for start in range(0, len(own), size)
    ]
    for index, chunk in enumerate(chunks):
        name = f"train {len(chunk)} at once, {index + 1} of {len(chunks)}"
        pairs = trained(chunk, dataset, settings, name if progress else False)
        for member, pair in zip(chunk, pairs, strict=True):
            folder.save_pair(member, pair)


def _measure_missing(
    members: list[Member],
    dataset: Dataset,
    settings: PlaneSettings,
    folder: PlaneFolder,
    progress: bool,
) -> None:
    left = [member for member in members if not folder.has_row(member)]
    if not left and (folder.path / FACTS).is_file():
        return
    yardstick = make_yardstick(dataset)
    folder.write(FACTS, _facts(dataset, settings, yardstick))
    for member in tqdm(left, desc="measure", unit="model", disable=not progress):
        model = make_model(dataset, settings)
        guide = make_guide(model, member.rate_weights, dataset, settings)
        diverged = folder.load_pair(member, model, guide)
        row = measured(model, guide, yardstick, seed=member.seed)
        folder.save_row(member, row | {"diverged": float(diverged)})


def _facts(dataset: Dataset, settings: PlaneSettings, yardstick: Yardstick) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "source": dataset.source,
        "num_train": len(dataset.train),
        "num_test": len(yardstick.x),
        "num_classes": yardstick.num_classes,
        "label_entropy": yardstick.label_entropy,
        "classifier_accuracy": yardstick.classifier_accuracy,
        "steps": settings.steps,
        "network": settings.network,
        "latent_dims": list(settings.latent_dims),
        "noise_scale": settings.noise_scale,
    }


def _table(members: list[Member], folder: PlaneFolder) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"weight_1": each.weight_1, "weight_2": each.weight_2, "seed": each.seed}
        | folder.load_row(each)
        for each in members
    ]
    return pd.DataFrame(rows)
