"""What SVI maximises, and the loop and the optimizer that take the steps."""

from pyrolvm.objectives.fused_optimizer import FusedOptimizer
from pyrolvm.objectives.svi_loop import Patience, SVILoop, checked_objective
from pyrolvm.objectives.training import Train, training

__all__ = ["FusedOptimizer", "Patience", "SVILoop", "Train", "checked_objective", "training"]
