"""Widths of the layers: a table for the usual data sets, and stacks of any depth.

The table is a choice of ours, of the order that the literature on deep belief networks uses for
these sets: it starts near the width of x and tapers off.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyrolvm.core.errors import require_at_least

LAYERS: Mapping[str, tuple[int, ...]] = {
    "bars": (8, 6, 4),
    "nltcs": (8, 6, 4),
    "adult": (100, 70, 50, 25),
    "connect4": (300, 110, 50, 20),
    "dna": (200, 150, 130, 100, 70, 50, 30, 20, 10),
    "mushrooms": (150, 100, 90, 60, 40, 20),
    "nips": (200, 100, 50, 25),
    "ocr_letters": (600, 500, 100, 50, 30, 10),
    "web": (650, 580, 70, 30, 10),
    "binarized_mnist": (300, 200, 100, 75, 50, 35, 30, 25, 20, 15, 10, 10),
}
"""Widths by data set, bottom first: z_1, next to x, to the top."""

OTHER_LAYERS = (64, 32, 16)
"""Widths for all other data sets, digits among them."""


def default_layers(data: str) -> tuple[int, ...]:
    """Return the widths for a data set, bottom first.

    >>> default_layers("nltcs"), default_layers("digits")
    ((8, 6, 4), (64, 32, 16))
    """
    return LAYERS.get(data, OTHER_LAYERS)


def layers_of_depth(widths: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Return so many layers between the lowest and the highest width, in equal ratios.

    Args:
        widths: The default of the data set; its first and last are kept.
        depth: Number of layers; a single one is as wide as the lowest.

    Returns:
        Widths, bottom first.

    Raises:
        SettingError: If the depth is below 1.

    >>> layers_of_depth((64, 32, 16), 5), layers_of_depth((64, 32, 16), 1)
    ((64, 45, 32, 23, 16), (64,))
    """
    require_at_least(1, depth=depth)
    first, last = widths[0], widths[-1]
    ratio = (last / first) ** (1 / max(depth - 1, 1))
    return tuple(round(first * ratio**layer) for layer in range(depth))
