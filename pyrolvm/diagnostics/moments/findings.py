"""One finding for each question: is there an error beyond chance, where is it worst, and why?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyrolvm.diagnostics.finding import Defect, Finding
from pyrolvm.diagnostics.moments.causes import counts
from pyrolvm.diagnostics.moments.questions import Question, questions
from pyrolvm.diagnostics.moments.words import ADVICE
from pyrolvm.diagnostics.significance import critical_value

if TYPE_CHECKING:
    from pyrolvm.diagnostics.moments.result import Moments

FIRST: tuple[Defect, ...] = ("misses a mode", "ignores correlation")
"""Defects that explain others are named first."""


def moment_findings(moments: Moments) -> tuple[Finding, ...]:
    """One finding for each question, those of defects that explain others first.

    Args:
        moments: The figures.

    Returns:
        Findings of the diagnostic ``"moments"``.
    """
    found = [_answer(question, moments) for question in questions(moments)]
    return tuple(sorted(found, key=lambda one: one.defect not in FIRST))


def _answer(question: Question, moments: Moments) -> Finding:
    value, error = question.figure
    size = question.side * value if question.side else value.abs()
    size = torch.where(size.isnan(), -torch.inf, size)
    found = counts(size, error, question.threshold.care, question.comparisons)
    if not found.any():
        return _denial(question, size)
    own = found & (question.causes.which == 0)
    worst = _worst(size, own if own.any() else found)
    defect = question.causes.defects[int(question.causes.which.flatten()[worst])]
    sentence = question.words(moments, *divmod(worst, value[0].numel()), defect)
    number = int(found.sum())
    return Finding(
        diagnostic="moments",
        name=question.name,
        value=value.flatten()[worst].item(),
        standard_error=error.flatten()[worst].item(),
        unit=question.unit,
        level=question.threshold.level(size.flatten()[worst].item()),
        sentence=sentence + (f" ({number} of {found.numel()} are off)." if number > 1 else "."),
        defect=defect,
        advice=ADVICE[defect],
    )


def _denial(question: Question, size: Tensor) -> Finding:
    """No error beyond chance and threshold, or draws too few to see one."""
    value, error = (each.flatten() for each in question.figure)
    worst = _worst(size, size > -torch.inf)
    critical = critical_value(size.numel() * question.comparisons)
    resolution = question.threshold.resolution
    is_fine = critical * error.nanmedian().item() <= resolution
    is_below = bool((size.flatten() + critical * error.nan_to_num(nan=torch.inf) <= 0).all())
    is_known = bool((size > -torch.inf).any()) and (is_fine or is_below)
    shown = value[worst].item() if question.side else abs(value[worst].item())
    figure = question.show(shown, error[worst].item())
    if is_known:
        sentence = question.denial.format(figure) + "."
    else:
        sentence = (
            f"Nothing can be said of the {question.name}: the draws are too few, or the "
            f"coordinates too many (the most extreme is {figure})."
        )
    return Finding(
        diagnostic="moments",
        name=question.name,
        value=value[worst].item(),
        standard_error=error[worst].item(),
        unit=question.unit,
        level="good" if is_known else "unknown",
        sentence=sentence,
    )


def _worst(size: Tensor, among: Tensor) -> int:
    return int(torch.where(among, size, -torch.inf).argmax())
