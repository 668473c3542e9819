"""Why a step cannot be captured."""

from __future__ import annotations

from pyrolvm.core.errors import PyroLVMError


class CaptureError(PyroLVMError, RuntimeError):
    """A step of a pair is not one fixed program of tensors; the message says why."""
