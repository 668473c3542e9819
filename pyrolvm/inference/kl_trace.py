r"""How far a guide is from the exact posterior while it trains.

.. math:: \operatorname{KL}\big(q(z \mid x) \,\|\, p(z \mid x)\big)
          = \log p(x) - \operatorname{ELBO}(x)

with log p(x) exact at every visit, so that the only error left is that of the ELBO's particles. It
tells apart what −ELBO mixes up: a generator that explains the data badly, and a guide that is far
from the posterior of the generator as it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyrolvm.core import Data, EvidenceError, log_densities
from pyrolvm.core.errors import require_at_least
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.evidence import exact_evidence

if TYPE_CHECKING:
    import pandas as pd


class KLTrace:
    """Records the exact KL of a guide, datum by datum; hand it to ``fit`` as ``watch``.

    Args:
        model: A Pyro program whose evidence is known (exactly, or by quadrature).
        guide: Any guide for it.
        x: The data to watch, ``(N, obs_dim)``, or a mapping by argument name; held-out data as
            well as training data.
        num_particles: Draws of the guide for each datum and visit.
        seed: Of these draws; the same at every visit, so that curves are smooth.

    Raises:
        EvidenceError: If the evidence of the model is not known.

    >>> from pyrolvm import KLTrace, fit, guides, models
    >>> model = models.CPAGenerator(1, 2, hidden=(4,))
    >>> guide = guides.Amortized(model, "diagonal", hidden=(8,))
    >>> x = model(size=50).detach()
    >>> trace = KLTrace(model, guide, x)
    >>> _ = fit(model, guide, x, steps=20, watch=trace, watch_every=10, progress=False)
    >>> trace.steps, trace.kl.shape
    ([0, 10, 20], torch.Size([3, 50]))
    """

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        x: Tensor | Mapping[str, Tensor],
        *,
        num_particles: int = 100,
        seed: int = 0,
    ) -> None:
        require_at_least(2, num_particles=num_particles)
        self.model, self.guide, self.x = model, guide, x
        self.num_particles, self.seed = num_particles, seed
        self.steps: list[int] = []
        self._visits: list[tuple[Tensor, Tensor, Tensor]] = []
        if exact_evidence(model, Data.of(x).rows(slice(0, 2))) is None:
            raise EvidenceError(
                "KLTrace needs a model whose evidence is known: a closed form, a piecewise-affine "
                f"generator, or one or two latents. {type(model).__name__} offers none of them; "
                "compare its bounds instead: diagnose(model, guide, x)."
            )

    def __call__(self, step: int) -> None:
        """Measure the pair as it stands, after so many steps."""
        evidence = exact_evidence(self.model, self.x)
        assert evidence is not None
        with own_randomness(self.seed):
            found = log_densities(self.model, self.guide, self.x, num_particles=self.num_particles)
        found.require_per_datum("KLTrace")
        error, elbo = torch.std_mean(found.log_weights, 0)
        error = error / self.num_particles**0.5
        self.steps.append(step)
        self._visits.append((evidence.value.detach().cpu(), elbo.cpu(), error.cpu()))

    @property
    def log_evidence(self) -> Tensor:
        """Exact log p(x) in nats at each of T visits, ``(T, N)``."""
        return self._stacked(0)

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound in nats, ``(T, N)``."""
        return self._stacked(1)

    @property
    def standard_error(self) -> Tensor:
        """Monte Carlo error of the bound, and so of the KL, in nats, ``(T, N)``."""
        return self._stacked(2)

    @property
    def kl(self) -> Tensor:
        """KL of guide from posterior in nats, ``(T, N)``; below 0 by no more than its error."""
        return self.log_evidence - self.elbo

    @property
    def frame(self) -> pd.DataFrame:
        """One row a visit: step, means over data and quantiles of the KL, nats per datum."""
        import pandas as pd

        low, middle, high = torch.quantile(
            self.kl, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=1
        )
        columns = {
            "log_evidence": self.log_evidence.mean(1), "elbo": self.elbo.mean(1),
            "kl": self.kl.mean(1), "kl_10": low, "kl_50": middle, "kl_90": high,
        }  # fmt: skip
        return pd.DataFrame({"step": self.steps} | {k: v.numpy() for k, v in columns.items()})

    def _stacked(self, part: int) -> Tensor:
        if not self._visits:
            return torch.empty(0, Data.of(self.x).num_rows, dtype=torch.float64)
        return torch.stack([visit[part] for visit in self._visits]).double()
