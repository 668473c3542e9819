"""R-hat over runs: do the draws of several runs for one datum agree, as good chains would?

It says so where an observation has one latent code. Elsewhere good runs differ, and R-hat would
take that for a failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.diagnostics.chains import FEWEST_DRAWS, chain_rhat
from pyrolvm.identifiability import IdentifiabilityReport, check
from pyrolvm.inference.run_codes import RunCodes

ROWS = 100
"""Data whose draws are compared across runs."""


def checked(model: Any) -> IdentifiabilityReport | None:
    """What a model identifies; None for programs that do not say what they are."""
    try:
        return check(model)
    except IncompatiblePairError:
        return None


def runs_rhat(
    codes: Sequence[RunCodes], reports: Sequence[IdentifiabilityReport | None]
) -> tuple[Float[Tensor, "data D"] | None, str]:
    """R-hat of the draws for the first data, with runs as chains.

    Args:
        codes: Of the runs that count.
        reports: What the model of each identifies.

    Returns:
        R-hat, or None where it would mean nothing, and the reason.
    """
    weak = [report for report in reports if report is None or not report.is_strong]
    if weak:
        level = "not known" if weak[0] is None else repr(weak[0].level)
        return None, (
            f"R-hat over runs means nothing here: what the model identifies is {level}, and not "
            "'strong', so that good runs may differ."
        )
    if len(codes) < 2:
        return None, "R-hat over runs needs two runs that did not fail."
    draws = [each.draws[:, :ROWS] for each in codes if each.draws is not None]
    if len(draws) < len(codes) or len(draws[0]) < FEWEST_DRAWS:
        return None, "Codes are exact or have few draws: R-hat over runs has no spread to go by."
    return chain_rhat(torch.stack(draws)), "The model is strongly identified."
