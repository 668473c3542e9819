"""The compiled step: an ordinary Pyro step, captured once as one program of tensors."""

from pyrolvm.objectives.compiled.capture import Captured, capture
from pyrolvm.objectives.compiled.choice import Compile, checked_choice, choice_in_words, svi_for
from pyrolvm.objectives.compiled.compiled_svi import CompiledSVI
from pyrolvm.objectives.compiled.errors import CaptureError

__all__ = [
    "CaptureError",
    "Captured",
    "Compile",
    "CompiledSVI",
    "capture",
    "checked_choice",
    "choice_in_words",
    "svi_for",
]
