"""The plane of two layers' rates: which weights, and so which rates, serve which task."""

from pyrolvm.inference.rate_plane.linear import (
    LinearPlane,
    linear_rate_plane,
    trained_linear_plane,
)
from pyrolvm.inference.rate_plane.members import PlaneSettings, weight_grid
from pyrolvm.inference.rate_plane.plane import RatePlane, run_rate_plane
from pyrolvm.inference.rate_plane.tasks import (
    TASKS,
    Optimum,
    Task,
    mean_over_seeds,
    optimum,
    rank_correlation,
    seed_error,
    task_named,
)

__all__ = [
    "TASKS",
    "LinearPlane",
    "Optimum",
    "PlaneSettings",
    "RatePlane",
    "Task",
    "linear_rate_plane",
    "mean_over_seeds",
    "optimum",
    "rank_correlation",
    "run_rate_plane",
    "seed_error",
    "task_named",
    "trained_linear_plane",
    "weight_grid",
]
