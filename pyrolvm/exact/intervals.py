r"""Linear pieces of a generator with one latent coordinate: a breakpoint sweep.

Layer by layer, each piece carries its affine map; a hidden unit with pre-activation
U + J (u - c) adds the breakpoint c - U/J where that lies inside the piece. The outer pieces reach
to plus and minus infinity, so no mass is lost.

References:
    Balestriero, Paris & Baraniuk (2020), Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (own sweep, no search over codes).
"""

from __future__ import annotations

import numpy as np

from pyrolvm.exact.errors import RegionLimitError
from pyrolvm.exact.folding import Array, FoldedGenerator
from pyrolvm.exact.propagation import Codes, output_maps, pre_activations


def anchors_of(edges: Array) -> Array:
    """Choose one point inside each piece.

    Args:
        edges: Increasing breakpoints with -inf and inf at the ends, ``(R + 1,)``.

    Returns:
        Midpoints; one unit outside the last breakpoint for the outer pieces, shape ``(R,)``.
    """
    lower, upper = edges[:-1], edges[1:]
    if len(lower) == 1:
        return np.zeros(1)
    anchors = np.empty(len(lower))
    anchors[1:-1] = 0.5 * (lower[1:-1] + upper[1:-1])
    anchors[0] = upper[0] - 1.0
    anchors[-1] = lower[-1] + 1.0
    return anchors


def sweep(folded: FoldedGenerator, max_regions: int) -> tuple[Array, Codes]:
    """Find all linear pieces.

    Args:
        folded: The generator, one latent coordinate.
        max_regions: Most pieces allowed.

    Returns:
        Edges in whitened coordinates ``(R + 1,)``, from -inf to inf, and codes ``(R, units)``.

    Raises:
        RegionLimitError: If there are more pieces than allowed.
    """
    edges = np.array([-np.inf, np.inf])
    for layer, slope in enumerate(folded.slopes):
        if slope == 1.0:
            continue
        anchors = anchors_of(edges)
        value, jacobian = pre_activations(folded, layer, anchors[:, None])
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            roots = anchors[:, None] - value / jacobian[:, 0, :]
            inside = (roots > edges[:-1, None]) & (roots < edges[1:, None]) & np.isfinite(roots)
        edges = np.unique(np.concatenate([edges, roots[inside]]))
        if len(edges) - 1 > max_regions:
            raise RegionLimitError(
                f"This generator has at least {len(edges) - 1} linear pieces after layer "
                f"{layer + 1}, but max_regions is {max_regions}. Raise it or shrink the generator."
            )
    _, _, codes = output_maps(folded, anchors_of(edges)[:, None])
    return edges, codes
