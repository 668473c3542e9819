"""A Gaussian posterior and guides that differ from it in one way each, at three distances."""

from __future__ import annotations

import numpy as np
import torch

MEAN = torch.tensor([2.0, -1.0]).double()
SCALE = torch.tensor([1.0, 3.0]).double()
DISTANCES = {
    "too narrow": (0.8, 0.6, 0.3),
    "too wide": (1.25, 1.6, 3.0),
    "shifted": (0.3, 0.8, 2.0),
    "ignores correlation": (0.5, 0.8, 0.95),
}
"""Factor of the width; shift of the first mean in posterior sd; the posterior's correlation."""
CASES = [(defect, size) for defect, sizes in DISTANCES.items() for size in sizes]


class Gaussians:
    """Mean and covariance of guide and posterior."""

    def __init__(self, guide_mean, guide_covariance, mean, covariance):
        self.guide_mean, self.guide_covariance = guide_mean, guide_covariance
        self.mean, self.covariance = mean, covariance

    def draws(self, size, num_data=1, seed=0):
        """Draws of the guide and of the posterior."""
        generator = torch.Generator().manual_seed(seed)
        return tuple(
            mean + torch.randn(size, num_data, 2, generator=generator, dtype=torch.float64)
            @ torch.linalg.cholesky(covariance).T
            for mean, covariance in (
                (self.guide_mean, self.guide_covariance), (self.mean, self.covariance),
            )
        )  # fmt: skip

    def whitened(self):
        """The guide's mean and covariance where the posterior is standard normal."""
        root = torch.linalg.cholesky(self.covariance)
        shift = torch.linalg.solve(root, self.guide_mean - self.mean)
        inner = torch.linalg.solve(root, self.guide_covariance)
        return shift.numpy(), torch.linalg.solve(root, inner.T).numpy()


def posterior(correlation=0.6):
    unit = torch.tensor([[1.0, correlation], [correlation, 1.0]]).double()
    return SCALE[:, None] * unit * SCALE


def right():
    return Gaussians(MEAN, posterior(), MEAN, posterior())


def pair(defect, size):
    """A guide with one defect. The mean-field one maximises the ELBO."""
    if defect == "ignores correlation":
        covariance = posterior(size)
        conditional = torch.diag(1 / torch.linalg.inv(covariance).diagonal())
        return Gaussians(MEAN, conditional, MEAN, covariance)
    if defect == "shifted":
        shift = torch.tensor([size, 0.0]).double() * SCALE
        return Gaussians(MEAN + shift, posterior(), MEAN, posterior())
    return Gaussians(MEAN, size**2 * posterior(), MEAN, posterior())


def bayes_accuracy(gaussians, size=200_000):
    """Accuracy of the best classifier, 1/2 + TV/2, by Monte Carlo with both densities."""
    guide, target = (
        torch.distributions.MultivariateNormal(mean, covariance)
        for mean, covariance in (
            (gaussians.guide_mean, gaussians.guide_covariance),
            (gaussians.mean, gaussians.covariance),
        )
    )
    x, y = (each[:, 0] for each in gaussians.draws(size, seed=1))
    mine = (guide.log_prob(x) > target.log_prob(x)).double().mean()
    theirs = (guide.log_prob(y) < target.log_prob(y)).double().mean()
    return (mine + theirs).item() / 2


def sliced_wasserstein_2d(gaussians):
    """Closed form for each direction, averaged over the circle."""
    shift, covariance = gaussians.whitened()
    angle = np.linspace(0, np.pi, 2000, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)])
    width = np.sqrt(np.einsum("ia,ij,ja->a", direction, covariance, direction))
    return float(np.sqrt(((shift @ direction) ** 2 + (width - 1) ** 2).mean()))
