"""The tasks that a hierarchy may serve, and the weights of the rates that serve each best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyrolvm.core.errors import UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

WEIGHTS = ["weight_1", "weight_2"]


@dataclass(frozen=True)
class Task:
    """What a model is wanted for.

    Args:
        key: Its name.
        column: Column of the table that says how well a model does.
        title: What it is, in words.
        short: The same for a label beside a point.
        quantity: What the column measures.
        unit: Its unit; empty for a pure number.
        largest: Whether the largest value is the best one, or the smallest.
    """

    key: str
    column: str
    title: str
    short: str
    quantity: str
    unit: str = ""
    largest: bool = True

    @property
    def label(self) -> str:
        """The quantity with its unit."""
        return f"{self.quantity}, {self.unit}" if self.unit else self.quantity


TASKS = (
    Task("reconstruction", "psnr", "Reconstruction", "reconstruction", "PSNR", "dB"),
    Task(
        "transmitted_code", "accuracy_drawn", "Classes from a draw of z₂", "classes (draw)",
        "accuracy of a probe",
    ),
    Task(
        "representation", "accuracy_mean", "Classes from the mean of z₂", "classes (mean)",
        "accuracy of a probe",
    ),
    Task("generation", "score", "Generation", "generation", "classifier score of samples"),
    Task(
        "likelihood", "negative_elbo", "Likelihood", "likelihood", "−ELBO", "nats a datum",
        largest=False,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Optimum:
    """Where in the plane a task is served best.

    Args:
        task: The task.
        weight_1: Weight of the rate of z_1 at the best point of the grid.
        weight_2: Weight of the rate of z_2.
        rate_1: Mean rate of z_1 there, nats.
        rate_2: Mean rate of z_2 there, nats.
        value: Mean of the task's column over seeds.
        error: One standard error of it over seeds, pooled over the grid; over data for one seed.
        rivals: Points (weight_1, weight_2) of the grid that are as good within two standard errors
            of the difference, from better to worse.
    """

    task: Task
    weight_1: float
    weight_2: float
    rate_1: float
    rate_2: float
    value: float
    error: float
    rivals: tuple[tuple[float, float], ...]


def task_named(key: str) -> Task:
    """Look a task up.

    Raises:
        UnknownNameError: If there is no such task.
    """
    known = {task.key: task for task in TASKS}
    if key not in known:
        raise UnknownNameError("task", key, known)
    return known[key]


def mean_over_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each pair of weights: means over seeds."""
    return frame.groupby(WEIGHTS, as_index=False).mean().drop(columns="seed")


def seed_error(frame: pd.DataFrame, column: str) -> float:
    """Return the standard error of a point's mean over seeds.

    The variance between seeds is pooled over all points of the grid, because two seeds alone say
    next to nothing of it. With one seed it is the mean standard error over data.
    """
    groups = frame.groupby(WEIGHTS)[column]
    degrees = int((groups.count() - 1).sum())
    if degrees == 0:
        return float(frame.get(f"{column}_se", frame[column] * math.nan).mean())
    pooled = float(((groups.count() - 1) * groups.var().fillna(0)).sum()) / degrees
    return math.sqrt(pooled / float(groups.count().mean()))


def optimum(frame: pd.DataFrame, task: Task) -> Optimum:
    """Return the point of the grid that serves a task best, and those that may do as well.

    Args:
        frame: The table of a plane.
        task: The task.
    """
    means, error = mean_over_seeds(frame), seed_error(frame, task.column)
    means = means.sort_values(task.column, ascending=not task.largest, kind="stable")
    best = means.iloc[0]
    behind = (means[task.column] - best[task.column]).abs()
    close = means[behind <= 2 * math.sqrt(2) * error].iloc[1:]
    rivals = tuple((float(row["weight_1"]), float(row["weight_2"])) for _, row in close.iterrows())
    return Optimum(
        task=task,
        weight_1=float(best["weight_1"]),
        weight_2=float(best["weight_2"]),
        rate_1=float(best["rate_1"]),
        rate_2=float(best["rate_2"]),
        value=float(best[task.column]),
        error=error,
        rivals=rivals,
    )


def rank_correlation(frame: pd.DataFrame, first: str, second: str) -> float:
    """Return Spearman's correlation of two columns over the grid; NaN where one is constant."""
    means = mean_over_seeds(frame)
    if means[first].nunique() == 1 or means[second].nunique() == 1:
        return math.nan
    return float(np.corrcoef(means[first].rank(), means[second].rank())[0, 1])
