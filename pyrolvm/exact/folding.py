r"""Reduce a generator to a standard normal prior, unit noise and the fewest observed coordinates.

With z = m + L u, the prior of u is N(0, I). With y = (x - v)/sigma and the thin QR
factorisation W_last/sigma = Q R, only Q^T y meets the latent variable:

.. math:: \log p(x) = \log \int \phi(u) \, e^{-\frac12 |Q^\top y - f(u)|^2} \, du
          - \tfrac12 |y - Q Q^\top y|^2 - \tfrac{D}{2} \log 2\pi - \sum_d \log \sigma_d ,
          \qquad f(u) = R \, h_{L-1}(m + L u).

Everything downstream works in u ("whitened latent") and Q^T y ("reduced data").
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyrolvm.exact.errors import GeneratorError, ObservationError
from pyrolvm.exact.stack import AffineStack

Array = NDArray[np.float64]


def to_numpy(tensor: Tensor) -> Array:
    """Copy a tensor to a float64 array on the host, without its graph."""
    return tensor.detach().double().cpu().numpy()


@dataclass(frozen=True)
class FoldedGenerator:
    """The generator in whitened latent and reduced observed coordinates.

    Attributes:
        weights: Hidden weights; the first acts on u.
        biases: Hidden biases.
        slopes: Hidden slopes at negative inputs.
        last: R, maps the last hidden layer (or u itself) to reduced data, ``(D', H)``.
        basis: Q, ``(D, D')``; None if D' = D and nothing was rotated.
        last_bias: v, ``(D,)``.
        noise_scale: sigma, ``(D,)``.
        prior_loc: m, ``(S,)``.
        prior_scale_tril: L, ``(S, S)``.
        log_normaliser: Log density constants of the observed coordinates, in nats.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    slopes: tuple[float, ...]
    last: Array
    basis: Array | None
    last_bias: Array
    noise_scale: Array
    prior_loc: Array
    prior_scale_tril: Array
    log_normaliser: float

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return int(self.prior_loc.shape[0])

    def reduce(self, x: Array) -> tuple[Array, Array]:
        """Split data into its reduced coordinates and a constant of its log evidence.

        Args:
            x: Observations, ``(N, D)``.

        Returns:
            Q^T y of shape ``(N, D')``, and the log density of the perpendicular part with all
            normalisers, in nats, shape ``(N,)``.
        """
        y = (x - self.last_bias) / self.noise_scale
        if self.basis is None:
            return np.ascontiguousarray(y), np.full(len(y), self.log_normaliser)
        reduced = y @ self.basis
        rest = y - reduced @ self.basis.T
        return reduced, self.log_normaliser - 0.5 * np.einsum("nd,nd->n", rest, rest)

    def to_latent(self, u: Array) -> Array:
        """Map whitened points ``(..., S)`` to the model's latent coordinates."""
        return u @ self.prior_scale_tril.T + self.prior_loc

    def to_whitened(self, z: Array) -> Array:
        """Map latent points ``(..., S)`` to whitened coordinates."""
        return (z - self.prior_loc) @ np.linalg.inv(self.prior_scale_tril).T

    @property
    def log_det_prior(self) -> float:
        """Log determinant of L."""
        return float(np.log(np.diag(self.prior_scale_tril)).sum())


def fold(stack: AffineStack) -> FoldedGenerator:
    """Fold prior and noise of a generator into its first and last layer.

    Args:
        stack: The generator.

    Returns:
        Its reduced form, float64.

    Raises:
        GeneratorError: If a parameter is not finite or a scale not positive.
    """
    loc, tril = to_numpy(stack.prior_loc), np.tril(to_numpy(stack.prior_scale_tril))
    scale = to_numpy(stack.noise_scale)
    weights = [to_numpy(weight) for weight in stack.weights]
    biases = [to_numpy(bias) for bias in stack.biases]
    _check_parameters(weights, biases, scale, loc, tril)
    biases[0] = weights[0] @ loc + biases[0]
    weights[0] = weights[0] @ tril
    scaled = weights[-1] / scale[:, None]
    obs_dim, width = scaled.shape
    basis, last = (None, scaled) if obs_dim <= width else np.linalg.qr(scaled)
    return FoldedGenerator(
        weights=tuple(weights[:-1]),
        biases=tuple(biases[:-1]),
        slopes=stack.slopes,
        last=last,
        basis=basis,
        last_bias=biases[-1],
        noise_scale=scale,
        prior_loc=loc,
        prior_scale_tril=tril,
        log_normaliser=float(-0.5 * obs_dim * log(2 * pi) - np.log(scale).sum()),
    )


def _check_parameters(
    weights: list[Array], biases: list[Array], scale: Array, loc: Array, tril: Array
) -> None:
    named = {f"weights[{i}]": w for i, w in enumerate(weights)}
    named |= {f"biases[{i}]": b for i, b in enumerate(biases)}
    named |= {"noise_scale": scale, "prior_loc": loc, "prior_scale_tril": tril}
    for name, value in named.items():
        if not np.isfinite(value).all():
            raise GeneratorError(
                f"The exact engine needs finite parameters, but {name} holds NaN or inf. "
                "Look for a diverged fit."
            )
    if not (scale > 0).all():
        raise GeneratorError(
            f"The noise scale must be positive, but its smallest entry is {scale.min():g}."
        )
    if not (np.diag(tril) > 0).all():
        raise GeneratorError(
            "prior_scale_tril must have a positive diagonal, but it is "
            f"{np.diag(tril).tolist()}. Give a Cholesky factor."
        )


def observations(x: Tensor, obs_dim: int) -> Array:
    """Check observations and copy them to a float64 array.

    Args:
        x: Observations, ``(N, D)``.
        obs_dim: D.

    Returns:
        Array of shape ``(N, D)``.

    Raises:
        ObservationError: If the shape is wrong or a value is not finite.
    """
    if x.ndim != 2 or x.shape[1] != obs_dim:
        raise ObservationError(
            f"The generator needs observations of shape (N, {obs_dim}), but got {tuple(x.shape)}."
        )
    values = to_numpy(x)
    bad = np.asarray(~np.isfinite(values).all(axis=1))
    if bad.any():
        raise ObservationError(
            f"The exact engine needs finite observations, but {int(bad.sum())} of {len(bad)} rows "
            f"hold NaN or inf (first: row {int(bad.argmax())}). Remove or impute them."
        )
    return values
