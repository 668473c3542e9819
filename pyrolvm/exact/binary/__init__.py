"""Exact sums over layers of zeros and ones, as long as every layer is small.

Numerics only, free of Pyro: a layered law is a list of functions from the states of one layer to
the log odds of the next, its sums are :class:`LayerSums`.
"""

from pyrolvm.exact.binary.layer_sums import Coupling, LayerSums, recognition
from pyrolvm.exact.binary.messages import message_down
from pyrolvm.exact.binary.states import all_states, log_normaliser, log_probabilities

__all__ = [
    "Coupling",
    "LayerSums",
    "all_states",
    "log_normaliser",
    "log_probabilities",
    "message_down",
    "recognition",
]
