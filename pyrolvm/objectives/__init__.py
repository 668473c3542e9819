"""What SVI maximises, and the loop and the optimizer that take the steps."""

from pyrolvm.objectives.anchored_warm_start import AnchoredWarmStart
from pyrolvm.objectives.coupled_elbo import CoupledELBO
from pyrolvm.objectives.forward_kl import forward_kl
from pyrolvm.objectives.fused_optimizer import FusedOptimizer
from pyrolvm.objectives.iwae import IWAE
from pyrolvm.objectives.layerwise_elbo import LayerwiseELBO
from pyrolvm.objectives.leave_one_out_elbo import LeaveOneOutELBO
from pyrolvm.objectives.objective import Objective, checked_objective
from pyrolvm.objectives.particle_objective import ParticleObjective, Particles
from pyrolvm.objectives.patience import Patience
from pyrolvm.objectives.rate_history import RateHistory
from pyrolvm.objectives.rate_weights import (
    CarriesRateWeights,
    linear_warm_up,
    unequal_to_one,
    weighted,
)
from pyrolvm.objectives.reweighted_wake_sleep import ReweightedWakeSleep
from pyrolvm.objectives.running_statistics import RunningStatistics
from pyrolvm.objectives.svi_loop import SVILoop
from pyrolvm.objectives.target_rates import TargetReport
from pyrolvm.objectives.training import Train, training
from pyrolvm.objectives.traps import draws_discrete, refuse_tempered, refuse_traps
from pyrolvm.objectives.vimco import VIMCO
from pyrolvm.objectives.wake_sleep import WakeSleep

__all__ = [
    "IWAE",
    "VIMCO",
    "AnchoredWarmStart",
    "CarriesRateWeights",
    "CoupledELBO",
    "FusedOptimizer",
    "LayerwiseELBO",
    "LeaveOneOutELBO",
    "Objective",
    "ParticleObjective",
    "Particles",
    "Patience",
    "RateHistory",
    "ReweightedWakeSleep",
    "RunningStatistics",
    "SVILoop",
    "TargetReport",
    "Train",
    "WakeSleep",
    "checked_objective",
    "draws_discrete",
    "forward_kl",
    "linear_warm_up",
    "refuse_tempered",
    "refuse_traps",
    "training",
    "unequal_to_one",
    "weighted",
]
