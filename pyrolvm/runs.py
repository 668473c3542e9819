"""What the command line does: train, compare, and keep everything in a run folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrolvm.amortization import LayeredGuide
from pyrolvm.compare import compare, hold_out
from pyrolvm.core import Data, Guide, Model
from pyrolvm.core.checkpoint import save_tensors
from pyrolvm.core.errors import DeviceError, require_at_least, require_seed
from pyrolvm.core.program_state import program_state
from pyrolvm.core.randomness import own_randomness
from pyrolvm.datasets import Dataset, load
from pyrolvm.fit import fit
from pyrolvm.guides import Amortized
from pyrolvm.registry import default_guides, default_trainer, make_guide, make_model
from pyrolvm.report.run_folder import RunFolder, default_folder

if TYPE_CHECKING:
    import xarray as xr

MOST_ORACLE_STEPS = 800
"""Steps in which per-datum guides are fitted, where training takes as many."""


def run_compare(config: dict[str, Any], out: Path | None) -> tuple[Path, xr.DataTree, bool]:
    """Train a model, compare guides of it, and store everything; or read what is stored.

    Args:
        config: Specifications of model, data and guides; steps, particles, seed, device.
        out: The run folder; named by the configuration's hash where it is None.

    Returns:
        The folder, the comparison tree, and whether it was made anew.
    """
    require_at_least(0, steps=config["steps"])
    require_at_least(2, particles=config["particles"])
    require_seed(config["seed"])
    dataset = load(config["data"], seed=config["seed"])
    train, test, scored = _split(dataset, config["seed"])
    _check_device(config["device"])
    with own_randomness(config["seed"]):
        model = make_model(config["model"], dataset.dim)
        names = config["guides"] or list(default_guides(model))
        guides = {name: _made(name, model, train) for name in names}
        trainer = _made(default_trainer(model), model, train)
    model.check_data(Data.of(train))
    model.check_data(Data.of(test))
    config = {**config, "guides": names, "data_digest": _digest(config["data"])}
    path = out or default_folder(config)
    folder = RunFolder(path, config)
    if folder.is_finished:
        return path, folder.read(), False
    device = config["device"]
    fit(
        model,
        trainer,
        train,
        steps=config["steps"],
        seed=config["seed"],
        device=device,
        checkpoint=path / "checkpoints" / "model.safetensors",
        progress="train model",
    )
    comparison = compare(
        model,
        {name: guide.to(device) for name, guide in guides.items()},
        train.to(device),
        test.to(device),
        steps=config["steps"],
        oracle_steps=min(MOST_ORACLE_STEPS, config["steps"]),
        num_particles=config["particles"],
        seed=config["seed"],
        folder=path,
        facts={
            "title": f"How far is each guide from the posterior? {dataset.name}",
            "data": dataset.name,
            "scored": f"{dataset.name}, {scored}",
            "image_shape": json.dumps(dataset.image_shape),
            "source_note": f"{dataset.source} Licence: {dataset.licence}",
            "config": json.dumps(config),
        },
    )
    folder.write(comparison)
    return path, comparison.tree, True


def run_fit(config: dict[str, Any], out: Path | None) -> str:
    """Train a model together with one guide, and store the weights.

    Args:
        config: Specifications of model, data and guide; steps, seed, device.
        out: The run folder; named by the configuration's hash where it is None.

    Returns:
        One sentence about the fit.
    """
    require_at_least(0, steps=config["steps"])
    require_seed(config["seed"])
    config = {**config, "data_digest": _digest(config["data"])}
    dataset = load(config["data"], seed=config["seed"])
    _check_device(config["device"])
    with own_randomness(config["seed"]):
        model = make_model(config["model"], dataset.dim)
        guide = _made(config["guides"][0], model, dataset.train)
    model.check_data(Data.of(dataset.train))
    folder = RunFolder(out or default_folder(config), config)
    result = fit(
        model,
        guide,
        dataset.train,
        steps=config["steps"],
        seed=config["seed"],
        device=config["device"],
        checkpoint=folder.path / "checkpoints" / "fit.safetensors",
    )
    weights = folder.path / "weights" / "pair.safetensors"
    save_tensors(weights, program_state(model, guide), config)
    last = result.losses[-100:].double().mean().item()
    return (
        f"{result.steps} steps in {result.seconds:.1f} s: loss {last:.4f} nats a datum "
        f"(mean of the last {min(100, result.steps)} steps). Weights: {weights}"
    )


def _made(specification: str, model: Model, x: Tensor) -> Guide:
    """Build a guide; an encoder sees its inputs in units of the training data."""
    guide = make_guide(specification, model)
    return guide.standardise_by(x) if isinstance(guide, (Amortized, LayeredGuide)) else guide


def _split(dataset: Dataset, seed: int) -> tuple[Tensor, Tensor, str]:
    """Training rows, scored rows, and what to call the latter."""
    if dataset.test is not None:
        held_out, total = len(dataset.test), len(dataset.train) + len(dataset.test)
        return dataset.train, dataset.test, f"held-out {held_out} of {total} rows"
    rows, scored, name = hold_out(dataset.train, seed)
    assert rows.positional is not None
    assert scored.positional is not None
    return rows.positional, scored.positional, name


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"--device {device} cannot be used here ({reason}). Try --device cpu."
        ) from error


def _digest(data: str) -> str:
    """Tell files of one name apart by their content; a name of the catalogue stands for itself."""
    path = Path(data)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
