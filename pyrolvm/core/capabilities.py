"""What a model can offer to a guide.

A guide asks for capabilities, never for a model class: any object with these members will do, also
one that was written outside PyroLVM. A capability that depends on how a model was built (a VAE is
piecewise affine only with a ReLU decoder and a Gaussian likelihood) is a property that raises
``AttributeError`` where the model does not have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from pyro.distributions import TorchDistribution
from torch import Tensor


@runtime_checkable
class VectorLatent(Protocol):
    """One continuous latent vector for each datum.

    ``latent_sites`` names one site; its value has shape ``(..., N, latent_dim)``, an observation
    ``(N, obs_dim)``.
    """

    latent_sites: tuple[str, ...]
    latent_dim: int
    obs_dim: int


@runtime_checkable
class ExplicitJoint(Protocol):
    """One continuous latent vector, whose prior and likelihood can be had as distributions.

    Guides that follow the gradient of log p(x, z), and quadrature, evaluate them anywhere without
    running the program.
    """

    latent_sites: tuple[str, ...]
    latent_dim: int
    obs_dim: int

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        ...

    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z) for z of shape ``(..., latent_dim)``, event shape ``(obs_dim,)``."""
        ...


@runtime_checkable
class ConditionalPrior(Protocol):
    """One continuous latent vector whose prior depends on the environment of its datum.

    Environments are labels ``u`` of shape ``(N,)``, whole numbers from 0 to E − 1; programs take
    them as a second argument, ``forward(x=None, u=None, *, size=None)``.
    """

    latent_sites: tuple[str, ...]
    latent_dim: int
    obs_dim: int
    num_environments: int

    def conditional_prior(self, u: Tensor) -> TorchDistribution:
        """Return p(z | u): batch shape ``(N,)``, event shape ``(latent_dim,)``."""
        ...


@runtime_checkable
class ConditionalJoint(ConditionalPrior, Protocol):
    """A conditional prior, and a likelihood that can be had as a distribution."""

    def likelihood(self, z: Tensor) -> TorchDistribution:
        """Return p(x | z) for z of shape ``(..., latent_dim)``, event shape ``(obs_dim,)``."""
        ...


@runtime_checkable
class TriangularMonotone(Protocol):
    r"""The generator, or its first outputs, is a triangular monotone increasing (TMI) map.

    Output i depends on :math:`z_1, \ldots, z_i` and is strictly monotone in :math:`z_i`,
    increasing where ``signature[i]`` is 1 and decreasing where it is −1. Further outputs may be
    anything.
    """

    latent_dim: int
    obs_dim: int

    @property
    def signature(self) -> tuple[int, ...]:
        """Direction of each of the first ``latent_dim`` outputs, 1 or −1."""
        ...

    @property
    def prior_is_fixed(self) -> bool:
        """Whether p(z) is given; otherwise it is learned, independent in its coordinates."""
        ...


@runtime_checkable
class ConvexGradient(Protocol):
    """The generator is the gradient of a convex function: a Brenier map."""

    latent_dim: int
    obs_dim: int

    @property
    def prior_is_fixed(self) -> bool:
        """Whether p(z) is given."""
        ...

    def potential(self, z: Tensor) -> Tensor:
        """Return the function whose gradient generates: ``(..., latent_dim)`` to ``(...)``."""
        ...


@runtime_checkable
class HasEvidence(Protocol):
    """The evidence is known exactly, whether the posterior is or not."""

    obs_dim: int

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, shape ``(N,)``, differentiable in the parameters."""
        ...


@runtime_checkable
class HasCode(Protocol):
    """Without noise, x = f(z): an observation has one latent code, and nothing is inferred.

    The program has no latent site (``latent_sites`` is empty) and scores x under the law of f(z);
    the evidence is that of a change of variables.
    """

    latent_dim: int
    obs_dim: int

    def encode(self, x: Tensor) -> Tensor:
        """Return the code of each observation: ``(..., obs_dim)`` to ``(..., latent_dim)``."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """Return the observation of each code: ``(..., latent_dim)`` to ``(..., obs_dim)``."""
        ...

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, shape ``(N,)``."""
        ...


@runtime_checkable
class StandardisesData(Protocol):
    """Begins or ends with a change of units, taken from the training data once."""

    @property
    def is_standardised(self) -> bool:
        """Whether the units were taken already."""
        ...

    def standardise_by(self, x: Tensor) -> object:
        """Take units from data of shape ``(N, obs_dim)``."""
        ...


@runtime_checkable
class Generator(Protocol):
    """The mean of x given z is a map from latents to observations."""

    latent_dim: int
    obs_dim: int

    def prior(self) -> TorchDistribution:
        """Return p(z), event shape ``(latent_dim,)``."""
        ...

    def generate(self, z: Tensor) -> Tensor:
        """Return the mean of x: ``(..., latent_dim)`` to ``(..., obs_dim)``."""
        ...


@runtime_checkable
class BiLipschitz(Protocol):
    r"""Proven constants of :math:`m |z - z'| \le |G(z) - G(z')| \le M |z - z'|`, for all pairs."""

    @property
    def certified_constants(self) -> tuple[float, float]:
        """The constants (m, M)."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """The posterior and the evidence are known in closed form."""

    latent_sites: tuple[str, ...]

    def posterior(self, x: Tensor) -> TorchDistribution:
        """Return p(z | x) with batch shape ``(N,)`` and event shape ``(latent_dim,)``."""
        ...

    def log_evidence(self, x: Tensor) -> Tensor:
        """Return log p(x) in nats, shape ``(N,)``."""
        ...


@runtime_checkable
class AffineGenerator(Protocol):
    """A generator x = g(z) + noise as data: affine layers, slopes, Gaussian noise and prior."""

    @property
    def weights(self) -> Sequence[Tensor]:
        """Matrices of the layers, ``(out_features, in_features)`` each."""
        ...

    @property
    def biases(self) -> Sequence[Tensor]:
        """Vectors of the layers, ``(out_features,)`` each."""
        ...

    @property
    def slopes(self) -> Sequence[float]:
        """Slope of each activation left of 0 (0 for ReLU, −1 for Abs); right of 0 it is 1."""
        ...

    @property
    def noise_scale(self) -> Tensor:
        """Standard deviations of x given z, shape ``(obs_dim,)``."""
        ...

    @property
    def prior_loc(self) -> Tensor:
        """Mean of z, shape ``(latent_dim,)``.

        A generator whose prior is a mixture has ``prior_logits`` of shape ``(K,)`` too, and one
        more leading dimension here and in ``prior_scale_tril``.
        """
        ...

    @property
    def prior_scale_tril(self) -> Tensor:
        """Cholesky factor of the covariance of z, shape ``(latent_dim, latent_dim)``."""
        ...


@runtime_checkable
class PiecewiseAffine(Protocol):
    """The generator is piecewise affine, its noise Gaussian, its prior one Gaussian or several."""

    latent_sites: tuple[str, ...]
    latent_dim: int
    obs_dim: int

    @property
    def affine_stack(self) -> AffineGenerator:
        """The generator's layers, live: gradients reach the model's parameters."""
        ...


@runtime_checkable
class AssignableStack(Protocol):
    """A piecewise-affine generator whose layers, noise and prior can be set.

    What learns is what carries a gradient in ``affine_stack``.
    """

    latent_sites: tuple[str, ...]
    latent_dim: int
    obs_dim: int

    @property
    def affine_stack(self) -> AffineGenerator:
        """The generator's layers, live: gradients reach the model's parameters."""
        ...

    def assign_stack(self, stack: AffineGenerator) -> None:
        """Take over the values of layers, noise and prior that learn."""
        ...


@runtime_checkable
class Layered(Protocol):
    """Several latent layers, one site each, drawn from the top down; x is drawn last.

    ``latent_sites`` names them top first (``("z_2", "z_1")``), ``layer_dims`` gives the width of
    each.
    """

    latent_sites: tuple[str, ...]
    layer_dims: Mapping[str, int]
    obs_dim: int

    def layer_prior(self, site: str, above: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(z_l | z_{>l}).

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each; empty at the
                top.

        Returns:
            Batch shape ``(..., N)`` below the top, event shape ``(width,)``.
        """
        ...

    def layer_likelihood(self, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(x | z_1, ..., z_L), event shape ``(obs_dim,)``."""
        ...


@runtime_checkable
class HasOptimalLayers(Protocol):
    """The best top-down guide for any weights of the layers' rates is known in closed form."""

    latent_sites: tuple[str, ...]

    def optimal_layer(
        self,
        site: str,
        above: Mapping[str, Tensor],
        x: Tensor,
        rate_weights: Mapping[str, float | Tensor],
    ) -> TorchDistribution:
        """Return q(z_l | z_{>l}, x) of the guide with the smallest weighted loss.

        Args:
            site: Name of the layer.
            above: Values of the layers above it by name, ``(..., N, width)`` each.
            x: Observations, shape ``(N, obs_dim)``.
            rate_weights: Positive weight of each layer's rate.

        Returns:
            Batch shape ``(..., N)``, event shape ``(width,)``.
        """
        ...


@runtime_checkable
class BinaryLayers(Protocol):
    """Layers of zeros and ones, each drawn given the next one above alone, and x drawn last.

    What :class:`Layered` offers, with the log odds of each unit at hand: exact sums over small
    layers, and samplers that mix two conditionals of one layer, need them.
    """

    latent_sites: tuple[str, ...]
    layer_dims: Mapping[str, int]
    obs_dim: int

    def layer_prior(self, site: str, above: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(z_l | z_{l+1}), as in :class:`Layered`."""
        ...

    def layer_likelihood(self, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Return p(x | z_1), as in :class:`Layered`."""
        ...

    def layer_logits(self, site: str, above: Tensor | None) -> Tensor:
        """Return the log odds of a layer's units, or of x, given the next layer above.

        Args:
            site: Name of a latent layer, or ``"x"``.
            above: Value of the next layer above, ``(..., width)``; None at the top.

        Returns:
            Shape ``(..., width of the site)``; ``(width,)`` at the top.
        """
        ...


@runtime_checkable
class BinaryRecognition(Protocol):
    """A guide over layers of zeros and ones, each drawn given the next one below, from x up."""

    def layer_logits(self, site: str, below: Tensor) -> Tensor:
        """Return the log odds of a layer's units under q(z_l | z_{l-1}).

        Args:
            site: Name of a latent layer.
            below: Value of the next layer below, or of x for z_1, ``(..., width)``.

        Returns:
            Shape ``(..., width of the site)``.
        """
        ...
