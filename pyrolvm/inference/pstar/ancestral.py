r"""Draws from the model, each weighed by what p* makes of it.

.. math:: v = \sqrt{\frac{q(z \mid x)}{p(x, z)}} \; \frac1J \sum_{j=1}^J
          \sqrt{\frac{p(x, z'_j)}{q(z'_j \mid x)}}, \qquad
          (x, z) \sim p, \quad z'_j \sim q(\cdot \mid x)

The mean of v is Z² exactly, and draws x resampled by v are draws from p* in the limit.

References:
    Bornschein, Shabanian, Fischer & Bengio (2016), Bidirectional Helmholtz Machines.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn

from pyrolvm.core import Model, SiteError, evaluating, log_densities, sites
from pyrolvm.core.tracing import PARTICLE_PLATE, Holding

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class WeightedDraws:
    """Observations drawn from the model.

    Args:
        x: Shape ``(n, ...)``, double precision.
        log_weight: Log v of each, in nats, shape ``(n,)``.
    """

    x: Tensor
    log_weight: Tensor


@dataclass(frozen=True)
class _Draws:
    """Values of every site of n rows, ``(n, ...)`` each, and log p of all of them, ``(n,)``."""

    values: dict[str, Tensor]
    log_joint: Tensor


class Ancestral:
    """Runs a model without observations, and its guide on what comes out.

    Args:
        model: A Pyro program that runs without observations; it may take ``size``.
        guide: A Pyro program that takes the observed site's value, any number of rows.
    """

    def __init__(self, model: Callable[..., Any], guide: Callable[..., Any]) -> None:
        self.model, self.guide = model, guide
        self._observed: str | None = None

    def weighted(self, size: int, num_inner: int) -> Iterator[WeightedDraws]:
        """Draw observations and weigh them, some thousands at a time.

        Args:
            size: Number of draws in all.
            num_inner: Draws J of the guide for each.

        Raises:
            SiteError: If the model does not run without observations, a site lies outside the
                plate ``"data"``, or the guide does not draw every latent of the model.
        """
        for start in range(0, size, ROWS_AT_ONCE):
            with evaluating(self.model, self.guide):
                drawn = self._draw(min(ROWS_AT_ONCE, size - start))
                x, log_guide = self._score(drawn)
            inner = log_densities(self.model, self.guide, x, num_particles=num_inner).log_weights
            half = (inner / 2).logsumexp(0) - math.log(num_inner)
            yield WeightedDraws(x, (log_guide - drawn.log_joint) / 2 + half)

    def _score(self, drawn: _Draws) -> tuple[Tensor, Tensor]:
        """Return the observations, and log q of the latents drawn with them, shape ``(n,)``."""
        name = self._name_of_x(drawn)
        latents = {site: value for site, value in drawn.values.items() if site != name}
        x = drawn.values[name]
        trace = poutine.trace(Holding(latents)(self.guide)).get_trace(x)
        scored = _samples(trace)
        found = [sites.log_density(scored[site], None, per_datum=True) for site in latents]
        return x, sum(found[1:], found[0])[0]

    def _name_of_x(self, drawn: _Draws) -> str:
        """Find the site that the guide draws all others from, the last one of the model first."""
        if self._observed is None:
            names = list(drawn.values)
            known = self.model.latent_sites if isinstance(self.model, Model) else ()
            for name in reversed([name for name in names if name not in known]):
                if self._sites_of_guide(drawn.values[name]) == set(names) - {name}:
                    self._observed = name
                    break
            else:
                raise SiteError(
                    "Draws from p* need a guide that takes the model's one observed site alone "
                    f"and draws all its other sites, but the model samples {', '.join(names)}, "
                    "and none of them makes the guide draw just the rest."
                )
        return self._observed

    def _sites_of_guide(self, x: Tensor) -> set[str]:
        try:
            trace = poutine.trace(self.guide).get_trace(x)
        except (RuntimeError, ValueError, IndexError, TypeError):  # not made for this site alone
            return set()
        return set(_samples(trace))

    def _draw(self, size: int) -> _Draws:
        if _takes_size(self.model):
            return _flat(poutine.trace(self.model).get_trace(size=size), None)
        alone = self._run_alone()
        rows = len(_flat(alone, None).log_joint)
        runs = math.ceil(size / rows)
        try:
            with pyro.plate(PARTICLE_PLATE, runs, dim=-2):
                drawn = _flat(poutine.trace(self.model).get_trace(), -2)
        except (RuntimeError, ValueError, IndexError):  # its batch shapes are fixed
            drawn = _joined([_flat(self._run_alone(), None) for _ in range(runs)])
        return _Draws({n: v[:size] for n, v in drawn.values.items()}, drawn.log_joint[:size])

    def _run_alone(self) -> Trace:
        try:
            return poutine.trace(self.model).get_trace()
        except TypeError as error:
            name = getattr(self.model, "__name__", type(self.model).__name__)
            raise SiteError(
                f"Draws from p* need a model that runs without observations, but {name} does not: "
                f"{error}. Write it as def model(x=None) with obs=x, or with size=None beside."
            ) from error


def _takes_size(model: Any) -> bool:
    program = model.forward if isinstance(model, nn.Module) else model
    return "size" in inspect.signature(program).parameters


def _samples(trace: Trace) -> dict[str, Any]:
    nodes: dict[str, Any] = dict(trace.nodes)
    return {
        name: site
        for name, site in nodes.items()
        if site["type"] == "sample"
        and not site_is_subsample(site)
        and not site["infer"].get("_deterministic")
    }


def _flat(trace: Trace, dim: int | None) -> _Draws:
    """Read a run as rows, whether it has a plate of runs at ``dim`` or not."""
    found = _samples(trace)
    for name, site in found.items():
        plates = {frame.name: frame.dim for frame in site["cond_indep_stack"]}
        plates.pop(PARTICLE_PLATE, None)
        if plates != {sites.DATA_PLATE: -1} or site["is_observed"]:
            raise SiteError(
                f"Draws from p* need a model whose sites all lie in the plate 'data' at dim -1 "
                f"and observe nothing when it is run without data, but {name!r} "
                f"{'is observed' if site['is_observed'] else f'lies in {plates or None}'}."
            )
    density = [sites.log_density(site, dim, per_datum=True) for site in found.values()]
    lead = density[0].shape if dim is not None else density[0].shape[1:]
    values = {name: site["value"] for name, site in found.items()}
    return _Draws(
        {name: value.reshape(-1, *value.shape[len(lead) :]) for name, value in values.items()},
        sum(density[1:], density[0]).reshape(-1),
    )


def _joined(parts: list[_Draws]) -> _Draws:
    values = {name: torch.cat([p.values[name] for p in parts]) for name in parts[0].values}
    return _Draws(values, torch.cat([part.log_joint for part in parts]))
