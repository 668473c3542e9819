"""What SVI maximises, and the loop and the optimizer that take the steps."""

from pyrolvm.objectives.forward_kl import forward_kl
from pyrolvm.objectives.fused_optimizer import FusedOptimizer
from pyrolvm.objectives.objective import Objective, checked_objective
from pyrolvm.objectives.patience import Patience
from pyrolvm.objectives.running_statistics import RunningStatistics
from pyrolvm.objectives.svi_loop import SVILoop
from pyrolvm.objectives.training import Train, training

__all__ = [
    "FusedOptimizer",
    "Objective",
    "Patience",
    "RunningStatistics",
    "SVILoop",
    "Train",
    "checked_objective",
    "forward_kl",
    "training",
]
