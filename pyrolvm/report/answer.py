"""The answer in plain words, derived from the numbers and their standard errors.

Two guides are compared on the same data, so the difference is taken datum by datum, and its
standard error is that of the paired differences. What lies within two standard errors is called
not distinguishable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyrolvm.plots.comparison import ZERO_GAP, ComparisonView, read_comparison
from pyrolvm.plots.quantities import count, fixed, number, percent, with_error
from pyrolvm.report.differences import (
    CLEAR,
    Difference,
    difference,
    known,
    nearest,
    paired_error,
    ranking_quantity,
)

MANY_UNTRUSTED = 0.05
"""Share of data with a high k-hat that is worth a warning."""


class GuideName(str):
    """A guide's name inside a sentence, so that a page can show it in the guide's colour."""

    __slots__ = ()


Sentence = tuple[str | GuideName, ...]


@dataclass(frozen=True)
class Answer:
    """What the numbers say.

    Args:
        headline: Which guide is nearest, and how far it is.
        statements: Where the loss is, what other guides buy, and what not to trust, in reading
            order.
        caveat: What the standard errors hold, and what they do not.
    """

    headline: Sentence
    statements: tuple[Sentence, ...]
    caveat: str

    def __str__(self) -> str:
        lines = ["".join(self.headline), *(f"- {''.join(one)}" for one in self.statements)]
        return "\n".join([*lines, self.caveat])


def answer(tree: xr.DataTree) -> Answer:
    """Say in plain words what a comparison found.

    Args:
        tree: A comparison.

    Returns:
        Sentences, with the guides' names marked.
    """
    comparison = read_comparison(tree)
    exact = [name for name in comparison.names if comparison.is_exact(name)]
    others = [name for name in comparison.names if name not in exact]
    if not others:
        headline: Sentence = (*_listed(exact), " is the exact posterior: its gap is 0.")
        return Answer(headline, _trust(comparison), _caveat(comparison))
    best = nearest(comparison, others)
    statements = (
        *_ties(comparison, best, others),
        *_loss(comparison, others, best),
        *_purchases(comparison, best, others),
        *_exact(comparison, exact),
        *_trust(comparison),
    )
    return Answer(_headline(comparison, best, others, exact), statements, _caveat(comparison))


def _headline(
    comparison: ComparisonView, best: str, others: list[str], exact: list[str]
) -> Sentence:
    gap, error = comparison.cell("gap", best), comparison.cell("gap_se", best)
    distance, unit = with_error(gap, error), comparison.unit
    at_least = "at least " if comparison.is_bound else ""
    if len(others) == 1:
        lead: Sentence = (GuideName(best),)
    elif exact:
        lead = ("Of the guides that are not exact, ", GuideName(best), " comes nearest: it")
    else:
        lead = (GuideName(best), " comes nearest: it")
    if not Difference(gap, error).is_clear or (gap < 0 and not math.isfinite(error)):
        text = f" is not distinguishable from the exact posterior (gap {distance} {unit})."
        if comparison.is_bound:
            text = (
                " is not distinguishable from the bound on the evidence (gap "
                f"{at_least}{distance} {unit}); a bound cannot show that it is exact."
            )
        return (*lead, text)
    if comparison.is_one_datum:
        text = f"{distance} nats away from the exact posterior of the whole data set."
    else:
        text = f"{distance} nats a datum away from the exact posterior."
    return (*lead, f" is {at_least}{text}")


def _ties(comparison: ComparisonView, best: str, others: list[str]) -> tuple[Sentence, ...]:
    quantity = ranking_quantity(comparison)
    tied: list[str | GuideName] = []
    for name in others:
        gain = difference(comparison, name, best, quantity)
        if name != best and not gain.is_clear:
            tied += [", " if tied else "", GuideName(name), f" (difference {gain})"]
    notes: list[Sentence] = []
    if tied:
        notes.append(("Not distinguishable from ", GuideName(best), ": ", *tied, "."))
    if quantity == "elbo":
        notes.append(
            (
                "Guides are ranked by their ELBO, because the evidence is only bounded, and by a "
                "bound of its own for each guide. This presupposes that all of them serve the "
                "same model.",
            )
        )
    evidence = comparison.column("log_evidence")
    if not comparison.is_bound and _spread(evidence) > ZERO_GAP:
        notes.append(
            (
                "The guides do not serve the same model (their log p(x) differ): a smaller gap "
                "then says that the posterior is matched better, not that the data are.",
            )
        )
    return tuple(notes)


def _spread(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if finite.size else 0.0


def _loss(comparison: ComparisonView, others: list[str], best: str) -> tuple[Sentence, ...]:
    """Group the guides by where their loss is."""
    groups: dict[str, list[str]] = {}
    for name in others:
        groups.setdefault(_verdict(comparison, name), []).append(name)
    texts = {
        "approximation": "lose mostly by approximation: what is missing is a richer family; a "
        "larger encoder cannot win that part back.",
        "amortization": "lose mostly by amortization: a better encoder may win that part back "
        "within the same family. Score the training data too: a small gap there asks for more "
        "data or regularisation, a large one for a larger encoder or longer training.",
        "both": "lose by approximation and by amortization about equally: the two parts are not "
        "distinguishable.",
        "none": "show no part of the gap that is distinguishable from 0.",
        "open": "may lose by either: the evidence is only bounded, so the approximation part can "
        "be larger than it looks.",
    }
    sentences: list[Sentence] = []
    for verdict, text in texts.items():
        names = groups.get(verdict, [])
        if names:
            plural = (
                text
                if len(names) > 1
                else text.replace("lose", "loses", 1)
                .replace("show", "shows", 1)
                .replace("loses by either", "lose by either")
            )
            sentences.append((*_listed(names), f" {plural}"))
    amortization = comparison.cell("amortization_gap", best)
    error = comparison.cell("amortization_gap_se", best)
    if math.isfinite(amortization) and amortization > CLEAR * known(error):
        amount = with_error(amortization, error)
        sentences.append(
            (
                "A perfect encoder for ",
                GuideName(best),
                f" would win back {amount} {comparison.unit}, as far as fitting each datum alone "
                "could tell.",
            )
        )
    return tuple(sentences)


def _verdict(comparison: ComparisonView, name: str) -> str:
    parts = ("approximation_gap", "amortization_gap")
    values = [comparison.cell(part, name) for part in parts]
    errors = [known(comparison.cell(f"{part}_se", name)) for part in parts]
    if not all(math.isfinite(value) for value in values):
        return "unknown"
    if not comparison.is_bound and all(
        abs(value) <= CLEAR * error for value, error in zip(values, errors, strict=True)
    ):
        return "none"
    pair = [comparison.per_datum(name, part) for part in parts]
    spread = math.hypot(*errors)
    if pair[0] is not None and pair[1] is not None and pair[0].shape == pair[1].shape:
        spread = paired_error(pair[0] - pair[1])
    lead = Difference(values[0] - values[1], spread)
    if lead.is_clear and lead.value > 0:
        return "approximation"
    if comparison.is_bound:
        return "open"
    return "amortization" if lead.is_clear else "both"


def _purchases(comparison: ComparisonView, best: str, others: list[str]) -> tuple[Sentence, ...]:
    quantity = ranking_quantity(comparison)
    gains = {name: difference(comparison, name, best, quantity) for name in others if name != best}
    clear = {name: gain for name, gain in gains.items() if gain.is_clear}
    if not clear:
        return ()
    parts: list[str | GuideName] = []
    for name in sorted(clear, key=lambda name: -clear[name].value):
        parts += [", " if parts else "", f"{clear[name]} from ", GuideName(name)]
    text = f"{_price(comparison, best)} buys, in {comparison.unit}: "
    return (("Changing to ", GuideName(best), text, *parts, "."),)


def _price(comparison: ComparisonView, name: str) -> str:
    parameters, time = comparison.cell("parameters", name), _time(comparison, name)
    prices = [f"{count(parameters)} parameters"] if math.isfinite(parameters) else []
    prices += [time] if time else []
    return f" ({', '.join(prices)})" if prices else ""


def _time(comparison: ComparisonView, name: str) -> str:
    time = comparison.cell("ms_per_datum", name)
    shown = math.isfinite(time) and not comparison.is_one_datum
    return f"{number(time)} ms a datum" if shown else ""


def _exact(comparison: ComparisonView, exact: list[str]) -> tuple[Sentence, ...]:
    sentences: list[Sentence] = []
    for name in exact:
        time = _time(comparison, name)
        price = f", at {time}" if time else ""
        sentences.append(
            (GuideName(name), f" is the posterior itself: gap 0, constant weights{price}.")
        )
    return tuple(sentences)


def _trust(comparison: ComparisonView) -> tuple[Sentence, ...]:
    shares = {name: comparison.cell("khat_share_above", name) for name in comparison.names}
    many = [name for name, share in shares.items() if share >= MANY_UNTRUSTED]
    if not many:
        return ()
    parts: list[str | GuideName] = []
    for name in many:
        amount = percent(shares[name])
        if comparison.is_one_datum:
            amount = number(comparison.cell("khat_median", name), 2)
        parts += [", " if parts else "", GuideName(name), f" ({amount})"]
    whose = "" if comparison.is_one_datum else "for the data "
    threshold = fixed(comparison.khat_threshold, 2)
    return (
        (
            f"Importance weights are not to be trusted {whose}with k-hat above {threshold}: ",
            *parts,
            ". The gaps do not rest on them"
            + (", but the bound on the evidence may." if comparison.is_bound else "."),
        ),
    )


def _caveat(comparison: ComparisonView) -> str:
    return _of_errors(comparison) + _of_chains(comparison)


def _of_errors(comparison: ComparisonView) -> str:
    once = "Every guide was trained once: another seed can move the numbers"
    if comparison.is_one_datum:
        return (
            "A latent site lies outside the data plate, so the data set as a whole is one datum: "
            "there is no standard error over data, and small differences may be chance. "
            f"{once}."
        )
    if np.isinf(comparison.column("gap_se")).all():
        return (
            "A single datum was scored, so there is no standard error over data, and small "
            f"differences may be chance. {once}."
        )
    scored = comparison.text("scored") or comparison.text("data") or "the scored data"
    return (
        f"± is one standard error over {scored}; differences between guides are taken datum by "
        "datum. “Not distinguishable” means within two standard errors. "
        f"{once} by more than ± says."
    )


def _of_chains(comparison: ComparisonView) -> str:
    chains = [name for name in comparison.names if comparison.is_chain(name)]
    if not chains:
        return ""
    whose = f"The figures of {' and '.join(chains)} are those of whole chains"
    return f" {whose}: where the chain ends is at least as near to the posterior as the gap says."


def _listed(names: list[str]) -> Sentence:
    parts: list[str | GuideName] = []
    for index, name in enumerate(names):
        joint = "" if index == 0 else (" and " if index == len(names) - 1 else ", ")
        parts += [joint, GuideName(name)]
    return tuple(part for part in parts if part)
