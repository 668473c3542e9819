"""Calibration of a guide on data that the model simulates."""

from pyrolvm.inference.calibration.calibrate import calibrate
from pyrolvm.inference.calibration.calibration import Calibration, QuantityCalibration
from pyrolvm.inference.calibration.refitting import FitAgain, Refit
from pyrolvm.inference.calibration.shard import LOG_JOINT
from pyrolvm.inference.calibration.sharding import Runner, Shards, Simulate, run_here

__all__ = [
    "LOG_JOINT",
    "Calibration",
    "FitAgain",
    "QuantityCalibration",
    "Refit",
    "Runner",
    "Shards",
    "Simulate",
    "calibrate",
    "run_here",
]
