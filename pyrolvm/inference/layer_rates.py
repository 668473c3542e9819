r"""What a guide spends on each layer, and what is left to explain in the data.

.. math:: -\text{ELBO}(x) = \underbrace{E_q[-\log p(x \mid z)]}_{\text{distortion}} +
          \sum_l \underbrace{E_q \operatorname{KL}
          (q(z_l \mid z_{>l}, x) \,\|\, p(z_l \mid z_{>l}))}_{\text{rate of layer } l}

The mean of a layer's rate bounds what the layer tells of x beyond the layers above it, and is its
code length. Rates are never weighted here, with whatever weights the guide was trained.

References:
    Xiao & Bamler (2023), Trading Information between Latents in Hierarchical Variational
    Autoencoders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyro
import torch
from torch import Tensor

from pyrolvm.core import Data, Model, SiteError, evaluating, mean_over_data
from pyrolvm.core.errors import IncompatiblePairError, require_at_least, require_seed
from pyrolvm.core.guide import keep_the_contract
from pyrolvm.core.matching import nan_sentence, run_once
from pyrolvm.core.point_masses import refuse_point_masses
from pyrolvm.core.programs import require_pair
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.sites import by_particle_and_datum, data_dim, log_density
from pyrolvm.core.tracing import PairTrace, run_particles
from pyrolvm.core.vectorising import particle_dim
from pyrolvm.objectives.site_rates import analytic_rate, refuse_one_sided_scales, site_weight
from pyrolvm.objectives.top_down import split_obstacle

if TYPE_CHECKING:
    import pandas as pd

Method = Literal["analytic", "monte carlo"]
CHUNK_ROWS = 2048
CHUNK_DRAWS = 2**16


@dataclass(frozen=True, repr=False)
class LayerRates:
    """Rates and distortion of each datum, in nats.

    Args:
        total: Sum of all rates, log q(z | x) - log p(z) on average, shape ``(N,)``.
        distortion: Mean of -log p(x | z), shape ``(N,)``.
        standard_error: Monte Carlo error of each datum's figures, ``(N,)`` each, by site, and for
            ``"total"``, ``"distortion"`` and ``"elbo"``.
        method: How the rate of each site was obtained; empty where rates do not split.
        obstacle: Why they do not; None where they do.
    """

    total: Tensor
    distortion: Tensor
    standard_error: Mapping[str, Tensor]
    method: Mapping[str, Method]
    obstacle: str | None = None
    _rates: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rates(self) -> Mapping[str, Tensor]:
        """Rate of each layer by site, in the model's order, shape ``(N,)`` each.

        Raises:
            IncompatiblePairError: If the guide is not drawn from the top down.
        """
        if self.obstacle is not None:
            raise IncompatiblePairError(
                "The rate of this guide does not split into layers, which need a guide that is "
                f"drawn from the top down, as the model is; but {self.obstacle}. Terms of single "
                "sites are no divergences and can be negative. Use .total, or a Layerwise or "
                "Ladder guide."
            )
        return self._rates

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound, shape ``(N,)``."""
        return -self.distortion - self.total

    @property
    def frame(self) -> pd.DataFrame:
        """One row a quantity: mean over data, its standard error over data, and the method.

        ``monte_carlo_error`` is the part of the error that more particles would remove.
        """
        import pandas as pd

        named = {**self._rates, "total": self.total, "distortion": self.distortion}
        rows = {}
        for name, values in {**named, "elbo": self.elbo}.items():
            mean = mean_over_data(values)
            error = self.standard_error[name].square().sum().sqrt().item() / len(values)
            method = "sum" if name == "total" and self.method else "monte carlo"
            method = self.method.get(name, method)
            rows[name] = (mean.value, mean.standard_error, error, method)
        columns = ["nats", "standard_error", "monte_carlo_error", "method"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns)

    def __repr__(self) -> str:
        parts = [
            f"{name} {row.nats:.4g} ± {row.standard_error:.2g}"
            for name, row in self.frame.iterrows()
        ]
        split = "" if self.obstacle is None else "; no rates of layers: see .rates"
        return f"LayerRates({', '.join(parts)} nats over {len(self.total)} data{split})"


def layer_rates(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_particles: int = 50,
    analytic: bool = True,
    seed: int = 0,
) -> LayerRates:
    """Measure the rate of each layer and the distortion, datum by datum, in double precision.

    Works for any Pyro pair. With a latent site outside the plate ``"data"`` the whole data set is
    one datum.

    Args:
        model: A Pyro program that observes ``data``.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        num_particles: Draws of the guide for each datum.
        analytic: Whether the KL of a layer is taken in closed form where one is known.
        seed: The same seed gives the same figures.

    Returns:
        The rates; for a guide that is not drawn from the top down the total alone.

    Raises:
        SiteError: If sites of model and guide do not match, a latent site is scaled in one of the
            two programs only, or a log density is NaN.
        DataError: If the data cannot be read as rows.

    >>> from pyrolvm import guides, models
    >>> model = models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=5, hidden=(8,))
    >>> found = layer_rates(model, guides.Layerwise(model, hidden=(8,)), model(size=20).detach())
    >>> found.rates["z_2"].shape, found.method["z_2"]
    (torch.Size([20]), 'analytic')
    """
    require_pair(model, guide)
    require_at_least(2, num_particles=num_particles)
    require_seed(seed)
    rows = Data.of(data)
    if isinstance(model, Model):
        model.check_data(rows)
        rows = rows.to(model.device)
    with evaluating(model, guide), own_randomness(seed):
        rows = rows.to(dtype=torch.float64)
        alone = run_once(model, guide, rows.rows(slice(0, CHUNK_ROWS)))
        per_datum = all(data_dim(site) is not None for _, site in alone.all_sites())
        together = not (per_datum and keep_the_contract(model, guide))
        size = rows.num_rows if together else CHUNK_ROWS
        parts = [
            _Moments(model, guide, rows.rows(slice(start, start + size)), analytic, per_datum)
            for start in range(0, rows.num_rows, size)
        ]
        for part in parts:
            part.run(num_particles)
    return _joined(parts, num_particles)


class _Moments:
    """Sums of each quantity and of its square over the particles of some rows."""

    def __init__(
        self, model: Any, guide: Any, rows: Data, analytic: bool, per_datum: bool
    ) -> None:
        self.model, self.guide, self.rows = model, guide, rows
        self.per_datum, self.analytic = per_datum, analytic
        self.alone = run_once(model, guide, rows)
        refuse_point_masses(model, guide, rows, self.alone)
        refuse_one_sided_scales(self.alone)
        self.obstacle = split_obstacle(model, guide, self.alone, rows.args, rows.named)
        self.method: dict[str, Method] = {}
        self.sums: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}
        self.shift: dict[str, Tensor] = {}

    def run(self, num_particles: int) -> None:
        """Draw the particles, in chunks."""
        dim = particle_dim(self.model, self.guide, self.rows, self.alone)
        size = max(1, CHUNK_DRAWS // self.rows.num_rows)
        sizes = [min(size, num_particles - start) for start in range(0, num_particles, size)]
        with pyro.validation_enabled(False):
            for pair in run_particles(self.model, self.guide, self.rows, sizes, self.alone, dim):
                self._add(dict(self._terms(pair)))

    def _terms(self, pair: PairTrace) -> Iterator[tuple[str, Tensor]]:
        """Every quantity at each draw, shape ``(K, N)``."""
        drawn, latents = pair.guide_sites(), pair.latents()
        density = self._densities(pair)
        distortion = -density(pair.observed())
        if self.obstacle is None:
            rates = {}
            for name, site in latents.items():
                exact = analytic_rate(site, drawn[name]) if self.analytic else None
                self.method[name] = "monte carlo" if exact is None else "analytic"
                if exact is None:
                    rates[name] = density({name: drawn[name]}) - density({name: site})
                else:
                    rates[name] = self._reduced(exact, drawn[name], pair)
            yield from rates.items()
            total = _sum(rates)
        else:
            total = density(drawn) - density(latents)
        yield from {"total": total, "distortion": distortion, "elbo": -distortion - total}.items()

    def _densities(self, pair: PairTrace) -> Callable[[Mapping[str, Any]], Tensor]:
        def density(sites: Mapping[str, Any]) -> Tensor:
            found = {
                name: log_density(site, pair.particle_dim, self.per_datum) / site_weight(site)
                for name, site in sites.items()
            }
            for name, values in found.items():
                if values.isnan().any():
                    raise SiteError(nan_sentence(name))
            return _sum(found)

        return density

    def _reduced(self, values: Tensor, site: Any, pair: PairTrace) -> Tensor:
        summed = by_particle_and_datum(values, site, pair.particle_dim, self.per_datum)
        return summed / site_weight(site)

    def _add(self, terms: Mapping[str, Tensor]) -> None:
        num = max(len(values) for values in terms.values())
        for name, found in terms.items():
            values = found.expand(num, -1)
            shift = self.shift.setdefault(name, values[0])
            self.sums[name] = self.sums.get(name, 0) + (values - shift).sum(0)
            self.squares[name] = self.squares.get(name, 0) + (values - shift).square().sum(0)


def _sum(values: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(torch.broadcast_tensors(*values.values())).sum(0)


def _joined(parts: list[_Moments], num_particles: int) -> LayerRates:
    means: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}
    for name in parts[0].sums:
        means[name] = torch.cat([p.shift[name] + p.sums[name] / num_particles for p in parts])
        squares = torch.cat([p.squares[name] - p.sums[name] ** 2 / num_particles for p in parts])
        variance = squares.clamp(min=0) / (num_particles - 1)
        errors[name] = (variance / num_particles).sqrt()
    total, distortion = means.pop("total"), means.pop("distortion")
    means.pop("elbo")
    first = parts[0]
    return LayerRates(total, distortion, errors, first.method, first.obstacle, means)
