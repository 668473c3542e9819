"""PyroLVM: how far is my guide from the posterior, and what would another guide buy me?

>>> import pyrolvm as lvm
>>> from pyrolvm import guides, models
>>> model = models.CPAGenerator(latent_dim=2, obs_dim=64, hidden=(16,), noise_scale=0.1)
>>> guide = guides.Amortized(model, family="full", hidden=(64,))

Then ``lvm.fit`` trains, ``lvm.compare`` scores guides against the posterior, ``lvm.diagnose`` says
whether any Pyro pair can be trusted, and ``lvm.log_evidence`` is exact where the model allows it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyrolvm.compare import Comparison, compare, score
    from pyrolvm.core.errors import PyroLVMError
    from pyrolvm.core.estimate import Estimate
    from pyrolvm.core.log_densities import LogDensities, log_densities
    from pyrolvm.core.weights_file import save_weights
    from pyrolvm.diagnose import Diagnosis, diagnose
    from pyrolvm.fit import Fit, fit
    from pyrolvm.fit_em import fit_em
    from pyrolvm.fit_ensemble import EnsembleFit, EnsembleMember, fit_ensemble
    from pyrolvm.fit_exact import fit_exact
    from pyrolvm.fit_restarts import Restarts, fit_restarts
    from pyrolvm.inference.calibration.calibrate import calibrate
    from pyrolvm.inference.calibration.calibration import Calibration
    from pyrolvm.inference.evidence_routes import log_evidence
    from pyrolvm.inference.from_pyro import from_pyro_mcmc, from_pyro_svi
    from pyrolvm.inference.invertibility import Invertibility, invertibility
    from pyrolvm.inference.kl_trace import KLTrace
    from pyrolvm.inference.layer_rates import LayerRates, layer_rates
    from pyrolvm.inference.pstar import PStar
    from pyrolvm.objectives.anchored_warm_start import AnchoredWarmStart
    from pyrolvm.objectives.compiled.compiled_svi import CompiledSVI
    from pyrolvm.studies.study import Study, StudyResult

__version__ = "0.1.0"

__all__ = [
    "AnchoredWarmStart",
    "Calibration",
    "Comparison",
    "CompiledSVI",
    "Diagnosis",
    "EnsembleFit",
    "EnsembleMember",
    "Estimate",
    "Fit",
    "Invertibility",
    "KLTrace",
    "LayerRates",
    "LogDensities",
    "PStar",
    "PyroLVMError",
    "Restarts",
    "Study",
    "StudyResult",
    "calibrate",
    "compare",
    "diagnose",
    "fit",
    "fit_em",
    "fit_ensemble",
    "fit_exact",
    "fit_restarts",
    "from_pyro_mcmc",
    "from_pyro_svi",
    "invertibility",
    "layer_rates",
    "log_densities",
    "log_evidence",
    "save_weights",
    "score",
]

_HOMES = {
    "AnchoredWarmStart": "pyrolvm.objectives.anchored_warm_start",
    "Calibration": "pyrolvm.inference.calibration",
    "Comparison": "pyrolvm.compare",
    "Diagnosis": "pyrolvm.diagnose",
    "CompiledSVI": "pyrolvm.objectives.compiled.compiled_svi",
    "EnsembleFit": "pyrolvm.fit_ensemble",
    "EnsembleMember": "pyrolvm.fit_ensemble",
    "Estimate": "pyrolvm.core.estimate",
    "Fit": "pyrolvm.fit",
    "Invertibility": "pyrolvm.inference.invertibility",
    "KLTrace": "pyrolvm.inference.kl_trace",
    "LayerRates": "pyrolvm.inference.layer_rates",
    "LogDensities": "pyrolvm.core.log_densities",
    "PStar": "pyrolvm.inference.pstar",
    "PyroLVMError": "pyrolvm.core.errors",
    "Restarts": "pyrolvm.fit_restarts",
    "Study": "pyrolvm.studies.study",
    "StudyResult": "pyrolvm.studies.study",
    "calibrate": "pyrolvm.inference.calibration",
    "compare": "pyrolvm.compare",
    "diagnose": "pyrolvm.diagnose",
    "fit": "pyrolvm.fit",
    "fit_ensemble": "pyrolvm.fit_ensemble",
    "fit_em": "pyrolvm.fit_em",
    "fit_exact": "pyrolvm.fit_exact",
    "fit_restarts": "pyrolvm.fit_restarts",
    "from_pyro_mcmc": "pyrolvm.inference.from_pyro",
    "from_pyro_svi": "pyrolvm.inference.from_pyro",
    "invertibility": "pyrolvm.inference.invertibility",
    "layer_rates": "pyrolvm.inference.layer_rates",
    "log_densities": "pyrolvm.core.log_densities",
    "log_evidence": "pyrolvm.inference.evidence_routes",
    "save_weights": "pyrolvm.core.weights_file",
    "score": "pyrolvm.compare",
}

_PARTS = (
    "datasets",
    "families",
    "guides",
    "identifiability",
    "models",
    "objectives",
    "plots",
    "report",
    "studies",
)


class _Package(ModuleType):
    """Loads what is asked for on first use, so that ``pyrolvm --help`` need not wait for torch.

    ``fit``, ``compare`` and a few others are functions in modules of the same name: Python would
    let the module take the function's place as soon as it is imported, so these names always lead
    to the functions.
    """

    def __getattr__(self, name: str) -> Any:
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
            ModuleType.__setattr__(self, name, value)
            return value
        if name in _PARTS:
            return importlib.import_module(f"{self.__name__}.{name}")
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _HOMES and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__, *_PARTS})


sys.modules[__name__].__class__ = _Package
