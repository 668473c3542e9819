"""Can I trust this fit? Every diagnostic of a guide, for any Pyro pair, and one verdict.

The parts, each of which can be had alone: the evidence (:func:`pyrolvm.log_evidence`), importance
weights (:class:`~pyrolvm.diagnostics.importance_report.Importance`), moments and two-sample tests
against draws of the posterior (:func:`~pyrolvm.inference.reference.reference_draws`), the split of
the gap (:func:`~pyrolvm.inference.gap_split.gap_split`), calibration on simulated data
(:func:`~pyrolvm.inference.calibration.calibrate`), and predictive checks
(:func:`~pyrolvm.inference.prediction.predict`).

What cannot be measured is not passed over: a finding says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyrolvm.compare import refuse_other_targets
from pyrolvm.core import Data, Model
from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.core.programs import require_pair
from pyrolvm.core.threads import limited_threads
from pyrolvm.diagnosis.effort import Effort, effort_of
from pyrolvm.diagnosis.measuring import Measuring
from pyrolvm.diagnosis.tree import diagnosis_tree
from pyrolvm.diagnostics.diagnosis_tree import findings_dataset, read_findings
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.verdict import Verdict, judge
from pyrolvm.inference.calibration import run_here
from pyrolvm.inference.calibration.refitting import Refit
from pyrolvm.inference.calibration.sharding import Runner

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


@dataclass(frozen=True)
class Diagnosis:
    """What is known of a guide as an approximation of the posterior.

    Args:
        tree: Everything, as an ArviZ tree: the guide's draws with their weights at the root, a
            group for each diagnostic, ``findings`` for the figures and their judgement.
    """

    tree: xr.DataTree

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """Every figure with its judgement."""
        return read_findings(self.tree)

    @cached_property
    def verdict(self) -> Verdict:
        """Trusted, use with care or not trusted, with reasons and what to try next."""
        return judge(self.findings)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a figure: diagnostic, name, value, standard error, unit, level, sentence."""
        return findings_dataset(self.findings).to_dataframe()

    @property
    def per_datum(self) -> pd.DataFrame:
        """One row a datum: ELBO, evidence, gap, k-hat, overlap; nats where they are densities."""
        group = self.tree["per_datum"].to_dataset()
        return (group if "datum" in group.dims else group.expand_dims("datum")).to_dataframe()

    def to_datatree(self) -> xr.DataTree:
        """Return the tree, which ArviZ reads."""
        return self.tree

    def to_html(self, path: str | Path) -> Path:
        """Write the report: one file that needs no network."""
        from pyrolvm.report.diagnosis_page import write

        return write(self.tree, path)

    def __str__(self) -> str:
        attributes = self.tree.attrs
        head = f"{attributes['guide']} for {attributes['model']}, {attributes['scored']}"
        return f"{head}\n{self.verdict}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from pyrolvm.report.diagnosis_page import notebook

        return notebook(self.tree)


def diagnose(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any = None,
    *,
    num_particles: int = 1000,
    effort: str | Effort = "standard",
    refit: Refit | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
    num_threads: int | None = 1,
    progress: bool = True,
) -> Diagnosis:
    """Say whether a guide can be trusted, how far it is from the posterior, where, and why.

    Any Pyro pair will do: functions, modules, autoguides, trained by whatever means. With a latent
    site outside the plate ``"data"``, or without that plate, the whole data set is one datum.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments, trained.
        data: A tensor, or a mapping from argument name to tensor, rows first; None for programs
            that hold their data themselves.
        num_particles: Draws of the guide for each datum.
        effort: ``"quick"`` looks at importance weights and predictions (seconds); ``"standard"``
            adds the posterior of some data, the split of the gap and, for amortized guides,
            calibration (a minute or two); ``"full"`` adds annealing, and calibration by refits.
        refit: ``refit(model, data, seed)`` returns a guide fitted to these data, for calibration
            of a guide whose parameters belong to the data; by default its copy is trained.
        seed: The same seed gives the same figures.
        folder: Folder for the refits, from which an interrupted calibration goes on.
        num_threads: Threads of torch; None leaves them as they are.
        progress: Whether to show progress bars.

    Returns:
        The diagnosis; print it, or write its report with ``to_html``.

    Raises:
        SiteError: If model and guide do not match, or a weight is NaN; it names the site.
        DataError: If the data is empty, not finite or of the wrong shape.
        SettingError: If a latent site is scaled: the target is then not the posterior.
    """
    require_pair(model, guide)
    refuse_other_targets({"guide": guide})
    require_at_least(20, num_particles=num_particles)
    require_seed(seed)
    level = effort_of(effort)
    rows = Data.of(data)
    if isinstance(model, Model):
        model.check_data(rows)
        rows = rows.to(model.device)
    with limited_threads(num_threads):
        work = Measuring(model, guide, rows, num_particles, level, seed, progress)
        work.measure(refit, _runner(folder))
        name = effort if isinstance(effort, str) else "own"
        return Diagnosis(diagnosis_tree(work, name))


def _runner(folder: str | Path | None) -> Runner:
    if folder is None:
        return run_here
    from pyrolvm.studies.calibration_folder import InFolder

    return InFolder(Path(folder) / "calibration")
