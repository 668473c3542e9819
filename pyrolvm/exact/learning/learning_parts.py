"""Which tensors of a generator learn: those that carry a gradient."""

from __future__ import annotations

from dataclasses import dataclass

from pyrolvm.exact.stack import AffineStack


@dataclass(frozen=True)
class LearningParts:
    """What of a generator may change.

    Args:
        weights: For each layer, whether its weights learn.
        biases: For each layer, whether its biases learn.
        noise: Whether the noise learns.
        isotropic: Whether all observed coordinates share one noise.
        prior_loc: Whether the prior's means learn.
        prior_scale_tril: Whether the prior's covariances learn.
        prior_logits: Whether the weights of a mixture prior learn.
        mixed: Whether the prior is a mixture.
    """

    weights: tuple[bool, ...]
    biases: tuple[bool, ...]
    noise: bool = False
    isotropic: bool = True
    prior_loc: bool = False
    prior_scale_tril: bool = False
    prior_logits: bool = False
    mixed: bool = False

    @classmethod
    def of(cls, stack: AffineStack) -> LearningParts:
        """Read off which tensors of a live generator carry a gradient."""
        logits = stack.prior_logits
        return cls(
            weights=tuple(weight.requires_grad for weight in stack.weights),
            biases=tuple(bias.requires_grad for bias in stack.biases),
            noise=stack.noise_scale.requires_grad,
            isotropic=stack.isotropic,
            prior_loc=stack.prior_loc.requires_grad,
            prior_scale_tril=stack.prior_scale_tril.requires_grad,
            prior_logits=logits is not None and logits.requires_grad,
            mixed=logits is not None,
        )

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """Numbers of the hidden layers that learn."""
        return tuple(layer for layer in range(len(self.weights) - 1) if self.layer(layer))

    def layer(self, number: int) -> bool:
        """Whether weights or biases of a layer learn."""
        return self.weights[number] or self.biases[number]

    @property
    def output(self) -> bool:
        """Whether last layer or noise learn."""
        return self.noise or self.layer(-1)

    @property
    def prior(self) -> bool:
        """Whether anything of the prior learns."""
        return self.prior_loc or self.prior_scale_tril or self.prior_logits

    @property
    def absorbs_prior(self) -> bool:
        """Whether the first layer can take over what a single Gaussian prior would learn."""
        return self.weights[0] and self.biases[0] and not self.mixed

    @property
    def anything(self) -> bool:
        """Whether anything learns at all."""
        return bool(self.hidden_layers) or self.output or self.prior
