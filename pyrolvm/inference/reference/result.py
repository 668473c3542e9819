"""Reference draws of posteriors, and whether to believe them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyrolvm.diagnostics.chains import LARGEST_RHAT, SMALLEST_ESS
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.labelling import as_array

if TYPE_CHECKING:
    import xarray as xr

Method = Literal["exact", "NUTS"]


@dataclass(frozen=True, eq=False)
class Reference:
    """Draws of the posterior that a guide is held against.

    Args:
        draws: Unconstrained points, shape ``(R, N, S)``, chain after chain.
        method: ``"exact"`` (independent draws of a known posterior) or ``"NUTS"``.
        names: Of the S coordinates.
        rows: Numbers of the N data; ``(0,)`` where the data set is one datum.
        rhat: Rank-normalised split R-hat, shape ``(N, S)``; 1 for exact draws, NaN where a chain
            stands still.
        ess: Bulk effective sample size of all draws that were made, ``(N, S)``.
        num_chains: Chains that the draws come from, R / num_chains from each; 1 for exact draws.
        num_made: Draws that were made, of which R were kept at equal distances.
        divergences: Trajectories that diverged after the warm-up.
        form: Coordinates in which the chains moved: ``"as written"``, or ``"non-centred"`` where
            the posterior narrows like a funnel; the draws are those of the program as written.
        seconds: Wall time.
        reason: Why nothing should be compared with these draws, one full sentence; empty where
            they are usable.
    """

    draws: Float[Tensor, "draw data S"]
    method: Method
    names: tuple[str, ...]
    rows: tuple[int, ...]
    rhat: Float[Tensor, "data S"]
    ess: Float[Tensor, "data S"]
    num_chains: int = 1
    num_made: int = 0
    divergences: int = 0
    form: str = "as written"
    seconds: float = 0.0
    reason: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether a guide may be compared with these draws."""
        return not self.reason

    @property
    def converged(self) -> Bool[Tensor, " data"]:
        """Whether R-hat < 1.01 and ESS > 400 hold for every coordinate of a datum, ``(N,)``."""
        return ((self.rhat < LARGEST_RHAT) & (self.ess > SMALLEST_ESS)).all(-1)

    @property
    def chains(self) -> Float[Tensor, "chain draw data S"]:
        """The draws by chain."""
        return self.draws.unflatten(0, (self.num_chains, -1))

    def independent(self) -> Float[Tensor, "draw data S"]:
        """About as many draws, at equal distances, as the smallest effective sample size.

        Tests whose null distribution rests on independent draws need these.
        """
        smallest = float(self.ess.min()) if self.ess.numel() else 0.0
        if not len(self.draws) or not math.isfinite(smallest):
            return self.draws
        stride = max(1, math.ceil(len(self.draws) / max(1.0, smallest)))
        return self.chains[:, ::stride].flatten(0, 1)

    def findings(self) -> tuple[Finding, ...]:
        """What to say of the reference itself: whether there is one."""
        if self.method == "exact":
            return (
                Finding(
                    "reference",
                    "reference draws",
                    float(len(self.draws)),
                    unit="draws",
                    sentence=f"The reference is exact: {len(self.draws)} independent draws of "
                    "the known posterior.",
                ),
            )
        worst = float(self.rhat.max()) if self.rhat.numel() else math.nan
        if not self.is_usable:
            return (
                Finding(
                    "reference",
                    "R-hat, largest",
                    worst,
                    level="unknown",
                    sentence=self.reason,
                    advice=self._advice(),
                ),
            )
        return (
            Finding(
                "reference",
                "R-hat, largest",
                worst,
                sentence=f"The reference is {self.num_made} draws of NUTS in {self.num_chains} "
                f"chains that agree: the largest R-hat is {worst:.3f}, the smallest effective "
                f"sample size {float(self.ess.min()):.0f}{self._diverged()}.",
            ),
        )

    def _diverged(self) -> str:
        return f"; {self.divergences} trajectories diverged" if self.divergences else ""

    @staticmethod
    def _advice() -> str:
        return (
            'Give the chains more time (effort="full", or reference_draws with more max_seconds), '
            "or write the model in a form that is easier to sample (non-centred scales, ordered "
            "components)."
        )

    def dataset(self, guide_draws: Float[Tensor, "draw data S"] | None = None) -> xr.Dataset:
        """The draws and what says whether to believe them, as a data set.

        Args:
            guide_draws: Unconstrained points of the guide at the same data, shape ``(K, N, S)``.

        Returns:
            ``reference`` (draw, datum, coordinate), ``guide`` (guide_draw, datum, coordinate),
            ``rhat`` and ``ess`` (datum, coordinate).
        """
        import xarray as xr

        cells = ("datum", "coordinate")
        variables = {
            "reference": (("draw", *cells), as_array(self.draws)),
            "rhat": (cells, as_array(self.rhat)),
            "ess": (cells, as_array(self.ess)),
        }
        if guide_draws is not None:
            variables["guide"] = (("guide_draw", *cells), as_array(guide_draws))
        return xr.Dataset(
            variables,
            coords={"datum": list(self.rows), "coordinate": list(self.names)},
            attrs={
                "method": self.method,
                "is_usable": int(self.is_usable),
                "reason": self.reason,
                "num_chains": self.num_chains,
                "num_made": self.num_made,
                "divergences": self.divergences,
                "form": self.form,
                "seconds": self.seconds,
                "coordinates": "unconstrained",
            },
        )


def no_draws(names: tuple[str, ...], rows: tuple[int, ...], reason: str) -> Reference:
    """A reference without draws, and why.

    Args:
        names: Of the coordinates.
        rows: Of the data.
        reason: One full sentence.
    """
    none = torch.full((len(rows), len(names)), math.nan, dtype=torch.float64)
    empty = none.new_empty((0, len(rows), len(names)))
    return Reference(empty, "NUTS", names, rows, none, none, reason=reason)
