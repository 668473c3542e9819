"""What ``pyrolvm diagnose`` does: import a pair, read its weights and data, keep the diagnosis."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.core.named_programs import importing_from, named_program, source_files
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.weights_file import load_weights
from pyrolvm.datasets.arguments import read_arguments
from pyrolvm.diagnose import diagnose
from pyrolvm.report.diagnosis_folder import is_diagnosed, read_diagnosis, write_diagnosis
from pyrolvm.report.run_folder import RunFolder, default_folder

if TYPE_CHECKING:
    import xarray as xr


def run_diagnose(config: dict[str, Any], out: Path | None) -> tuple[Path, xr.DataTree, bool]:
    """Diagnose a pair and store everything; or read what is stored.

    Args:
        config: Names of model and guide, files of data and weights; particles, effort, seed.
        out: The run folder; named by the configuration's hash where it is None.

    Returns:
        The folder, the tree of the diagnosis, and whether it was made anew.
    """
    require_at_least(2, particles=config["particles"])
    require_seed(config["seed"])
    with importing_from(Path.cwd()):
        with own_randomness(config["seed"]):
            model = named_program(config["model"], "model")
            guide = named_program(config["guide"], "guide")
        data = read_arguments(config["data"], model)
        if config["state"] is not None:
            load_weights(model, guide, data, config["state"])
        config = {**config, "digest": _digest(config)}
        path = out or default_folder(config)
        RunFolder(path, config)
        if is_diagnosed(path):
            return path, read_diagnosis(path), False
        diagnosis = diagnose(
            model,
            guide,
            data,
            num_particles=config["particles"],
            effort=config["effort"],
            seed=config["seed"],
            folder=path,
        )
    tree = diagnosis.tree
    tree.attrs |= {
        "model": config["model"],
        "guide": config["guide"],
        "data": config["data"],
        "config": json.dumps(config),
    }
    write_diagnosis(tree, path)
    return path, tree, True


def _digest(config: dict[str, Any]) -> str:
    """Tell files of one name apart by their content: data, weights and the programs' modules."""
    files = [config["data"], config["state"], *source_files(config["model"], config["guide"])]
    digest = hashlib.sha256()
    for file in files:
        digest.update(b"" if file is None else hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()[:16]
