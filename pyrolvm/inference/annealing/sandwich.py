r"""Bidirectional Monte Carlo: how far off annealing is, on data that the model itself made.

.. math:: E\big[\log \tfrac1K \sum_k w_k\big] \;\le\; \log p(x) \;\le\;
          -E\big[\log \tfrac1K \sum_k 1 / w_k'\big]

w comes from the forward run, w' from reverse runs that leave from the latents z that made x:
(z, x) ~ p(z, x), so that z is an exact draw of the posterior of x. The width bounds the error of
annealing at these settings; it carries over to other data as far as these look like the model's.

References:
    Grosse, Ghahramani & Adams (2015), Sandwiching the Marginal Likelihood Using Bidirectional
    Monte Carlo.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.data import Data
from pyrolvm.core.errors import require_seed
from pyrolvm.core.randomness import own_randomness
from pyrolvm.diagnostics import iwae
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.inference.annealing.runs import (
    AnnealingSettings,
    annealing_path,
    cool,
    heat,
    progress_bar,
    row_slices,
)
from pyrolvm.inference.annealing.tuning import tune
from pyrolvm.inference.simulation import simulate

if TYPE_CHECKING:
    import xarray as xr

GOOD_WIDTH = 0.5
"""Nats a datum up to which the evidence is called known."""


@dataclass(frozen=True)
class Sandwich:
    """Lower and upper bounds on log p(x) of simulated data.

    Args:
        data: The simulated data.
        lower: Forward estimates in nats, shape ``(N,)``.
        upper: Reverse estimates in nats, shape ``(N,)``.
        settings: How long annealing took.
    """

    data: Data
    lower: Float[Tensor, " data"]
    upper: Float[Tensor, " data"]
    settings: AnnealingSettings

    @property
    def width(self) -> float:
        """Mean of upper minus lower in nats: bounds the mean error of the lower one."""
        return (self.upper - self.lower).mean().item()

    @property
    def width_error(self) -> float:
        """Standard error of the width, over data; infinite for one."""
        size = len(self.lower)
        spread = (self.upper - self.lower).std().item() if size > 1 else math.inf
        return spread / math.sqrt(size)

    def findings(self) -> tuple[Finding, ...]:
        """How far annealing can be off: one finding."""
        known = self.width + (2 * self.width_error if len(self.lower) > 1 else 0.0) <= GOOD_WIDTH
        return (
            Finding(
                "evidence", "sandwich width", self.width, self.width_error, "nats",
                "good" if known else "care",
                f"On {len(self.lower)} simulated data, forward and reverse annealing enclose "
                f"log p(x) within {self.width:.2g} nats a datum ({self.settings.method}).",
                advice="" if known else (
                    "Use more temperatures until the two meet, or start from the guide: "
                    "AnnealingSettings(num_temperatures=..., start='guide')."
                ),
            ),
        )  # fmt: skip

    def dataset(self) -> xr.Dataset:
        """Both bounds as arrays over ``simulation``, in nats."""
        import xarray as xr

        arrays = {"lower": self.lower, "upper": self.upper}
        return xr.Dataset(
            {name: ("simulation", value.cpu().numpy()) for name, value in arrays.items()},
            attrs={
                "sandwich_method": self.settings.method,
                "sandwich_width": self.width,
                "sandwich_width_se": self.width_error,
            },
        )

    def __str__(self) -> str:
        lower, upper = self.lower.mean().item(), self.upper.mean().item()
        return (
            f"{lower:.2f} <= log p(x) <= {upper:.2f} nats on {len(self.lower)} simulated data: "
            f"width {self.width:.2g} ± {self.width_error:.1g} ({self.settings.method})"
        )


def sandwich(
    model: Callable[..., Any],
    data: Any,
    settings: AnnealingSettings | None = None,
    *,
    guide: Callable[..., Any] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Sandwich:
    """Anneal simulated data forwards and back again.

    Args:
        model: A Pyro program with continuous latents.
        data: Gives sizes and covariates; as many data are simulated as it has rows.
        settings: How long it takes; the width speaks of these.
        guide: A Pyro program with the same arguments, where annealing starts from one.
        seed: The same seed gives the same bounds.
        progress: Whether to show a progress bar.

    Raises:
        SiteError: If the model cannot be simulated, or a latent site is discrete.
    """
    settings = settings or AnnealingSettings()
    require_seed(seed)
    simulated = simulate(model, data, seed, guide=guide)
    rows = simulated.data
    bounds = []
    with own_randomness(seed + 1):
        slices = row_slices(model, rows, settings.num_chains)
        bar = progress_bar(2 * settings.num_temperatures * len(slices), rows, progress)
        for part in slices:
            with annealing_path(model, rows.rows(part), settings, guide) as path:
                values = simulated.values
                if path.space.factorises:
                    values = {name: value[:, part] for name, value in values.items()}
                exact = path.space.to_points(values)
                schedule = tune(path, settings.num_leapfrog).schedule
                forward, _ = cool(path, schedule, settings, bar.update)
                reverse = heat(path, schedule, settings, exact, bar.update)
                bounds.append((iwae(forward), -iwae(-reverse)))
        bar.close()
    lower, upper = (torch.cat(each) for each in zip(*bounds, strict=True))
    return Sandwich(rows, lower, upper, settings)
