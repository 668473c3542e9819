"""Annealed importance sampling with Hamiltonian moves, and the sandwich that tells its error."""

from pyrolvm.inference.annealing.estimate import (
    AnnealedEstimate,
    annealed_evidence,
    annealing_error,
)
from pyrolvm.inference.annealing.runs import AnnealingSettings
from pyrolvm.inference.annealing.sandwich import Sandwich, sandwich

__all__ = [
    "AnnealedEstimate",
    "AnnealingSettings",
    "Sandwich",
    "annealed_evidence",
    "annealing_error",
    "sandwich",
]
