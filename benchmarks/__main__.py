"""Measure everything that the page on speed shows: ``python -m benchmarks``.

Within each part all ways take turns in random order, so that a busy machine slows all of them;
ratios are taken round by round. The output folder gets ``speed.md`` with the tables, ``speed.svg``
and ``cost.svg``, the raw rounds as CSV, and ``machine.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks import figures, growth, many_fits, peak_memory, tables
from benchmarks.interleaved import ratios
from benchmarks.machine import load, machine
from benchmarks.svi_steps.cases import CASES
from benchmarks.svi_steps.measure import step_times

PARTS = (*CASES, "many-fits", "growth", "memory")


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m benchmarks --only tiny-vae,many-fits --rounds 5",
    )  # fmt: skip
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each part")
    parser.add_argument("--seconds", type=float, default=0.3, help="CPU time of a way in a round")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder")
    parser.add_argument("--quick", action="store_true", help="shows that it runs, no more")
    found = parser.parse_args(given)
    found.only = [part.strip() for part in found.only.split(",")]
    unknown = sorted(set(found.only) - set(PARTS))
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    if found.quick:
        found.rounds, found.seconds = 2, 0.02
    return found


class Page:
    """The page with all tables, written anew after each part.

    Args:
        folder: Where it and the raw rounds go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.parts = folder, [f"{tables.machine_table(machine())}"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")

    def add(self, name: str, text: str, raw: pd.DataFrame) -> None:
        """Print a part, and keep it with its raw rounds."""
        text = f"## {name}\n\n{text}\n\nLoad at the end: {load():.1f}."
        print(f"\n{text}", flush=True)
        self.parts.append(text)
        (self.folder / "speed.md").write_text("\n\n".join(self.parts) + "\n")
        raw.to_csv(self.folder / f"{name.lower().replace(' ', '-')}.csv", index=False)


def steps(page: Page, chosen: list[str], rounds: int, seconds: float, warm: bool) -> None:
    """Time a step of each case."""
    found, starts, summaries = [], [], []
    for name in chosen:
        times = step_times(name, rounds, seconds, warm)
        found.append(times.rounds)
        starts.append(times.starts)
        summary = ratios(times.rounds, tables.BASE).reset_index(names="way").assign(case=name)
        summaries.append(summary)
        print(f"\n{tables.steps_table(summary)}\nload {load():.1f}", flush=True)
    summary = pd.concat(summaries)
    page.add("Steps", tables.steps_table(summary), pd.concat(found))
    page.add("Starts", tables.starts_table(pd.concat(starts)), pd.concat(starts))
    figures.write(figures.ratio_figure(summary), page.folder / "speed.svg")


def main(given: list[str] | None = None) -> None:
    """Measure, and write the page."""
    options = arguments(given)
    torch.set_num_threads(1)
    page = Page(options.out)
    print(page.parts[0], flush=True)
    chosen = [name for name in options.only if name in CASES]
    if chosen:
        steps(page, chosen, options.rounds, options.seconds, not options.quick)
    others: dict[str, Callable[[], None]] = {
        "many-fits": lambda: _many_fits(page, options),
        "growth": lambda: _growth(page, options),
        "memory": lambda: _memory(page, options),
    }
    for name, part in others.items():
        if name in options.only:
            part()


def _many_fits(page: Page, options: argparse.Namespace) -> None:
    more = 20 if options.quick else 2000
    rounds = many_fits.measure(options.rounds, options.seconds, more)
    summary = ratios(rounds, many_fits.BASE)
    page.add("Many fits", tables.fits_table(summary, many_fits.BASE), rounds)


def _growth(page: Page, options: argparse.Namespace) -> None:
    rounds = growth.measure(min(options.rounds, 7), options.quick)
    fitted = growth.exponents(rounds)
    page.add("Growth", tables.growth_table(fitted), rounds)
    figures.write(figures.growth_figure(rounds, fitted), page.folder / "cost.svg")


def _memory(page: Page, options: argparse.Namespace) -> None:
    size = (100, 20) if options.quick else (10_000, 1000)
    found = pd.DataFrame([peak_memory.in_new_process(n, *size) for n in peak_memory.PAIRS])
    page.add("Memory", tables.memory_table(found), found)


if __name__ == "__main__":
    main()
