"""Numbers as a reader wants them: as many digits as the standard error allows, and true signs."""

from __future__ import annotations

import math

MISSING = "–"
"""Printed where there is no number."""

RESOLUTION = 5e-7
"""Nats; a quantity that is smaller than this, and known that well, is printed as 0."""


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits.

    Args:
        value: Any number.
        digits: Significant digits to keep.

    Returns:
        Text with a true minus sign; ``"–"`` for NaN.

    Example:
        >>> number(-0.012345), number(float("-inf")), number(12345.6)
        ('−0.0123', '−∞', '12,346')
    """
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude > 8:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    return fixed(value, max(0, digits - 1 - magnitude))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, a true minus sign, and no negative zero."""
    text = f"{value:,.{decimals}f}"
    if not text.strip("-0.,"):
        text = text.lstrip("-")
    return text.replace("-", "−")


def parts_with_error(value: float, standard_error: float) -> tuple[str, str]:
    """A number and its standard error, both cut where the error's second digit stands.

    Args:
        value: The estimate.
        standard_error: One standard deviation of it; not finite where unknown.

    Returns:
        The two texts; the second is empty where there is no error to show.

    Example:
        >>> parts_with_error(-12.34567, 0.0123)
        ('−12.346', '0.012')
    """
    if not math.isfinite(value) or not math.isfinite(standard_error):
        return number(value, 4), ""
    if abs(value) < RESOLUTION and standard_error < RESOLUTION:
        return "0", ""
    if standard_error < RESOLUTION:
        is_small = standard_error < abs(value) / 1000
        return number(value, 4), "" if is_small else number(standard_error, 1)
    decimals = max(0, 1 - math.floor(math.log10(standard_error)))
    return fixed(value, decimals), fixed(standard_error, decimals)


def with_error(value: float, standard_error: float, sign: str = "") -> str:
    """A number, its standard error, and a sign of comparison where it is only a bound.

    Args:
        value: The estimate.
        standard_error: One standard deviation of it; not finite where unknown.
        sign: ``"≥"`` or ``"≤"`` for a bound.

    Returns:
        One text.

    Example:
        >>> with_error(3.2071, 0.054, "≥")
        '≥ 3.207 ± 0.054'
    """
    text, error = parts_with_error(value, standard_error)
    if text == MISSING:
        return text
    return f"{sign} {text}".strip() + (f" ± {error}" if error else "")


def count(value: float) -> str:
    """A whole number.

    Example:
        >>> count(12345.0)
        '12,345'
    """
    return fixed(value, 0) if math.isfinite(value) else number(value)


def percent(share: float) -> str:
    """A share as a percentage, without rounding a few data away.

    Example:
        >>> percent(0.0), percent(0.004), percent(0.1234)
        ('0 %', '0.4 %', '12 %')
    """
    if math.isnan(share):
        return MISSING
    few = 0 < share < 0.1 or 0.99 < share < 1
    return f"{fixed(100 * share, 1 if few else 0)} %"
