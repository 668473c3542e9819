"""The table of a comparison as text: what each column is, and how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.quantities import MISSING, count, number, parts_with_error, percent


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Args:
        text: The value.
        sign: ``"≥"`` or ``"≤"`` where it is only a bound, else empty.
        error: Its standard error; empty where there is none.
    """

    text: str
    sign: str = ""
    error: str = ""

    def __str__(self) -> str:
        if self.text == MISSING:
            return MISSING
        return f"{self.sign} {self.text}".strip() + (f" ± {self.error}" if self.error else "")


@dataclass(frozen=True)
class Column:
    """A column that a comparison can show.

    Args:
        header: Short name.
        unit: Unit, empty for pure numbers.
        note: What it measures and how to read it.
        cells: One cell a guide.
    """

    header: str
    unit: str
    note: str
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """Header with unit, on one line."""
        return f"{self.header} ({self.unit})" if self.unit else self.header


def columns(tree: xr.DataTree) -> list[Column]:
    """The columns of the table; those that a comparison has no numbers for are left out.

    Args:
        tree: A comparison.

    Returns:
        The columns, after the one that names the guides.
    """
    comparison = read_comparison(tree)
    candidates = [
        *_who(comparison),
        *_bounds(comparison),
        *_gaps(comparison),
        *_overlap(comparison),
        *_weights(comparison),
        *_cost(comparison),
    ]
    return [column for column in candidates if any(cell.text != MISSING for cell in column.cells)]


def format_cells(tree: xr.DataTree) -> tuple[list[str], list[list[str]]]:
    """The table as strings, for a terminal or a text file; the page shows the same cells.

    Args:
        tree: A comparison.

    Returns:
        The headers, and one row of strings a guide.
    """
    shown = columns(tree)
    headers = ["guide", *(column.title for column in shown)]
    rows = [
        [name, *(str(column.cells[index]) for column in shown)]
        for index, name in enumerate(read_comparison(tree).names)
    ]
    return headers, rows


def unit(tree: xr.DataTree) -> str:
    """Unit of the densities in the table.

    Args:
        tree: A comparison.

    Returns:
        ``"nats a datum"``; another where the data set as a whole is the only datum.
    """
    return read_comparison(tree).unit


def _plain(
    comparison: ComparisonView, variable: str, write: Callable[[float], str]
) -> tuple[Cell, ...]:
    return tuple(Cell(write(value)) for value in comparison.column(variable).tolist())


def _estimates(comparison: ComparisonView, variable: str, sign: str = "") -> tuple[Cell, ...]:
    cells = []
    for name in comparison.names:
        value, error = comparison.cell(variable, name), comparison.cell(f"{variable}_se", name)
        text, spread = parts_with_error(value, error)
        cells.append(Cell(text, "" if text == MISSING else sign, spread))
    return tuple(cells)


def _words(comparison: ComparisonView, variable: str) -> tuple[Cell, ...]:
    if variable not in comparison.table:
        return tuple(Cell(MISSING) for _ in comparison.names)
    return tuple(Cell(str(word) or MISSING) for word in comparison.table[variable].values)


def _who(comparison: ComparisonView) -> list[Column]:
    kinds, families = _words(comparison, "type"), _words(comparison, "family")
    cells = []
    for name, kind, family in zip(comparison.names, kinds, families, strict=True):
        words = [cell.text for cell in (kind, family) if cell.text != MISSING]
        words += ["chain"] if comparison.is_chain(name) else []
        cells.append(Cell(", ".join(dict.fromkeys(words)) or MISSING))
    return [
        Column(
            "kind",
            "",
            "How the guide gets the parameters of q(z | x), and the family that q belongs to. An "
            "amortized guide computes them by one encoder for all data; a per-datum guide fits "
            "them to each datum alone." + _of_chains(comparison),
            tuple(cells),
        ),
        Column(
            "parameters",
            "",
            "Trainable numbers of the guide (the model's are not counted). Per-datum guides need "
            "some for each datum.",
            _plain(comparison, "parameters", count),
        ),
    ]


def chain_note(tree: xr.DataTree) -> str:
    """What to bear in mind of guides whose density is over whole chains; empty without any.

    Args:
        tree: A comparison.
    """
    return _of_chains(read_comparison(tree)).strip()


def _of_chains(comparison: ComparisonView) -> str:
    chains = [name for name in comparison.names if comparison.is_chain(name)]
    if not chains:
        return ""
    return (
        f" A chain ({', '.join(chains)}) is scored on the space of whole chains: its weights, "
        "k-hat, ESS, overlap and gap speak of the path and of z together. Its gap is at least "
        "that of where the chain ends."
    )


def _over(comparison: ComparisonView) -> str:
    return "of the data set as a whole" if comparison.is_one_datum else "mean over the scored data"


def _bounds(comparison: ComparisonView) -> list[Column]:
    method = comparison.text("evidence_method") or "as computed"
    bound = (
        " It is only a lower bound here (≥), and so are all gaps that are measured against it."
        if comparison.is_bound
        else ""
    )
    over = _over(comparison)
    return [
        Column(
            "ELBO",
            "nats",
            f"Evidence lower bound, {over}; higher is better. What training maximises.",
            _estimates(comparison, "elbo"),
        ),
        Column(
            "log p(x)",
            "nats",
            f"Log evidence, {over}; obtained by: {method}.{bound} It belongs "
            "to the model, not to the guide.",
            _estimates(comparison, "log_evidence", "≥" if comparison.is_bound else ""),
        ),
    ]


def _gaps(comparison: ComparisonView) -> list[Column]:
    sign = "≥" if comparison.is_bound else ""
    is_split = bool(np.isfinite(comparison.column("approximation_gap")).any())
    split = "; it is the sum of the next two columns." if is_split else "."
    return [
        Column(
            "gap",
            "nats",
            "log p(x) − ELBO = KL divergence of the guide from the exact posterior, "
            f"{_over(comparison)}. 0 is exact (printed below 0.000001 nats){split}",
            _estimates(comparison, "gap", sign),
        ),
        Column(
            "approximation",
            "nats",
            "Part of the gap that even the best member of the family leaves, fitted to each "
            "datum alone. Only a richer family reduces it. Per-datum fitting may stop short of "
            "the best member, which would count here.",
            _estimates(comparison, "approximation_gap", sign),
        ),
        Column(
            "amortization",
            "nats",
            "Part of the gap that comes from using one encoder for all data. A larger encoder or "
            "longer training can reduce it. The evidence cancels in it, so it carries no ≥.",
            _estimates(comparison, "amortization_gap"),
        ),
    ]


def _overlap(comparison: ComparisonView) -> list[Column]:
    overlap = Column(
        "BC²",
        "",
        "Squared Bhattacharyya coefficient of guide and posterior, from 0 (apart) to 1 (equal). "
        "It uses the evidence from outside the guide's own draws, so a missed mode lowers it."
        + (
            " The evidence is a lower bound, so this is an upper one (≤)."
            if comparison.is_bound
            else ""
        ),
        _estimates(comparison, "bc2", "≤" if comparison.is_bound else ""),
    )
    if np.all(np.isfinite(comparison.column("bc2"))):
        return [overlap]
    blind = Column(
        "ESS of √w",
        "",
        "Effective share of draws under square-root weights, from 0 to 1. It stands in for BC² "
        "where the evidence is not known from elsewhere, and is blind to modes that the guide "
        "never visits: 1 is no proof.",
        _plain(comparison, "sqrt_weight_ess", number),
    )
    return [overlap, blind]


CONSTANT = "−∞: the weights are constant, as those of the posterior itself are."


def _weights(comparison: ComparisonView) -> list[Column]:
    if comparison.is_one_datum:
        return _weights_of_one_datum(comparison)
    threshold = number(comparison.khat_threshold, 2)
    return [
        Column(
            "k-hat",
            "median",
            "Tail index of the importance weights (Pareto-smoothed), median over data; lower is "
            f"better. {CONSTANT}",
            _plain(comparison, "khat_median", lambda value: number(value, 2)),
        ),
        Column(
            "high k-hat",
            f"share > {threshold}",
            f"Share of the data whose k-hat exceeds {threshold}, the limit for this number of "
            "draws: for these data, numbers that rest on importance weights (ESS, overlap, "
            "importance-sampled evidence) are not to be trusted.",
            _plain(comparison, "khat_share_above", percent),
        ),
        Column(
            "ESS",
            "draws",
            f"Effective number of importance draws a datum{_of_draws(comparison)}, mean over "
            "data. It is blind to missed modes.",
            _plain(comparison, "ess", number),
        ),
    ]


def _weights_of_one_datum(comparison: ComparisonView) -> list[Column]:
    threshold = number(comparison.khat_threshold, 2)
    return [
        Column(
            "k-hat",
            "",
            "Tail index of the importance weights (Pareto-smoothed); lower is better. Above "
            f"{threshold}, the limit for this number of draws, numbers that rest on importance "
            f"weights are not to be trusted. {CONSTANT}",
            _plain(comparison, "khat_median", lambda value: number(value, 2)),
        ),
        Column(
            "ESS",
            "draws",
            f"Effective number of importance draws{_of_draws(comparison)}. It is blind to missed "
            "modes.",
            _plain(comparison, "ess", number),
        ),
    ]


def _of_draws(comparison: ComparisonView) -> str:
    return f" of {comparison.num_particles:,}" if comparison.num_particles else ""


def _cost(comparison: ComparisonView) -> list[Column]:
    seconds = comparison.column("train_seconds")
    time = Column(
        "time",
        "ms/datum",
        "Time to draw from the guide and weigh the draws, a datum, on the machine of this run. "
        "For a per-datum guide it is, nearly all of it, the time of fitting it to the datum.",
        _plain(comparison, "ms_per_datum", number),
    )
    training = Column(
        "training",
        "s",
        "Time that training the guide took; 0 where nothing is trained.",
        _plain(comparison, "train_seconds", lambda value: number(value, 2)),
    )
    shown = [] if comparison.is_one_datum else [time]
    return [*shown, training] if np.any(seconds > 0) else shown
