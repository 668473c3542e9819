"""Where the fit of an oracle starts: members of its family that may be close already."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import HasPosterior, Model, evaluating
from pyrolvm.core.pairing import offers
from pyrolvm.core.randomness import own_randomness
from pyrolvm.families import Family, Mixture
from pyrolvm.guides import PerDatum
from pyrolvm.guides.per_datum import Encoder
from pyrolvm.inference.laplace import Modes, laplace_approximation

POSTERIOR_DRAWS = 1000


class Starts:
    """Starts of the oracles of one comparison; what is costly is found once.

    Args:
        seed: Of draws from priors and posteriors.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._solved: list[tuple[Any, PerDatum]] = []
        self._modes: dict[tuple[int, int], Modes] = {}

    def remember(self, model: Any, oracle: PerDatum) -> None:
        """Let the solution of a Gaussian family start richer ones."""
        self._solved.append((model, oracle))

    def of(self, model: Any, oracle: PerDatum, x: Tensor, encoder: Encoder | None) -> list[Tensor]:
        """Members of the oracle's family, one for each datum, shape ``(N, P)`` each.

        They come from the encoder, from the solutions of simpler families, from the posterior's
        own draws where it is known, and from Laplace's approximation, which finds modes that the
        encoder overlooks.

        Args:
            model: The model.
            oracle: What is to be fitted.
            x: The scored data, shape ``(N, obs_dim)``.
            encoder: A guide of the same family, if there is one.
        """
        family = oracle.family
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        with torch.no_grad():
            starts = [] if encoder is None else [encoder.parameters_for(x)]
            starts += [
                oracle.parameters_near(simpler.distribution(x))
                for other, simpler in self._solved
                if other is model
            ]
            if offers(model, HasPosterior):
                starts.append(family.from_draws(self._posterior_draws(model, x)).to(dtype))
        if isinstance(model, Model) and not family.is_binary:
            starts.append(self._from_modes(model, x, family).to(dtype))
        return starts or [family.initial.to(x.device, dtype).expand(len(x), -1)]

    def _posterior_draws(self, model: Any, x: Tensor) -> Tensor:
        """Exact draws, shape ``(K, N, S)``."""
        with evaluating(model), own_randomness(self.seed):
            return model.posterior(x.double()).sample(torch.Size([POSTERIOR_DRAWS]))

    def _from_modes(self, model: Model, x: Tensor, family: Family) -> Tensor:
        """Members near Laplace's approximation; a mixture gets one mode for each component."""
        number = family.num_components if isinstance(family, Mixture) else 1
        if (id(model), number) not in self._modes:
            found = laplace_approximation(model, x, number, seed=self.seed)
            self._modes[id(model), number] = found
        modes = self._modes[id(model), number]
        if isinstance(family, Mixture):
            return family.from_gaussians(modes.loc, modes.scale_tril, modes.log_weight)
        return family.from_gaussian(modes.loc[:, 0], modes.scale_tril[:, 0])
