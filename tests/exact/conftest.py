"""Generators to try the exact engine on, and references that share no code with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from pyrolvm.exact import AffineStack


class Abs(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.abs()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "abs": Abs,
}


def random_stack(
    latent_dim: int,
    hidden: Sequence[int],
    obs_dim: int,
    noise: float = 0.1,
    activation: str = "relu",
    *,
    seed: int = 0,
    gain: float = 1.7,
    standard_prior: bool = False,
) -> AffineStack:
    """Random network with uneven noise and, by default, a Gaussian prior that is not standard."""
    random = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    width = latent_dim
    for units in hidden:
        layers += [nn.Linear(width, units), ACTIVATIONS[activation]()]
        width = units
    module = nn.Sequential(*layers, nn.Linear(width, obs_dim)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            bound = gain / parameter.shape[-1] ** 0.5 if parameter.ndim == 2 else 0.7
            parameter.uniform_(-bound, bound, generator=random)
    scale = noise * torch.linspace(0.7, 1.3, obs_dim, dtype=torch.float64)
    if standard_prior:
        return AffineStack.from_sequential(module, scale)
    loc = 0.4 * torch.randn(latent_dim, generator=random, dtype=torch.float64)
    tril = 0.3 * torch.randn(latent_dim, latent_dim, generator=random, dtype=torch.float64)
    tril = tril.tril(-1) + torch.diag(0.8 + tril.diagonal().abs())
    return AffineStack.from_sequential(module, scale, loc, tril)


def log_joint(stack: AffineStack, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x, z) by torch's own distributions, ``(..., N)``."""
    prior = MultivariateNormal(stack.prior_loc, scale_tril=stack.prior_scale_tril).log_prob(z)
    return prior + Normal(stack.forward(z), stack.noise_scale).log_prob(x).sum(-1)


def observe(stack: AffineStack, size: int, *, seed: int = 1, away: float = 0.0) -> Tensor:
    """Data from the model, moved off the manifold by ``away`` noise scales."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(size, stack.latent_dim, generator=random, dtype=torch.float64)
    z = stack.prior_loc + z @ stack.prior_scale_tril.mT
    noise = torch.randn(size, stack.obs_dim, generator=random, dtype=torch.float64)
    shift = torch.randn(size, stack.obs_dim, generator=random, dtype=torch.float64)
    shift = away * nn.functional.normalize(shift, dim=1)
    return (stack.forward(z) + stack.noise_scale * (noise + shift)).detach()


@dataclass(frozen=True)
class Reference:
    log_evidence: Tensor
    mean: Tensor
    covariance: Tensor
    entropy: Tensor


def from_nodes(stack: AffineStack, x: Tensor, z: Tensor, log_weight: Tensor) -> Reference:
    """Evidence and moments from quadrature nodes ``(M, S)`` and log weights ``(M,)``."""
    results = []
    for row in x:
        joint = log_joint(stack, row, z).detach()
        log_p = torch.logsumexp(joint + log_weight, 0)
        share = (joint + log_weight - log_p).exp()
        mean = share @ z
        rest = z - mean
        covariance = rest.mT @ (rest * share[:, None])
        results.append((log_p, mean, covariance, log_p - share @ joint))
    return Reference(*(torch.stack(column) for column in zip(*results, strict=True)))


def kinks_on_line(stack: AffineStack, low: float, high: float) -> np.ndarray:
    """Zeros of all pre-activations of a one-latent generator, by sign changes on a fine grid."""
    grid = torch.linspace(low, high, 200_001, dtype=torch.float64)
    found = []
    hidden = grid[:, None]
    for weight, bias, slope in zip(stack.weights, stack.biases, stack.slopes, strict=False):
        inner = (hidden @ weight.mT + bias).detach()
        rows, _ = torch.nonzero(inner[1:] * inner[:-1] < 0, as_tuple=True)
        columns = torch.nonzero(inner[1:] * inner[:-1] < 0, as_tuple=True)[1]
        start, end = inner[rows, columns], inner[rows + 1, columns]
        found.append((grid[rows] + (grid[1] - grid[0]) * start / (start - end)).numpy())
        hidden = inner.clamp(min=0) + slope * inner.clamp(max=0)
    return np.unique(np.concatenate(found)) if found else np.zeros(0)


def line_quadrature(stack: AffineStack, x: Tensor, panels: int = 3000) -> Reference:
    """Composite Gauss-Legendre between kinks, for one latent coordinate."""
    centre, scale = stack.prior_loc.item(), stack.prior_scale_tril.item()
    low, high = centre - 9 * scale, centre + 9 * scale
    edges = np.union1d(kinks_on_line(stack, low, high), np.linspace(low, high, panels))
    node, weight = np.polynomial.legendre.leggauss(16)
    length = np.diff(edges)[:, None]
    z = edges[:-1, None] + 0.5 * length * (node + 1)
    flat = np.broadcast_to(0.5 * length * weight, z.shape)
    nodes = torch.from_numpy(z.reshape(-1, 1).copy())
    return from_nodes(stack, x, nodes, torch.from_numpy(flat.reshape(-1).copy()).log())


def plane_quadrature(
    stack: AffineStack, x: Tensor, polygons: Sequence[Tensor], width: float
) -> Reference:
    """Gauss-Legendre on triangles no longer than ``width``, for two latent coordinates."""
    fans = [torch.stack([p[0], p[i], p[i + 1]]) for p in polygons for i in range(1, len(p) - 1)]
    triangles = torch.stack(fans)
    inverse = torch.linalg.inv(stack.prior_scale_tril)
    longest = 1e9
    while longest > width:
        sides = (triangles - triangles.roll(-1, 1)).square().sum(-1)
        longest = sides.max().sqrt().item()
        if longest <= width:
            break
        # halve the longest side, after turning it to the front
        order = (sides.argmax(1)[:, None] + torch.arange(3)) % 3
        triangles = torch.take_along_dim(triangles, order[:, :, None], 1)
        a, b, c = triangles.unbind(1)
        middle = 0.5 * (a + b)
        big = (a - b).square().sum(-1).sqrt() > width
        split = torch.cat(
            [torch.stack([a, middle, c], 1)[big], torch.stack([middle, b, c], 1)[big]]
        )
        triangles = torch.cat([split, triangles[~big]])
        if longest < 2.0:
            reach = ((triangles - stack.prior_loc) @ inverse.mT).abs().amax(-1).amin(1)
            triangles = triangles[reach < 8.0]
        if longest < 0.6:
            corners = torch.cat([triangles, triangles.mean(1, keepdim=True)], 1)
            level = log_joint(stack, x[:, None, None], corners).detach().amax(2)
            ratio = longest / width
            limit = -50 - 30 * ratio - 4 * ratio**2
            triangles = triangles[(level - level.amax(1, keepdim=True)).amax(0) > limit]
    level = log_joint(stack, x[:, None, None], triangles).detach().amax(2)
    triangles = triangles[(level - level.amax(1, keepdim=True)).amax(0) > -75]
    node, weight = np.polynomial.legendre.leggauss(14)
    s, w = torch.from_numpy(0.5 * (node + 1)), torch.from_numpy(0.5 * weight)
    first, second = (t.reshape(-1) for t in torch.meshgrid(s, s, indexing="ij"))
    factor = (w[:, None] * w).reshape(-1) * first
    a, b, c = (corner[:, None] for corner in triangles.unbind(1))
    z = a + first[:, None] * ((b - a) + second[:, None] * (c - b))
    e, f = (b - a)[:, 0], (c - a)[:, 0]
    area = (e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]).abs()
    log_weight = (area[:, None] * factor).clamp(min=1e-300).log()
    return from_nodes(stack, x, z.reshape(-1, 2), log_weight.reshape(-1))


def train(latent_dim: int, hidden: Sequence[int], obs_dim: int, steps: int) -> AffineStack:
    """Regress a ReLU network to a smooth manifold; noise = residual."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers: list[nn.Module] = []
        width = latent_dim
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()]
            width = units
        module = nn.Sequential(*layers, nn.Linear(width, obs_dim)).double()
        waves = torch.randn(latent_dim, obs_dim, dtype=torch.float64)
        optimiser = torch.optim.Adam(module.parameters(), 1e-2)
        for _ in range(steps):
            z = torch.randn(256, latent_dim, dtype=torch.float64)
            loss = (module(z) - torch.sin(1.5 * z @ waves)).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    module.requires_grad_(False)
    return AffineStack.from_sequential(module, float(loss.detach().sqrt()))


@pytest.fixture(scope="session")
def trained_line() -> AffineStack:
    return train(1, (24, 24), 2, 200)


@pytest.fixture(scope="session")
def trained_plane() -> AffineStack:
    return train(2, (12, 12), 6, 200)


# Test modules are imported by path, so that helpers reach them as fixtures.


@pytest.fixture(name="random_stack", scope="session")
def give_random_stack() -> Callable[..., AffineStack]:
    return random_stack


@pytest.fixture(name="observe", scope="session")
def give_observe() -> Callable[..., Tensor]:
    return observe


@pytest.fixture(name="log_joint", scope="session")
def give_log_joint() -> Callable[..., Tensor]:
    return log_joint


@pytest.fixture(name="line_quadrature", scope="session")
def give_line_quadrature() -> Callable[..., Reference]:
    return line_quadrature


@pytest.fixture(name="plane_quadrature", scope="session")
def give_plane_quadrature() -> Callable[..., Reference]:
    return plane_quadrature
