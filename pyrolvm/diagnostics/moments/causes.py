"""Which defect explains an error: one cause can make several figures wrong.

A guide that misses a mode has the wrong mean, width and shape for that reason. A guide without
the posterior's correlations that maximises the ELBO is as narrow as the conditional posterior, and
must be. Neither is called too narrow: what would help is another mode, or a covariance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from pyrolvm.diagnostics.finding import Defect
from pyrolvm.diagnostics.moments.thresholds import CARE_CORRELATION, CARE_LOG_SD, CARE_MISSED
from pyrolvm.diagnostics.significance import critical_value

if TYPE_CHECKING:
    from pyrolvm.diagnostics.moments.result import Moments

Flags = Tensor


class Causes(NamedTuple):
    """The defect that each figure shows, should it be wrong.

    Args:
        defects: The defects; the first one is the figure's own.
        which: Index of a defect for each figure.
    """

    defects: tuple[Defect, ...]
    which: Tensor

    @classmethod
    def of(cls, like: Tensor, own: Defect, **flags: Flags) -> Causes:
        """The figure's own defect, unless a flag raises another; the last one raised wins.

        Args:
            like: Of the figure's shape.
            own: Its own defect.
            **flags: Data or figures by defect, blanks written as underscores.
        """
        which = torch.zeros(like.shape, dtype=torch.long)
        for index, flag in enumerate(flags.values(), 1):
            of_shape = flag if flag.ndim == like.ndim else flag[:, None]
            which[of_shape.expand(like.shape)] = index
        others = tuple(name.replace("_", " ") for name in flags)
        return cls((own, *others), which)  # type: ignore[arg-type]


def counts(size: Tensor, error: Tensor, care: float, comparisons: int = 1) -> Flags:
    """Whether each figure is above a threshold, and above chance as the worst of them all.

    Args:
        size: Greater is worse.
        error: Standard errors, of the same shape.
        care: The threshold.
        comparisons: Figures that each one is the worst of.
    """
    return (size > care) & (size > critical_value(size.numel() * comparisons) * error)


def misses_a_mode(moments: Moments) -> Bool[Tensor, " data"]:
    """Data whose posterior has a mode that the guide does not visit often enough."""
    modes = moments.modes
    return counts(modes.missed, modes.standard_error, CARE_MISSED)


def correlation_is_wrong(moments: Moments) -> Bool[Tensor, " data"]:
    """Data with a correlation that the guide gets wrong."""
    error = moments.correlation
    pairs = moments.num_pairs
    return counts(error.value.abs(), error.standard_error, CARE_CORRELATION, pairs)


def ignores_correlation(moments: Moments) -> Bool[Tensor, " data"]:
    """Data where the correlation that is furthest off is too weak in the guide."""
    correlation = moments.correlation
    guide = (correlation.posterior + correlation.value).abs()
    return correlation_is_wrong(moments) & (guide < correlation.posterior.abs())


def is_conditional_width(moments: Moments) -> Bool[Tensor, "data coordinate"]:
    """Marginals no narrower than the conditional posterior, where correlations are ignored."""
    ratio, error = moments.log_sd_ratio
    slack = (critical_value(ratio.numel()) * error).clamp(min=CARE_LOG_SD)
    at_least = ratio + slack >= moments.conditional_log_sd.nan_to_num(nan=torch.inf)
    return ignores_correlation(moments)[:, None] & at_least


def is_joint(moments: Moments, direction: Tensor) -> Bool[Tensor, " data"]:
    """Data whose marginals are far from as wrong as a direction: what is left is correlation."""
    side = direction.sign()[:, None]
    return (side * moments.log_sd_ratio.value).amax(-1) < direction.abs() / 2
