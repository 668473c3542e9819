"""From the findings of all diagnostics to one answer: can this fit be trusted, and why (not)?

What decides is what was measured of the guide against the posterior: importance weights, moments,
two-sample tests, calibration. The gap and its split say how much and where, the predictive checks
speak of the model: they give reasons, but no verdict on the guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyrolvm.diagnostics.finding import Defect, Finding, Level

Answer: TypeAlias = Literal["trusted", "use with care", "not trusted"]

DECISIVE = ("moments", "importance", "two_sample", "calibration")
"""Diagnostics that compare the guide with the posterior, the one that says most first."""
MOST_REASONS = 6
_ORDER: dict[Level, int] = {"bad": 0, "care": 1, "unknown": 2, "good": 3}


@dataclass(frozen=True)
class Verdict:
    """Whether a fit can be trusted.

    Args:
        answer: ``"trusted"``, ``"use with care"`` or ``"not trusted"``.
        reasons: Sentences, the weightiest first.
        defects: What is wrong with the guide, the weightiest first.
        advice: What to try next, the most promising first.
    """

    answer: Answer
    reasons: tuple[str, ...]
    defects: tuple[Defect, ...]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        head = self.answer.upper()
        if self.defects:
            head += f": the guide is found wanting ({', '.join(self.defects)})"
        lines = [head, *(f"  - {reason}" for reason in self.reasons)]
        if self.advice:
            lines += ["What to try next:", *(f"  - {each}" for each in self.advice)]
        return "\n".join(lines)


def judge(findings: Sequence[Finding]) -> Verdict:
    """Weigh findings.

    Args:
        findings: Of all diagnostics that were run.

    Returns:
        ``"not trusted"`` where a decisive finding is bad, ``"use with care"`` where one asks for
        care or nothing decisive could be measured, ``"trusted"`` elsewhere.
    """
    decisive = [f for f in findings if f.diagnostic in DECISIVE and f.defect != "model misfit"]
    levels = {finding.level for finding in decisive}
    answer: Answer = "trusted"
    if "bad" in levels:
        answer = "not trusted"
    elif "care" in levels or "good" not in levels:
        answer = "use with care"
    ranked = sorted(findings, key=_rank)
    wrong = _one_a_defect([f for f in ranked if f.level in ("bad", "care")])
    shown = [f for f in (wrong or ranked) if f.sentence][:MOST_REASONS]
    unknown = [f for f in ranked if f.level == "unknown" and f not in shown]
    return Verdict(
        answer,
        tuple(dict.fromkeys(f.sentence for f in [*shown, *unknown])),
        _defects(wrong),
        tuple(dict.fromkeys(f.advice for f in wrong if f.advice)),
    )


def _one_a_defect(findings: Sequence[Finding]) -> list[Finding]:
    """The first finding of each diagnostic about each defect; all that name none."""
    kept: dict[object, Finding] = {}
    for position, finding in enumerate(findings):
        key = (finding.diagnostic, finding.defect) if finding.defect else position
        kept.setdefault(key, finding)
    return list(kept.values())


def _defects(wrong: Sequence[Finding]) -> tuple[Defect, ...]:
    """Defects of the guide; moments, which see the posterior, overrule ranks, which see marginals.

    A guide that ignores correlation, for example, has marginals that are too narrow.
    """
    named = [f for f in wrong if f.defect and f.defect != "model misfit"]
    if any(f.diagnostic == "moments" for f in named):
        named = [f for f in named if f.diagnostic != "calibration"]
    return tuple(dict.fromkeys(f.defect for f in named if f.defect))


def _rank(finding: Finding) -> tuple[int, int]:
    """Bad before care before good; what decides before what explains."""
    decisive = finding.diagnostic in DECISIVE
    place = DECISIVE.index(finding.diagnostic) if decisive else len(DECISIVE)
    return _ORDER[finding.level], place
