"""Copies of models and guides that share nothing with the originals."""

from __future__ import annotations

import copy
import weakref
from typing import Any

from pyro.infer.autoguide import AutoGuide
from torch import nn


def copied(*modules: nn.Module) -> tuple[Any, ...]:
    """Copy modules together, so that a copied guide refers to the copied model.

    Pyro's autoguides forget their model when they are copied, the original too; here both keep it.

    Args:
        *modules: Models and guides.
    """
    autoguides = [p for m in modules for p in m.modules() if isinstance(p, AutoGuide)]
    held = [(part._model, part.master) for part in autoguides]
    twins = copy.deepcopy(modules)
    pairs = zip(modules, twins, strict=True)
    twin_of: dict[int, Any] = {
        id(a): b for m, t in pairs for a, b in zip(m.modules(), t.modules(), strict=True)
    }
    for part, (model, master) in zip(autoguides, held, strict=True):
        part._model, part.master = model, master
        twin = twin_of[id(part)]
        twin._model = copy.deepcopy(model, dict(twin_of))  # it may be wrapped in messengers
        if master is not None:
            twin.master = weakref.ref(twin_of[id(master())])
    return twins
