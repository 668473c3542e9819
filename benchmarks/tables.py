"""Tables of what was measured, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from benchmarks.svi_steps.cases import CASES

BASE = "by hand, eager"
COLUMNS = (
    "Pyro SVI", "PyroLVM, uncompiled", "by hand, compiled", "NumPyro, jitted", "NumPyro, scanned",
    "PyroLVM, compiled", "PyroLVM, unrolled",
)  # fmt: skip


def markdown(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_table(facts: Mapping[str, str]) -> str:
    """What it was measured on."""
    return markdown(("", ""), [(name, value) for name, value in facts.items()])


def steps_table(summary: pd.DataFrame) -> str:
    """Ratio of each way to the eager step by hand: median and range over rounds, a row a case."""
    rows = []
    for case in dict.fromkeys(summary["case"]):
        ways = summary[summary["case"] == case].set_index("way")
        base = f"{ways.loc[BASE, 'median_us']:,.0f} µs"
        rows.append([CASES[case].title, base, *(_ratio(ways, way) for way in COLUMNS)])
    return markdown(("step", BASE, *COLUMNS), rows)


def fits_table(summary: pd.DataFrame, base: str) -> str:
    """Throughput of sixteen fits relative to plain Pyro's."""
    rows = [
        [
            str(way), f"{row['median_us'] / 1000:,.2f} ms",
            f"{1 / row['ratio']:.1f} ({1 / row['high']:.1f} to {1 / row['low']:.1f})",
        ]
        for way, row in summary.sort_values("ratio", ascending=False).iterrows()
    ]  # fmt: skip
    return markdown(("16 fits", "a step of all", f"throughput relative to {base}"), rows)


def starts_table(starts: pd.DataFrame) -> str:
    """Seconds until three calls are taken."""
    rows = [
        [
            CASES[row["case"]].title, row["way"], row["start"],
            f"{row['wall']:.1f} s", f"{row['cpu']:.1f} s",
        ]
        for _, row in starts.iterrows()
    ]  # fmt: skip
    return markdown(("step", "", "start", "wall", "CPU"), rows)


def growth_table(exponents: pd.DataFrame) -> str:
    """Exponents of all curves."""
    rows = [
        [
            str(curve), f"{row['exponent']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
            f"{row['from']:,.0f} to {row['to']:,.0f}",
            f"{row['from_ms']:.3g} to {row['to_ms']:.3g} ms",
        ]
        for curve, row in exponents.iterrows()
    ]  # fmt: skip
    return markdown(("cost", "exponent", "sizes", "CPU time"), rows)


def memory_table(found: pd.DataFrame) -> str:
    """Peak memory of comparisons."""
    rows = [
        [
            row["pair"], f"{row['data']:,} × {row['draws']:,}", f"{row['peak GiB']:.2f} GiB",
            f"{row['GiB before']:.2f} GiB", f"{row['seconds']:.0f} s",
        ]
        for _, row in found.iterrows()
    ]  # fmt: skip
    headers = ("`lvm.compare`", "data × draws", "peak memory", "before", "wall time")
    return markdown(headers, rows)


def _ratio(ways: pd.DataFrame, way: str) -> str:
    if way not in ways.index:
        return "–"
    row = ways.loc[way]
    return f"**{row['ratio']:.2f}** ({row['low']:.2f} to {row['high']:.2f})"
