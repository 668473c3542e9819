"""The words of a diagnosis: what each diagnostic asks, and what the verdict says in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyrolvm.diagnostics.finding import Finding, Level
from pyrolvm.diagnostics.verdict import DECISIVE, DEFECTS, Verdict, listed


@dataclass(frozen=True)
class Diagnostic:
    """What one diagnostic is called on the page.

    Args:
        key: Its group in the tree.
        title: Its name for a person.
        question: What it answers.
    """

    key: str
    title: str
    question: str

    @property
    def role(self) -> str:
        """Whether the verdict rests on it."""
        if self.key in DECISIVE:
            return "decides"
        return "speaks of the model" if self.key == "prediction" else "explains"


DIAGNOSTICS = (
    Diagnostic(
        "importance", "Importance weights", "Could the guide’s draws stand in for the posterior’s?"
    ),
    Diagnostic("moments", "Centre and spread", "In which direction is the guide off?"),
    Diagnostic("two_sample", "Two-sample tests", "Can its draws be told from the posterior’s?"),
    Diagnostic("calibration", "Calibration", "Do its intervals hold what they claim?"),
    Diagnostic("gaps", "Gap", "How many nats is it off, by its family and by its encoder?"),
    Diagnostic("reference", "Reference draws", "Is there a posterior to hold the guide against?"),
    Diagnostic("evidence", "Evidence", "How well is log p(x) known, which the gap rests on?"),
    Diagnostic("prediction", "Prediction", "Does the fitted model predict data like these?"),
)
"""In the order of the page."""

MARKS: dict[Level, tuple[str, str]] = {
    "good": ("✓", "good"),
    "care": ("!", "care"),
    "bad": ("✕", "bad"),
    "unknown": ("?", "not measured"),
}
"""Sign and word of each level, so that none is told by colour alone."""
SEALS: dict[str, Level] = {"trusted": "good", "use with care": "care", "not trusted": "bad"}


def headline(verdict: Verdict, findings: Sequence[Finding]) -> str:
    """What is wrong, in one sentence for the guide and, apart from it, one for the model."""
    claims = [DEFECTS[defect] for defect in verdict.defects if defect in DEFECTS]
    is_measured = any(f.diagnostic in DECISIVE and f.level != "unknown" for f in findings)
    if claims:
        text = f"The guide {listed(claims)}."
    elif not is_measured:
        text = "Nothing that decides could be measured of the guide."
    elif verdict.answer == "trusted":
        text = "Nothing that was measured speaks against the guide."
    elif verdict.answer == "not trusted":
        text = "The guide is far from the posterior; in which direction could not be told."
    elif not any(f.diagnostic in DECISIVE and f.level == "care" for f in findings):
        text = (
            "Nothing that was measured speaks against the guide, but that rests on its own draws "
            "alone."
        )
    else:
        text = "The guide is not close enough to the posterior for every use."
    misfit = any(f.defect == "model misfit" and f.level in ("bad", "care") for f in findings)
    apart = " Apart from the guide, the model does not predict all features of the data."
    return text + (apart if misfit else "")


def measured(findings: Sequence[Finding]) -> str:
    """Which of the diagnostics that decide were measured, and which were not."""
    known = {f.diagnostic for f in findings if f.level != "unknown"}
    decisive = [d for d in DIAGNOSTICS if d.key in DECISIVE]
    used = [d.title.lower() for d in decisive if d.key in known]
    missing = [d.title.lower() for d in decisive if d.key not in known]
    rests = f"The verdict rests on {listed(used)}" if used else "The verdict rests on nothing yet"
    return f"{rests}; not measured: {listed(missing)}." if missing else f"{rests}."


def worst(findings: Sequence[Finding]) -> Level:
    """The level that a person should see first; unknown only where nothing was measured."""
    levels = {finding.level for finding in findings}
    order: tuple[Level, ...] = ("bad", "care", "good")
    return next((level for level in order if level in levels), "unknown")
