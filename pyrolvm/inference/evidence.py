"""The evidence log p(x) of each datum: exact where the model offers it, bounded elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyrolvm import exact
from pyrolvm.core import (
    BinaryLayers,
    Data,
    DataError,
    EvidenceError,
    HasEvidence,
    Model,
    PiecewiseAffine,
    evaluating,
    log_densities,
    serves,
)
from pyrolvm.core.pairing import offers
from pyrolvm.diagnostics import iwae, iwae_standard_error
from pyrolvm.guides import ExactCPA
from pyrolvm.inference.enumeration import can_enumerate, live_sums
from pyrolvm.inference.environment_quadrature import (
    has_quadrature_in_environments,
    quadrature_in_environments,
)
from pyrolvm.inference.quadrature import is_in_reach, quadrature_evidence

PARTICLES_TIMES_DATA = 2**20
"""Log weights that are held at once where there are many."""

EXACT_DIMS = 3
"""Most latent dimensions whose Gaussian integrals are exact; beyond, they carry an error."""


@dataclass(frozen=True)
class Evidence:
    """log p(x) and how it was obtained.

    Args:
        value: In nats, shape ``(N,)``.
        standard_error: Shape ``(N,)``; 0 where it is exact, the error of lattices or quadrature.
        method: ``"exact"``, ``"enumerated"`` (exact too, a sum over all states of small binary
            layers), ``"lattice"`` (exact but for the error of integrals in four and more latent
            dimensions), ``"quadrature"``, or ``"iwae (K=1000, full)"``: the bound, its particles,
            its guide.
        is_bound: Whether ``value`` is a lower bound in expectation.
    """

    value: Tensor
    standard_error: Tensor
    method: str
    is_bound: bool

    def of_all_data(self) -> Evidence:
        """Evidence of the data set as one datum, shape ``(1,)``: data are independent."""
        value, error = (each.sum(0, keepdim=True) for each in (self.value, self.standard_error))
        return Evidence(value, error, self.method, self.is_bound)


def has_exact_evidence(model: Any) -> bool:
    """Whether a model's evidence is known exactly, and so is its posterior."""
    if offers(model, HasEvidence):
        return True
    return serves(ExactCPA, model)


def log_evidence(model: Any, x: Float[Tensor, "data obs_dim"]) -> Float[Tensor, " data"]:
    """Exact log p(x), with exact first derivatives in the model's parameters.

    Maximising it with any torch optimizer is exact maximum likelihood, without sampling.

    Args:
        model: A model with a closed-form evidence, a belief network with small layers of zeros
            and ones, or a piecewise-affine generator with up to five latent dimensions; from four
            on, integrals carry an error of about 1e-4 nats.
        x: Observations, shape ``(N, obs_dim)``.

    Returns:
        Nats, shape ``(N,)``.

    Raises:
        EvidenceError: If the evidence of this model is not known exactly.
        DataError: If x has the wrong shape or is not finite.
    """
    if not (has_exact_evidence(model) or can_enumerate(model)):
        raise EvidenceError(
            f"log_evidence needs a model whose evidence is known exactly, but "
            f"{getattr(model, '__name__', type(model).__name__)} {_why_not(model)}. "
            "Bound it with a guide instead: diagnose(model, guide, x) reports the IWAE bound."
        )
    rows = Data.of(x)
    rows.check_finite()
    given = rows.only
    if given is None or given.dim() != 2:
        shapes = {name: tuple(tensor.shape) for name, tensor in rows.items()}
        raise DataError(
            f"log_evidence needs one tensor of observations of shape (N, obs_dim), but got "
            f"{shapes}. Put one observation in a row."
        )
    if isinstance(model, Model):
        model.batch_size(given, None)
    if offers(model, HasEvidence):
        return model.log_evidence(given)
    if can_enumerate(model):
        return live_sums(model).log_evidence(given)
    return exact.log_evidence(model.affine_stack, given)


def _why_not(model: Any) -> str:
    """Say why a model's evidence is not known exactly."""
    if offers(model, PiecewiseAffine):
        return (
            f"is piecewise affine but has {model.latent_dim} latent dimensions, "
            f"and the exact engine serves up to {ExactCPA.max_latent_dim}"
        )
    if offers(model, BinaryLayers):
        widths = tuple(reversed(model.layer_dims.values()))
        return f"has binary layers of {widths} units, too many for a sum over their states"
    return "has neither a closed form nor a piecewise-affine Gaussian generator"


def exact_evidence(model: Any, data: Any) -> Evidence | None:
    """Evidence of a model in double precision that rests on no guide, or None where there is none.

    It is exact where the model offers it, a sum over all states where layers of zeros and ones are
    small, and comes from quadrature for other models with prior and likelihood at hand and one or
    two latents.

    Args:
        model: A Pyro program.
        data: What it observes.
    """
    rows = Data.of(data)
    x = rows.only
    if x is None:
        return environment_evidence(model, rows)
    with evaluating(model):
        if offers(model, HasEvidence):
            value = log_evidence(model, x.double())
            return Evidence(value, torch.zeros_like(value), "exact", is_bound=False)
        if can_enumerate(model):
            value = log_evidence(model, x.double())
            return Evidence(value, torch.zeros_like(value), "enumerated", is_bound=False)
        if serves(ExactCPA, model):
            solved = ExactCPA(model).posterior(x.double()).solved
            method = "exact" if solved.latent_dim <= EXACT_DIMS else "lattice"
            return Evidence(solved.log_evidence, solved.standard_error, method, is_bound=False)
        found = quadrature_evidence(model, x.double()) if is_in_reach(model) else None
    return None if found is None else Evidence(*found, "quadrature", is_bound=False)


def environment_evidence(model: Any, rows: Data) -> Evidence | None:
    """Log p(x | u) of a model whose prior depends on the environment, by quadrature in each.

    Args:
        model: A Pyro program.
        rows: Observations x and labels u.

    Returns:
        None where the model is another one, its prior is no Gaussian, or it has too many latents.
    """
    given = dict(rows.items())
    if given.keys() != {"x", "u"} or not has_quadrature_in_environments(model):
        return None
    with evaluating(model):
        found = quadrature_in_environments(model, given["x"].double(), given["u"])
    return None if found is None else Evidence(*found, "quadrature", is_bound=False)


def iwae_evidence(log_weights: Float[Tensor, "particle data"], guide: str) -> Evidence:
    r"""Importance-weighted lower bound on the evidence.

    .. math:: \log \frac{1}{K} \sum_k \frac{p(x, z_k)}{q(z_k \mid x)}, \qquad z_k \sim q

    Args:
        log_weights: Of K draws of a guide, shape ``(K, N)``.
        guide: Name of the guide, for the record.

    References:
        Burda, Grosse & Salakhutdinov (2016), Importance Weighted Autoencoders.
    """
    return Evidence(
        iwae(log_weights),
        iwae_standard_error(log_weights),
        f"iwae (K={len(log_weights)}, {guide})",
        is_bound=True,
    )


def many_particles_evidence(
    model: Any, guide: Any, data: Any, num_particles: int, name: str
) -> Evidence:
    """Importance-weighted lower bound from so many fresh draws that they are not held at once.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: What both take; each datum has a posterior of its own.
        num_particles: Number of draws K.
        name: Name of the guide, for the record.
    """
    rows = Data.of(data)
    size = max(1, PARTICLES_TIMES_DATA // rows.num_rows)
    first = second = torch.full((rows.num_rows,), -torch.inf, dtype=torch.float64)
    for start in range(0, num_particles, size):
        number = min(size, num_particles - start)
        weights = log_densities(model, guide, rows, num_particles=number).log_weights.cpu()
        first = torch.logaddexp(first, weights.logsumexp(0))
        second = torch.logaddexp(second, (2 * weights).logsumexp(0))
    spread = ((second - 2 * first).exp() - 1 / num_particles).clamp_min(0.0)
    return Evidence(
        (first - math.log(num_particles)).to(rows.device),
        spread.sqrt().to(rows.device),
        f"iwae (K={num_particles}, {name})",
        is_bound=True,
    )
