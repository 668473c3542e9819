"""What the exact engine raises: who wants what, what came, and what to do."""

from __future__ import annotations

from pyrolvm.core.errors import PyroLVMError


class GeneratorError(PyroLVMError, ValueError):
    """Tensors of a generator do not fit together, are not finite, or a scale is not positive."""


class NotPiecewiseAffineError(PyroLVMError, ValueError):
    """A network holds a module that is not piecewise affine with one kink at zero."""


class LatentDimensionError(PyroLVMError, ValueError):
    """The exact engine serves one and two latent dimensions, and something else came."""


class RegionLimitError(PyroLVMError, ValueError):
    """The generator has more affine regions than the caller allowed."""


class ObservationError(PyroLVMError, ValueError):
    """The observations (or latent points) have the wrong shape or are not finite."""


class BoxError(PyroLVMError, ValueError):
    """The box that holds the polygons cannot be made large enough for the data."""


class PartitionMismatchError(PyroLVMError, ValueError):
    """A partition was handed in that belongs to another generator."""


class SecondDerivativeError(PyroLVMError, RuntimeError):
    """The exact evidence has first derivatives only, and a second one was asked for."""
