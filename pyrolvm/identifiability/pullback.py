r"""Distances that do not depend on the coordinates of the latent space.

.. math:: d(z_a, z_b) = \min_{c : z_a \to z_b} \int \| \tfrac{d}{dt} g(c(t)) \| \, dt

is the length of the shortest curve on the surface g(z) between two points. Whatever map of the
latent space two equally good decoders differ by, it moves the points and the curve along, and the
length stays: it is identified where the coordinates are not.

The curve is cut into T chords. From the straight line in z, Gauss–Newton steps lower the energy

.. math:: E(z_1, \ldots, z_{T-1}) = T \sum_t \| g(z_{t+1}) - g(z_t) \|^2

They are damped in the metric of the surface itself, so that an affine map of the latent space
changes no step.

References:
    Syrota, Zainchkovskyy, Xi, Bloem-Reddy & Hauberg (2025), Identifying Metric Structures of Deep
    Latent Variable Models.
    Arvanitidis, Hansen & Hauberg (2018), Latent Space Oddity (the metric of a decoder).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm.core.errors import DataError, require_at_least

Decoder = Callable[[Tensor], Tensor]

ENOUGH = 1e-9
"""Share of its energy that a step must save."""
PATIENCE = 3
"""Steps that save nothing on any curve before the search ends."""
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-9, 1e6


def pullback_distances(
    decode: Decoder,
    z_a: Float[Tensor, "pair D"],
    z_b: Float[Tensor, "pair D"],
    *,
    num_chords: int = 16,
    num_steps: int = 20,
) -> Float[Tensor, " pair"]:
    """Lengths of the shortest curves on a decoder's surface between pairs of latent points.

    Args:
        decode: The mean of x given z, row by row: ``(M, D)`` to ``(M, obs_dim)``.
        z_a: Where the curves start, shape ``(P, D)``.
        z_b: Where they end, same shape.
        num_chords: Chords T of a curve; a smooth curve is longer than them by about 1 / T² of it.
        num_steps: Gauss–Newton steps; 0 gives the length of the image of the straight line.

    Returns:
        Shape ``(P,)``, in the unit of x; never more than along the straight line. A short cut that
        starts far away from the straight line may be missed.

    Raises:
        DataError: If the points are no matrices of one shape, or an image is not finite.

    >>> circle = lambda z: torch.cat([z.cos(), z.sin()], -1)
    >>> distance = pullback_distances(circle, torch.zeros(1, 1), torch.full((1, 1), 2.0))
    >>> round(distance.item(), 2)
    2.0
    """
    require_at_least(1, num_chords=num_chords)
    require_at_least(0, num_steps=num_steps)
    if not (isinstance(z_a, Tensor) and isinstance(z_b, Tensor)):
        raise DataError(
            "pullback_distances needs tensors of latent points (P, D), but got "
            f"{type(z_a).__name__} and {type(z_b).__name__}. Convert them with torch.as_tensor."
        )
    if z_a.dim() != 2 or z_a.shape != z_b.shape or z_a.numel() == 0:
        raise DataError(
            "pullback_distances needs two matrices of latent points (P, D), a pair a row, but got "
            f"{tuple(z_a.shape)} and {tuple(z_b.shape)}."
        )
    with torch.no_grad():
        share = torch.linspace(0, 1, num_chords + 1, dtype=z_a.dtype, device=z_a.device)
        curves = z_a[:, None] + share[:, None] * (z_b - z_a)[:, None]
        straight = _images(decode, curves)
        if not straight.isfinite().all():
            raise DataError(
                "pullback_distances needs finite images, but the decoder maps the straight line "
                "of some pair to NaN or infinity."
            )
        bent = _images(decode, _shortened(decode, curves, num_steps))
        return torch.minimum(_chords(bent).sum(-1), _chords(straight).sum(-1))


def _shortened(
    decode: Decoder, curves: Float[Tensor, "pair point D"], num_steps: int
) -> Float[Tensor, "pair point D"]:
    """Lower the energy of each curve; a step that would raise it is not taken."""
    if curves.shape[1] < 3:
        return curves
    damping = curves.new_full((len(curves), 1, 1), FIRST_DAMPING)
    energy, in_vain = _energy(decode, curves), 0
    for _ in range(num_steps):
        tried = curves.clone()
        tried[:, 1:-1] += _gauss_newton(decode, curves, damping)
        found = _energy(decode, tried)
        better = found < energy * (1 - ENOUGH)
        curves = torch.where(better[:, None, None], tried, curves)
        energy = torch.where(better, found, energy)
        change = torch.where(better, 0.2, 10.0).to(damping.dtype)[:, None, None]
        damping = (damping * change).clamp(LEAST_DAMPING, MOST_DAMPING)
        in_vain = 0 if bool(better.any()) else in_vain + 1
        if in_vain == PATIENCE:
            break
    return curves


def _gauss_newton(
    decode: Decoder, curves: Float[Tensor, "pair point D"], damping: Float[Tensor, "pair 1 1"]
) -> Float[Tensor, "pair inner D"]:
    """Solve the block-tridiagonal normal equations for all inner points at once."""
    pairs, points, dim = curves.shape
    inner = points - 2
    images, jacobian = _with_jacobian(decode, curves[:, 1:-1])
    ends = _images(decode, curves[:, [0, -1]])
    path = torch.cat([ends[:, :1], images, ends[:, 1:]], 1)
    pull = path[:, :-2] + path[:, 2:] - 2 * path[:, 1:-1]
    slope = torch.einsum("ptxd,ptx->ptd", jacobian, pull)
    own = 2 * jacobian.mT @ jacobian * (1 + damping[..., None])
    beside = -jacobian[:, :-1].mT @ jacobian[:, 1:]
    system = curves.new_zeros(pairs, inner, dim, inner, dim)
    at = torch.arange(inner)
    system[:, at, :, at] = own.transpose(0, 1)
    system[:, at[:-1], :, at[1:]] = beside.transpose(0, 1)
    system[:, at[1:], :, at[:-1]] = beside.mT.transpose(0, 1)
    flat = system.reshape(pairs, inner * dim, inner * dim)
    factor, failed = torch.linalg.cholesky_ex(flat)
    step = torch.cholesky_solve(slope.reshape(pairs, -1, 1), factor).reshape(pairs, inner, dim)
    return torch.where((failed == 0)[:, None, None], step, torch.zeros_like(step))


def _with_jacobian(
    decode: Decoder, points: Float[Tensor, "pair point D"]
) -> tuple[Float[Tensor, "pair point X"], Float[Tensor, "pair point X D"]]:
    """Images of points and Jacobians there, one direction of the latent space after the other.

    With h(w) = Jᵀ w, which is linear, the product J v is the gradient of vᵀ h(w) in w: as many
    passes as latents, where rows of J would take one for each output.
    """
    with torch.enable_grad():
        rows = points.reshape(-1, points.shape[-1]).detach().requires_grad_()
        images = decode(rows)
        weights = torch.zeros_like(images).requires_grad_()
        columns = [torch.zeros_like(images)] * rows.shape[-1]
        if images.requires_grad:
            (product,) = torch.autograd.grad(images, rows, weights, create_graph=True)
            columns = [
                torch.autograd.grad(product[:, axis].sum(), weights, retain_graph=True)[0]
                for axis in range(rows.shape[-1])
            ]
    jacobian = torch.stack(columns, -1)
    at = points.shape[:-1]
    return images.detach().reshape(*at, -1), jacobian.reshape(*at, *jacobian.shape[-2:])


def _images(decode: Decoder, points: Float[Tensor, "pair point D"]) -> Tensor:
    return decode(points.reshape(-1, points.shape[-1])).reshape(*points.shape[:-1], -1)


def _energy(decode: Decoder, curves: Float[Tensor, "pair point D"]) -> Float[Tensor, " pair"]:
    energy = _chords(_images(decode, curves)).square().sum(-1)
    return torch.where(energy.isfinite(), energy, torch.inf)


def _chords(images: Float[Tensor, "pair point X"]) -> Float[Tensor, "pair chord"]:
    return (images[:, 1:] - images[:, :-1]).norm(dim=-1)
