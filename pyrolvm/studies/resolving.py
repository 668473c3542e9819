"""From the blocks of a study to its cells, with everything refused that cannot run.

Each distinct problem and each distinct pair is built once, without training anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor

from pyrolvm.core import Data, Guide, Model, PyroLVMError
from pyrolvm.core.checkpoint import fingerprint
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.registry import build_guide
from pyrolvm.studies.cell import Cell
from pyrolvm.studies.ensembles import in_ensembles
from pyrolvm.studies.grid import expand
from pyrolvm.studies.learners import LEARNERS, check_learner
from pyrolvm.studies.objectives import OBJECTIVES
from pyrolvm.studies.problem import (
    dataset_of,
    make_generator,
    make_guide_for,
    simulate,
    simulated_size,
)
from pyrolvm.studies.questions import check_missing, check_outliers
from pyrolvm.studies.settings import REQUIRED, SETTINGS, check_keys, checked
from pyrolvm.studies.source import Source, located
from pyrolvm.studies.specification import NAME, resolved_guide, resolved_model

SPECIFICATIONS = ("model", "guide", "truth")


def resolve(blocks: Sequence[Mapping[str, Any]], source: Source) -> tuple[Cell, ...]:
    """Cells of a study in the order of its blocks, each once.

    Args:
        blocks: The grid.
        source: Where its parts were written.

    Raises:
        PyroLVMError: With the place of the mistake: an unknown key, name or option, a value of the
            wrong kind, a guide that cannot serve its model, data that a model cannot have made.
    """
    resolver = _Resolver(source)
    found = (each for n, block in enumerate(blocks) for each in resolver.configurations(block, n))
    return tuple(in_ensembles(list({fingerprint(each): each for each in found}.values())))


@dataclass
class _Resolver:
    source: Source
    _known: dict[str, Any] = field(default_factory=dict)

    def configurations(self, block: Mapping[str, Any], number: int) -> Iterator[dict[str, Any]]:
        for key in block:
            with _Placed(self.source, number, key):
                check_keys({key: None}, "a cell")
        for key, setting in SETTINGS.items():
            if setting.default is REQUIRED and key not in block:
                with _Placed(self.source, number):
                    raise SettingError(f"Block {number + 1} of the grid names no {key}.")
        for given in expand(block):
            yield self._resolved(given, number)

    def _resolved(self, given: Mapping[str, Any], number: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, setting in SETTINGS.items():
            if key not in SPECIFICATIONS:
                with _Placed(self.source, number, key):
                    found[key] = checked(key, given.get(key, setting.default))
        with _Placed(self.source, number, "data"):
            width, digest = self._once(_facts, found["data"], found["model_seed"])
        with _Placed(self.source, number, "model", given["model"]):
            model = self._once(resolved_model, given["model"], width)
            by_helper = found["model_steps"] > 0 and LEARNERS[found["model_learner"]] is None
            self._once(_check_model, model, found["data"], found["train"], by_helper)
        truth = given.get("truth", SETTINGS["truth"].default)
        with _Placed(self.source, number, "truth", truth):
            found["truth"] = self._once(_resolved_truth, truth, model, found["data"])
        with _Placed(self.source, number, "information"):
            _check_information(found["information"], model)
        self._check_questions(found, model, number)
        with _Placed(self.source, number, "guide", given["guide"]):
            guide = self._once(resolved_guide, given["guide"])
            self._once(_check_pair, model, guide, found["objective"])
        resolved = {"model": model, "guide": guide, **found}
        digests = {"data_digest": digest, "outliers_digest": _digest(found["outliers"])}
        return resolved | {key: value for key, value in digests.items() if value}

    def _check_questions(self, found: Mapping[str, Any], model: dict[str, Any], n: int) -> None:
        """Check the settings that need an exact likelihood."""
        with _Placed(self.source, n, "model_learner"):
            self._once(_check_learner, model, found["model_learner"], found["model_steps"])
        with _Placed(self.source, n, "missing"):
            self._once(_check_missing, model, found["missing"])
        with _Placed(self.source, n, "outliers"):
            names = (found["outliers"], found["data"], found["model_seed"])
            self._once(_check_outliers, model, *names)

    def _once(self, function: Any, *arguments: Any) -> Any:
        """Call a function once for each set of arguments."""
        key = fingerprint([function.__name__, *arguments])
        if key not in self._known:
            self._known[key] = function(*arguments)
        return self._known[key]


class _Placed:
    """Puts the line of a key in front of what is raised inside."""

    def __init__(self, source: Source, block: int, key: str = "", given: Any = None) -> None:
        self.source, self.block, self.key, self.given = source, block, key, given

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, PyroLVMError):
            inside, value = self._named(str(error))
            located(error, self.source.place(self.block, self.key, inside, value))

    def _named(self, message: str) -> tuple[str | None, str]:
        """Which key of a given table a message is about, and what stands there."""
        if not isinstance(self.given, Mapping):
            return None, f'"{self.given}"' if isinstance(self.given, str) else ""
        for key, value in self.given.items():
            if re.search(rf"\b{re.escape(key)}\b", message.split(". ", maxsplit=1)[0]):
                return key, json.dumps(value)
        return NAME, json.dumps(self.given.get(NAME))


def _facts(data: str, model_seed: int) -> tuple[int | None, str]:
    """Width of a data set, None for simulated data; and the digest of a file."""
    if simulated_size(data) is not None:
        return None, ""
    return dataset_of(data, model_seed).dim, _digest(data)


def _digest(data: str) -> str:
    """Digest of a data set that is a file; empty for others."""
    path = Path(data)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


def _resolved_truth(given: Any, model: dict[str, Any], data: str) -> Any:
    """Canonical form of the generator that rows come from; empty where it is the model."""
    if not given:
        return ""
    truth = resolved_model(given, None)
    if simulated_size(data) is None:
        raise SettingError(f"A truth makes simulated rows, but the data are {data!r}.")
    rows = simulate(_built(truth["name"], make_generator, {"model": truth, "model_seed": 0}), 2, 0)
    seen = make_generator({"model": model, "model_seed": 0})
    if isinstance(seen, Model):
        seen.check_data(Data.of(rows))
    return truth


def _check_information(nats: float, model: dict[str, Any]) -> None:
    if nats and "noise_scale" not in model:
        raise SettingError(
            f"information chooses the noise_scale of a generator, but {model['name']} takes none."
        )


def _check_learner(table: dict[str, Any], learner: str, steps: int) -> None:
    if LEARNERS[learner] is not None:
        check_learner(learner, make_generator({"model": table, "model_seed": 0}), steps)


def _check_missing(table: dict[str, Any], share: float) -> None:
    if share:
        check_missing(make_generator({"model": table, "model_seed": 0}))


def _check_outliers(table: dict[str, Any], outliers: str, data: str, model_seed: int) -> None:
    if outliers:
        model = make_generator({"model": table, "model_seed": 0})
        check_outliers(outliers, data, model_seed, model)


def _check_model(table: dict[str, Any], data: str, train: str, by_helper: bool) -> None:
    """Build a generator, and let it see a few rows."""
    configuration = {"model": table, "model_seed": 0}
    model = _built(table["name"], make_generator, configuration)
    if simulated_size(data) is not None:
        simulate(model, 2, 0)
    elif isinstance(model, Model):
        dataset = dataset_of(data, 0)
        for rows in (dataset.train, dataset.test):
            if rows is not None:
                model.check_data(Data.of(rows))
    if by_helper:
        with own_randomness():
            build_guide("amortized", {"family": "full"}, model)
    if train == "both" and not isinstance(model, torch.nn.Module):
        raise SettingError(
            f'train = "both" needs a model that is a torch module, but {table["name"]} is none.'
        )


def _check_pair(model_table: dict[str, Any], guide_table: dict[str, Any], objective: str) -> None:
    """Build a guide for a model; it must be one that the objective can train."""
    configuration = {"model": model_table, "guide": guide_table, "model_seed": 0}
    model = make_generator(configuration)
    x: Tensor = torch.zeros(2, getattr(model, "obs_dim", 1))
    guide = _built(guide_table["name"], make_guide_for, model, configuration, 0, x)
    loss = OBJECTIVES[objective]
    if loss is not None and isinstance(guide, Guide) and not guide.per_datum:
        with own_randomness(0), torch.no_grad(), pyro.get_param_store().scope():
            loss(model, guide, x)


def _built(name: str, make: Any, *arguments: Any) -> Any:
    """Build something; a constructor that chokes on a value is the study's mistake."""
    try:
        return make(*arguments)
    except PyroLVMError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise SettingError(f"{name} cannot be built from these arguments: {error}") from error
