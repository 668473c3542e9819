r"""Simulation-based calibration: is a guide the posterior on data that the model itself makes?

.. math:: \int p(x) \, p(z \mid x) \, dx = p(z) : \quad z_0 \sim p(z),\; x \sim p(x \mid z_0),\;
          z_1, \dots, z_L \sim q(z \mid x)

If q is the posterior, :math:`z_0, \dots, z_L` cannot be told apart, and the rank of
:math:`f(z_0, x)` among the :math:`f(z_l, x)` is uniform for every f. No reference draws are
needed, and no evidence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyrolvm.core import Data
from pyrolvm.core.errors import require_at_least, require_seed
from pyrolvm.core.programs import require_pair
from pyrolvm.inference.calibration.calibration import Calibration
from pyrolvm.inference.calibration.refitting import FitAgain, Refit, reach_of
from pyrolvm.inference.calibration.shard import ShardRanks
from pyrolvm.inference.calibration.sharding import Runner, Shards, Simulate, run_here

AMORTIZED_SIMULATIONS, REFITTED_SIMULATIONS = 1000, 200
LEAST_SIMULATIONS = 20


def calibrate(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_simulations: int | None = None,
    num_draws: int = 199,
    seed: int = 0,
    refit: Refit | bool | None = None,
    simulate: Simulate | None = None,
    run: Runner = run_here,
    progress: bool = True,
) -> Calibration:
    """Check a guide on data that the model simulates, where the true latents are known.

    An amortized guide is asked about new data as it is; every simulated row is one simulation. A
    guide whose parameters belong to the data (a per-datum guide, Pyro's autoguides, any guide for
    latents outside the data plate) is fitted anew to every simulated data set, from a copy.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments, fitted.
        data: A tensor, or a mapping from argument name to tensor: sizes and covariates are theirs.
        num_simulations: How many; 1,000 for amortized guides, 200 where guides are fitted anew.
            With latents in the data plate every row counts as one.
        num_draws: Draws L of the guide for each simulation; a rank has L + 1 values.
        seed: The same seed gives the same ranks.
        refit: ``refit(model, data, seed)`` returns a guide fitted to these data; True fits a copy
            of the guide by :class:`~pyrolvm.inference.calibration.FitAgain`, False never fits,
            None fits where the guide needs it.
        simulate: ``simulate(seed)`` returns latents by site and data, for programs that
            :func:`~pyrolvm.inference.simulation.simulate` cannot simulate.
        run: Runs the shards: :func:`~pyrolvm.inference.calibration.run_here`, or
            :class:`pyrolvm.studies.calibration_folder.InFolder` for a folder from which a killed
            run goes on, processes and clusters.
        progress: Whether to show a bar.

    Returns:
        The ranks, and what they say.

    Raises:
        SiteError: If model and guide do not match, or the model cannot be simulated.
        SettingError: If there are too few simulations or draws.
    """
    require_pair(model, guide)
    require_seed(seed)
    require_at_least(10, num_draws=num_draws)
    if num_simulations is not None:
        require_at_least(LEAST_SIMULATIONS, num_simulations=num_simulations)
    rows = Data.of(data)
    reach = reach_of(model, guide, rows)
    if refit is True or (refit is None and reach.own_data_only):
        refit = FitAgain(guide)
    fits = refit if callable(refit) else None
    wanted = num_simulations or (REFITTED_SIMULATIONS if fits else AMORTIZED_SIMULATIONS)
    shards = Shards(
        model, guide, rows, wanted, num_draws, seed,
        takes_any_rows=not (reach.own_data_only or fits),
        rows=rows.num_rows if reach.factorises else 1,
        refit=fits,
        simulate=simulate,
    )  # fmt: skip
    found = [ShardRanks.of(record) for record in run(shards, progress)]
    why = (reach.own_data_only or "as asked for") if fits else ""
    return Calibration.joined(found, wanted, num_draws, len(shards), why)
