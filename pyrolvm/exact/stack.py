r"""A piecewise-affine generator as plain tensors.

.. math:: h_0 = z, \quad u_l = W_l h_{l-1} + v_l, \quad h_l = \max(u_l, 0) + s_l \min(u_l, 0),
          \quad g(z) = u_L, \quad x \mid z \sim N(g(z), \operatorname{diag}(\sigma^2))

with a Gaussian prior on z, or a mixture of Gaussians. The slope s_l is 0 for ReLU, the leak for
leaky ReLU, -1 for the absolute value and 1 where two linear layers follow one another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pyrolvm.exact.errors import GeneratorError, NotPiecewiseAffineError

if TYPE_CHECKING:
    from pyrolvm.core.capabilities import AffineGenerator


@dataclass(frozen=True)
class AffineStack:
    """Weights, slopes, noise and prior of a piecewise-affine generator.

    Args:
        weights: L matrices, each ``(out_features, in_features)``.
        biases: L vectors, each ``(out_features,)``.
        slopes: L - 1 slopes of the hidden activations at negative inputs.
        noise_scale: Standard deviations of x given z, ``(obs_dim,)``; a scalar is broadcast.
        prior_loc: Mean of the prior of z, ``(latent_dim,)``; one for each of K components,
            ``(K, latent_dim)``, if the prior is a mixture.
        prior_scale_tril: Lower Cholesky factor of its covariance, ``(latent_dim, latent_dim)``; of
            a mixture, ``(K, latent_dim, latent_dim)``.
        prior_logits: Unnormalised log weights of a mixture, ``(K,)``; None for one Gaussian.

    Attributes:
        isotropic: Whether the noise was given as one number.

    Raises:
        GeneratorError: If the shapes do not fit together.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    slopes: tuple[float, ...]
    noise_scale: Tensor
    prior_loc: Tensor
    prior_scale_tril: Tensor
    prior_logits: Tensor | None = None
    isotropic: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        object.__setattr__(self, "biases", tuple(self.biases))
        object.__setattr__(self, "slopes", tuple(float(slope) for slope in self.slopes))
        self._check_layers()
        object.__setattr__(self, "isotropic", self.noise_scale.numel() == 1)
        if self.isotropic:
            expanded = self.noise_scale.reshape(1).expand(self.obs_dim)
            object.__setattr__(self, "noise_scale", expanded)
        self._check_shape("noise_scale", self.noise_scale, (self.obs_dim,))
        mixed: tuple[int, ...] = ()
        if self.prior_logits is not None:
            mixed = (self.prior_logits.numel(),)
            self._check_shape("prior_logits", self.prior_logits, mixed)
        square = (self.latent_dim, self.latent_dim)
        self._check_shape("prior_loc", self.prior_loc, (*mixed, self.latent_dim))
        self._check_shape("prior_scale_tril", self.prior_scale_tril, (*mixed, *square))

    def _check_layers(self) -> None:
        counts = len(self.weights), len(self.biases), len(self.slopes) + 1
        if not self.weights or len(set(counts)) != 1:
            raise GeneratorError(
                "AffineStack needs L >= 1 weights, L biases and L - 1 slopes, but got "
                f"{counts[0]}, {counts[1]} and {len(self.slopes)}. Give one slope a hidden layer."
            )
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.ndim != 2:
                raise GeneratorError(
                    f"weights[{layer}] must be a matrix (out, in), but has shape "
                    f"{tuple(weight.shape)}."
                )
            self._check_shape(f"biases[{layer}]", bias, (weight.shape[0],))
            if layer and weight.shape[1] != self.weights[layer - 1].shape[0]:
                raise GeneratorError(
                    f"weights[{layer}] takes {weight.shape[1]} inputs, but the layer below gives "
                    f"{self.weights[layer - 1].shape[0]}. Check the order of the layers."
                )

    @staticmethod
    def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(value.shape) != shape:
            raise GeneratorError(
                f"AffineStack needs {name} of shape {shape}, but got {tuple(value.shape)}."
            )

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return int(self.weights[0].shape[1])

    @property
    def obs_dim(self) -> int:
        """Number of observed coordinates D."""
        return int(self.weights[-1].shape[0])

    @property
    def num_hidden(self) -> int:
        """Number of hidden units over all layers."""
        return sum(int(weight.shape[0]) for weight in self.weights[:-1])

    def forward(self, z: Tensor) -> Tensor:
        """Mean of x given z.

        Args:
            z: Latent points, ``(..., latent_dim)``.

        Returns:
            g(z), shape ``(..., obs_dim)``.
        """
        hidden = z
        for weight, bias, slope in zip(self.weights, self.biases, self.slopes, strict=False):
            inner = nn.functional.linear(hidden, weight, bias)
            hidden = inner.clamp(min=0) + slope * inner.clamp(max=0)
        return nn.functional.linear(hidden, self.weights[-1], self.biases[-1])

    def components(self) -> tuple[AffineStack, ...]:
        """The generator under each component of its prior; itself if that is one Gaussian."""
        if self.prior_logits is None:
            return (self,)
        return tuple(
            replace(self, prior_loc=loc, prior_scale_tril=tril, prior_logits=None)
            for loc, tril in zip(self.prior_loc, self.prior_scale_tril, strict=True)
        )

    def observe(self, seen: Tensor) -> AffineStack:
        """The generator of some of the observed coordinates: the others are integrated out.

        Hidden layers and prior are the same, and with them the regions.

        Args:
            seen: Which coordinates remain, bool ``(obs_dim,)``.

        Returns:
            A generator with as many observed coordinates as remain.
        """
        return replace(
            self,
            weights=(*self.weights[:-1], self.weights[-1][seen]),
            biases=(*self.biases[:-1], self.biases[-1][seen]),
            noise_scale=self.noise_scale[seen],
        )

    @classmethod
    def of(cls, live: AffineGenerator) -> AffineStack:
        """Take over what a model offers as its ``affine_stack``; tensors are shared."""
        if isinstance(live, cls):
            return live
        return cls(
            tuple(live.weights), tuple(live.biases), tuple(live.slopes),
            live.noise_scale, live.prior_loc, live.prior_scale_tril,
            getattr(live, "prior_logits", None),
        )  # fmt: skip

    @classmethod
    def from_sequential(
        cls,
        module: nn.Module,
        noise_scale: Tensor | float,
        prior_loc: Tensor | None = None,
        prior_scale_tril: Tensor | None = None,
        prior_logits: Tensor | None = None,
    ) -> AffineStack:
        """Read the layers of an ``nn.Sequential``; the parameters are shared, not copied.

        Args:
            module: ``Linear``, ``ReLU``, ``LeakyReLU``, ``Identity``, a module type named
                ``Abs``, or any module with a number ``negative_slope``; nested ``Sequential``
                are opened.
            noise_scale: Standard deviations of x given z, a number, ``()`` or ``(obs_dim,)``.
            prior_loc: Prior mean, zeros by default.
            prior_scale_tril: Lower Cholesky factor of the prior covariance, identity by default.
            prior_logits: Of a mixture, whose means and factors are then given too.

        Returns:
            The generator as data.

        Raises:
            NotPiecewiseAffineError: If a module is not piecewise affine, with its name.

        Example:
            >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 5))
            >>> AffineStack.from_sequential(net, 0.1).slopes
            (0.0,)
        """
        weights, biases, slopes = _read_layers(module)
        like = weights[0]
        latent_dim = like.shape[1]
        return cls(
            weights=tuple(weights),
            biases=tuple(biases),
            slopes=tuple(slopes),
            noise_scale=(
                noise_scale
                if isinstance(noise_scale, Tensor)
                else torch.tensor(noise_scale, dtype=torch.float64, device=like.device)
            ),
            prior_loc=like.new_zeros(latent_dim) if prior_loc is None else prior_loc,
            prior_scale_tril=(
                torch.eye(latent_dim, dtype=like.dtype, device=like.device)
                if prior_scale_tril is None
                else prior_scale_tril
            ),
            prior_logits=prior_logits,
        )


def _leaves(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for key, child in module.named_children():
            yield from _leaves(child, f"{name}.{key}" if name else key)
    elif not isinstance(module, nn.Identity):
        yield name, module


def _slope(name: str, module: nn.Module) -> float:
    if isinstance(module, nn.ReLU):
        return 0.0
    if type(module).__name__ == "Abs":
        return -1.0
    slope = getattr(module, "negative_slope", None)
    if isinstance(slope, int | float):
        return float(slope)
    raise NotPiecewiseAffineError(
        f"The exact engine needs a piecewise-affine generator, but module {name or 'module'!r} is "
        f"{type(module).__name__}. Use Linear, ReLU, LeakyReLU, Abs or Identity."
    )


def _read_layers(module: nn.Module) -> tuple[list[Tensor], list[Tensor], list[float]]:
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    slopes: list[float] = []
    leaves = list(_leaves(module))
    linears = [leaf for _, leaf in leaves if isinstance(leaf, nn.Linear)]
    for name, leaf in leaves:
        if not isinstance(leaf, nn.Linear):
            _slope(name, leaf)
    if not linears:
        raise NotPiecewiseAffineError(
            "The exact engine needs a generator with at least one Linear layer, but got "
            f"{type(module).__name__} with none."
        )

    def add_identity(width: int) -> None:
        like = linears[0].weight
        weights.append(torch.eye(width, dtype=like.dtype, device=like.device))
        biases.append(torch.zeros(width, dtype=like.dtype, device=like.device))

    for name, leaf in leaves:
        if isinstance(leaf, nn.Linear):
            if len(weights) > len(slopes):
                slopes.append(1.0)
            weights.append(leaf.weight)
            empty = leaf.weight.new_zeros(leaf.out_features)
            biases.append(empty if leaf.bias is None else leaf.bias)
        else:
            if len(weights) == len(slopes):
                width = weights[-1].shape[0] if weights else linears[0].in_features
                add_identity(width)
            slopes.append(_slope(name, leaf))
    if len(weights) == len(slopes):
        add_identity(int(weights[-1].shape[0]))
    return weights, biases, slopes
