"""From the findings of all diagnostics to one answer: can this fit be trusted, and why (not)?

What decides is what was measured of the guide against the posterior: importance weights, moments,
two-sample tests, calibration. The gap and its split say how much and where, the predictive checks
speak of the model: they give reasons, but no verdict on the guide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pyrolvm.diagnostics.finding import Defect, Finding, Level

Answer: TypeAlias = Literal["trusted", "use with care", "not trusted"]

DECISIVE = ("moments", "importance", "two_sample", "calibration")
"""Diagnostics that compare the guide with the posterior, the one that says most first."""
MOST_REASONS, MOST_UNKNOWN = 6, 2
"""Reasons in all, and those among them that say why something could not be measured."""
MOST_ADVICE = 4
FIRST_GOOD = 2
"""Reasons to trust a guide that come before what is wrong elsewhere."""
MASS_WITHIN_REACH = "posterior mass within reach, lowest"
"""Name of the importance finding that rests on evidence from outside."""
DEFECTS: dict[Defect, str] = {
    "too narrow": "is too narrow",
    "too wide": "is too wide",
    "shifted": "is shifted",
    "ignores correlation": "ignores correlation",
    "misses a mode": "misses a mode",
    "wrong shape": "has the wrong shape",
    "encoder": "has an encoder that loses part of what its family could give",
}
"""What each defect of a guide is in words."""
_VAGUE = ("importance", "two_sample")
"""Diagnostics that see a distance, and no direction."""
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
            head += f": the guide {listed([DEFECTS[each] for each in self.defects])}"
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
        care or nothing was measured that could see a missed region, ``"trusted"`` elsewhere.
    """
    decisive = [f for f in findings if f.diagnostic in DECISIVE and f.defect != "model misfit"]
    levels = {finding.level for finding in decisive}
    ranked = sorted(findings, key=_rank)
    wrong = _one_a_defect([f for f in ranked if f.level in ("bad", "care")])
    unknown = [f for f in ranked if f.level == "unknown" and f.sentence]
    answer: Answer = "trusted"
    if "bad" in levels:
        answer = "not trusted"
    elif "care" in levels or not _looks_outside(decisive):
        answer = "use with care"
    unknown = unknown[:MOST_UNKNOWN]
    good = _one_after_another([f for f in ranked if f.level == "good"])
    shown = wrong or good
    if wrong and answer == "trusted":  # what speaks for the guide, then what else is wrong
        shown = [*[f for f in good if f.diagnostic in DECISIVE][:FIRST_GOOD], *wrong]
    shown = [f for f in shown if f.sentence][: MOST_REASONS - len(unknown)]
    is_blind = answer == "use with care" and "care" not in levels
    reasons = [*unknown, *shown] if is_blind else [*shown, *unknown]
    return Verdict(
        answer,
        tuple(dict.fromkeys(f.sentence for f in reasons)),
        _defects(wrong),
        _advice([*wrong, *(unknown if answer != "trusted" else ())]),
    )


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    Examples:
        >>> listed(["a", "b", "c"])
        'a, b and c'
    """
    head, last = ", ".join(words[:-1]), words[-1]
    return f"{head} and {last}" if head else last


def _looks_outside(decisive: Sequence[Finding]) -> bool:
    """Whether something good was found of the guide that does not rest on its own draws alone."""
    return any(
        f.level == "good" and (f.diagnostic != "importance" or f.name == MASS_WITHIN_REACH)
        for f in decisive
    )


def _one_after_another(findings: Sequence[Finding]) -> list[Finding]:
    """The first finding of each diagnostic, then the second of each, and so on."""
    seen: Counter[str] = Counter()
    turns = []
    for finding in findings:
        turns.append(seen[finding.diagnostic])
        seen[finding.diagnostic] += 1
    return [findings[i] for i in sorted(range(len(findings)), key=turns.__getitem__)]


def _advice(findings: Sequence[Finding]) -> tuple[str, ...]:
    """One piece for each defect, then what names none; what is said of weights comes last."""

    def place(finding: Finding) -> int:
        return 0 if finding.defect else 2 if finding.diagnostic in _VAGUE else 1

    by_subject: dict[str, str] = {}
    for finding in sorted(findings, key=place):
        if finding.advice:
            by_subject.setdefault(finding.defect or finding.advice, finding.advice)
    return tuple(dict.fromkeys(by_subject.values()))[:MOST_ADVICE]


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
    if any(f.defect == "misses a mode" for f in named):  # which shifts and narrows
        named = [f for f in named if f.defect == "misses a mode" or f.diagnostic == "moments"]
    named.sort(key=lambda f: f.diagnostic not in DECISIVE)
    return tuple(dict.fromkeys(f.defect for f in named if f.defect))


def _rank(finding: Finding) -> tuple[int, int]:
    """Bad before care before good; what decides before what explains."""
    diagnostic = finding.diagnostic
    if diagnostic == "reference" and finding.level == "unknown":
        diagnostic = "moments"  # which rest on it
    place = DECISIVE.index(diagnostic) if diagnostic in DECISIVE else len(DECISIVE)
    return _ORDER[finding.level], place
