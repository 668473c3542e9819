"""What PyroLVM raises: each message says who needs what, what came, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PyroLVMError(Exception):
    """Base of every error that PyroLVM raises on purpose."""


class DataError(PyroLVMError, ValueError):
    """The data has the wrong shape, is empty, or holds values that the model cannot have made."""


class SiteError(PyroLVMError, ValueError):
    """Model and guide disagree about a sample site, or a site has no usable density."""


class NoDensityError(PyroLVMError, NotImplementedError):
    """A log density was asked of a guide that only draws.

    Args:
        guide: Name of the guide.
    """

    def __init__(self, guide: str) -> None:
        super().__init__(
            f"{guide} draws from the posterior, but has no log q(z | x), which training and "
            "comparing need. Use its draws, by sample(x) or Predictive; to train or to compare, "
            "take a guide with a density: ExactCPA for few latents, Amortized or PerDatum."
        )


class FactorisationError(PyroLVMError, ValueError):
    """A per-datum quantity was asked of a posterior that does not factorise over data."""


class IncompatiblePairError(PyroLVMError, TypeError):
    """A guide cannot serve a model."""


class EvidenceError(PyroLVMError, ValueError):
    """The evidence of a model is not available in the way that was asked for."""


class NonFiniteLossError(PyroLVMError, ArithmeticError):
    """Training met a loss or a gradient that is not finite; the last good state was kept."""


class CheckpointError(PyroLVMError, ValueError):
    """A checkpoint cannot be read, or belongs to another fit."""


class RunFolderError(PyroLVMError, ValueError):
    """A run folder cannot be written, or holds another configuration."""


class UnknownNameError(PyroLVMError, ValueError):
    """A name that nothing is registered under; the message names the nearest known one.

    Args:
        kind: What the name should have been, for example ``"guide"``.
        name: The name that came.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"Unknown {kind} {name!r}.{hint} Known: {', '.join(known)}.")


class DeviceError(PyroLVMError, ValueError):
    """A device was asked for that this machine does not have."""


class SettingError(PyroLVMError, ValueError):
    """A setting has a value that makes no sense."""


def require_at_least(least: int, **settings: int) -> None:
    """Refuse whole-number settings below a limit.

    Args:
        least: The smallest value that makes sense.
        **settings: Values by name.

    Raises:
        SettingError: Naming the first one that is too small.
    """
    for name, value in settings.items():
        if value < least:
            raise SettingError(f"{name} should be at least {least}, but it is {value}.")


def require_seed(seed: int) -> None:
    """Refuse a seed that no generator of random numbers takes.

    Raises:
        SettingError: If it is negative, or 2**63 and more.
    """
    if not 0 <= seed < 2**63:
        raise SettingError(f"seed should be a whole number from 0 to 2**63 - 1, but it is {seed}.")
