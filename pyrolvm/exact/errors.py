"""What the exact engine raises: who wants what, what came, and what to do."""

from __future__ import annotations

from pyrolvm.core.errors import PyroLVMError


class GeneratorError(PyroLVMError, ValueError):
    """Tensors of a generator do not fit together, are not finite, or a scale is not positive."""


class NotPiecewiseAffineError(PyroLVMError, ValueError):
    """A network holds a module that is not piecewise affine with one kink at zero."""


class LatentDimensionError(PyroLVMError, ValueError):
    """A generator has more latent coordinates than the question asked of it can serve."""


class RegionLimitError(PyroLVMError, ValueError):
    """The generator has more affine regions than the caller allowed."""


class ObservationError(PyroLVMError, ValueError):
    """The observations (or latent points) have the wrong shape or are not finite."""


class ProbabilityError(PyroLVMError, ValueError):
    """A probability that was asked for lies outside its range."""


class BoxError(PyroLVMError, ValueError):
    """The box that holds the regions cannot be made large enough for the data."""


class PartitionMismatchError(PyroLVMError, ValueError):
    """A partition was handed in that belongs to another generator."""


class SecondDerivativeError(PyroLVMError, RuntimeError):
    """The exact evidence has first derivatives only, and a second one was asked for."""


def too_many_regions(
    found: int, limit: int, done: int, units: int, dim: int, bytes_each: float
) -> RegionLimitError:
    """Refuse to go on, with an estimate of the whole.

    Args:
        found: Regions so far.
        limit: Regions allowed.
        done: Hidden units that have been taken into account.
        units: Hidden units in all.
        dim: Number of latent coordinates S; the number of regions grows like units^S.
        bytes_each: Memory of a region so far.

    Returns:
        The error, to be raised.
    """
    estimate = found * (units / max(done, 1)) ** dim
    size = estimate * bytes_each / 2**20
    memory = f"{size / 1024:.3g} GiB" if size >= 1024 else f"{max(size, 1):.0f} MiB"
    return RegionLimitError(
        f"The exact engine may hold {limit} regions (max_regions), but {done} of {units} hidden "
        f"units already make {found}; expect about {estimate:.2g} in all, or {memory} for their "
        "shapes alone. Raise max_regions, or use a smaller generator."
    )
