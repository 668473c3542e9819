r"""The exact posterior under a mixture prior: one piecewise posterior for each component.

.. math:: p(z) = \sum_k \pi_k N(z; \mu_k, \Sigma_k) \quad\Rightarrow\quad
          p(x) = \sum_k \pi_k \, p_k(x), \qquad
          p(z \mid x) = \sum_k \underbrace{\frac{\pi_k \, p_k(x)}{p(x)}}_{r_k(x)} \, p_k(z \mid x)

with p_k what the generator has under component k alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from pyrolvm.exact.line_queries import LineQueries, mix_icdf, mix_tails
from pyrolvm.exact.partition import LatentRegions, Partition
from pyrolvm.exact.posterior import PiecewisePosterior, RegionProbabilities

Index = NDArray[np.int64]


@dataclass(frozen=True)
class MixturePosterior(LineQueries):
    """p(z | x_n) of a piecewise-affine generator whose prior is a mixture of Gaussians.

    Made by :func:`~pyrolvm.exact.solve`. Tensors are float64 on the device of x, without a graph.

    Attributes:
        parts: The posterior under each component, K of them.
        log_weights: Log weights of the components, normalised, ``(K,)``.
    """

    parts: tuple[PiecewisePosterior, ...] = field(repr=False)
    log_weights: Tensor = field(repr=False)

    @property
    def size(self) -> int:
        """Number of data N."""
        return self.parts[0].size

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates S."""
        return self.parts[0].latent_dim

    @cached_property
    def _joint(self) -> Tensor:
        """Log pi_k p_k(x_n), ``(N, K)``."""
        found = torch.stack([part.log_evidence for part in self.parts], 1)
        return found + self.log_weights.to(found.device)

    @cached_property
    def log_evidence(self) -> Tensor:
        """Log p(x_n) in nats, ``(N,)``."""
        return self._joint.logsumexp(1)

    @cached_property
    def responsibilities(self) -> Tensor:
        """Probability of each component given the datum, ``(N, K)``."""
        return self._joint.softmax(1)

    @cached_property
    def lost_mass(self) -> Tensor:
        """Bound on the posterior mass outside the boxes, relative to p(x), ``(N,)``."""
        return self._mixed([part.lost_mass for part in self.parts])

    @cached_property
    def standard_error(self) -> Tensor:
        """Error of the log evidence from integration, nats, ``(N,)``; 0 up to three latents."""
        squares = self._mixed([part.standard_error for part in self.parts], power=2)
        return squares.sqrt()

    @cached_property
    def mean(self) -> Tensor:
        """Posterior mean of z, ``(N, S)``."""
        return self._mixed([part.mean for part in self.parts])

    @cached_property
    def covariance(self) -> Tensor:
        """Posterior covariance of z, ``(N, S, S)``."""
        around = [part.mean - self.mean for part in self.parts]
        return self._mixed(
            [
                part.covariance + rest[:, :, None] * rest[:, None, :]
                for part, rest in zip(self.parts, around, strict=True)
            ]
        )

    def _mixed(self, values: list[Tensor], power: int = 1) -> Tensor:
        """Sum of r_k^p v_k^p, over components."""
        stacked = torch.stack(values, 1)
        shape = (self.size, len(self.parts), *[1] * (stacked.ndim - 2))
        return ((self.responsibilities.reshape(shape) * stacked) ** power).sum(1)

    @property
    def partition(self) -> tuple[Partition, ...]:
        """The regions under each component; hand them to the next ``solve``."""
        return tuple(part.partition for part in self.parts)

    @property
    def num_pairs(self) -> int:
        """Number of (datum, region) integrals that were evaluated and kept."""
        return sum(part.num_pairs for part in self.parts)

    @property
    def num_regions(self) -> int:
        """Number of affine regions that any component's box meets."""
        return len(self._union[0])

    @cached_property
    def _union(self) -> tuple[list[tuple[int, int]], list[Index]]:
        """Regions by their codes: where each is first seen, and the numbers of each part's."""
        seen: dict[bytes, int] = {}
        first: list[tuple[int, int]] = []
        index = []
        for k, partition in enumerate(self.partition):
            codes = [code.tobytes() for code in np.packbits(partition.codes, axis=1)]
            for region, code in enumerate(codes):
                if code not in seen:
                    seen[code] = len(first)
                    first.append((k, region))
            index.append(np.array([seen[code] for code in codes]))
        return first, index

    @cached_property
    def regions(self) -> LatentRegions:
        """Affine maps, and breakpoints or cells as far as they reach in one component's box."""
        each = [part.regions for part in self.parts]
        first = self._union[0]
        return replace(
            each[0],
            cells=tuple(each[k].cells[r] for k, r in first if each[k].cells),
            matrices=torch.stack([each[k].matrices[r] for k, r in first]),
            offsets=torch.stack([each[k].offsets[r] for k, r in first]),
        )

    @cached_property
    def region_probabilities(self) -> RegionProbabilities:
        """Posterior probabilities of the regions, row-sparse, on the host."""
        shape = (self.size, self.num_regions)
        total = csr_array(shape)
        for k, (part, index) in enumerate(zip(self.parts, self._union[1], strict=True)):
            found = part.region_probabilities
            share = self.responsibilities[:, k].cpu().repeat_interleave(found.offsets.diff())
            columns = index[found.regions.numpy()]
            values = (found.values * share).numpy()
            total = total + csr_array((values, columns, found.offsets.numpy()), shape=shape)
        return RegionProbabilities(
            offsets=torch.from_numpy(total.indptr.astype(np.int64)),
            regions=torch.from_numpy(total.indices.astype(np.int64)),
            values=torch.from_numpy(total.data),
            num_regions=self.num_regions,
        )

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of the posterior in nats at points ``(..., N, S)``; shape ``(..., N)``."""
        each = torch.stack([part.log_prob(z) for part in self.parts], -1)
        return (each + self.responsibilities.log().to(each.device)).logsumexp(-1)

    def log_tails(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log P(Z <= z | x_n) and log P(Z > z | x_n) for one latent, nats, each ``(..., N)``."""
        return mix_tails(self.parts, self.responsibilities, z)

    def icdf(self, probability: Tensor) -> Tensor:
        """Points z with given P(Z <= z | x_n), for one latent, ``(..., N)``."""
        return mix_icdf(self.parts, self.responsibilities, probability)

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw exactly and independently.

        Args:
            num: Draws for each datum.
            generator: Source of the seeds; torch's global one by default.

        Returns:
            Draws of z, ``(num, N, S)``, float64, without a graph.
        """
        draws = torch.stack([part.sample(num, generator) for part in self.parts], -2)
        if num * self.size == 0:
            return draws[..., 0, :]
        device = self.responsibilities.device if generator is None else generator.device
        chosen = torch.multinomial(
            self.responsibilities.to(device), num, replacement=True, generator=generator
        ).to(draws.device)
        index = chosen.T[..., None, None].expand(num, self.size, 1, self.latent_dim)
        return draws.gather(-2, index).squeeze(-2)
