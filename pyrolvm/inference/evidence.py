"""The evidence log p(x) of each datum, and what models know of it without a guide."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    serves,
)
from pyrolvm.core.pairing import offers
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.guides import ExactCPA
from pyrolvm.inference.annealing.estimate import AnnealedEstimate
from pyrolvm.inference.enumeration import can_enumerate, live_sums
from pyrolvm.inference.environment_quadrature import (
    has_quadrature_in_environments,
    quadrature_in_environments,
)
from pyrolvm.inference.quadrature import is_in_reach, quadrature_evidence

if TYPE_CHECKING:
    import xarray as xr

LARGE_ERROR = 0.5
"""Standard error in nats, of the typical datum, from which on the evidence is called uncertain."""

EXACT_DIMS = 3
"""Most latent dimensions whose Gaussian integrals are exact; beyond, they carry an error."""


@dataclass(frozen=True)
class Evidence:
    """log p(x) and how it was obtained.

    Args:
        value: In nats, shape ``(N,)``, or ``(1,)`` where the data set is one datum.
        standard_error: Same shape; 0 where it is exact, the error of lattices, quadrature or
            chains elsewhere.
        method: ``"exact"``, ``"enumerated"`` (exact too: a sum over all values of discrete
            latents), ``"lattice"`` (exact but for the error of integrals in four and more latent
            dimensions), ``"quadrature"``, ``"ais: 500 temperatures, 16 chains"``, or
            ``"iwae (K=1000, full)"``: the bound, its particles, its guide.
        is_bound: Whether ``value`` is only a lower bound: further below log p(x) than the standard
            error tells. So is IWAE, and annealing whose error is :data:`LARGE_ERROR` and more.
        annealed: Chains behind it, where it comes from annealing.
    """

    value: Tensor
    standard_error: Tensor
    method: str
    is_bound: bool
    annealed: AnnealedEstimate | None = None

    def of_all_data(self) -> Evidence:
        """Evidence of the data set as one datum, shape ``(1,)``: data are independent."""
        value, error = (each.sum(0, keepdim=True) for each in (self.value, self.standard_error))
        return Evidence(value, error, self.method, self.is_bound)

    @property
    def mean(self) -> float:
        """Mean over data, in nats."""
        return self.value.detach().double().mean().item()

    @property
    def mean_error(self) -> float:
        """Standard error of the mean as an estimate of that of these data; nothing of sampling."""
        return self.standard_error.double().square().sum().sqrt().item() / len(self.value)

    def findings(self) -> tuple[Finding, ...]:
        """What the evidence is and how far it can be relied on."""
        from pyrolvm.inference.evidence_report import evidence_findings

        return evidence_findings(self)

    def dataset(self) -> xr.Dataset:
        """Labelled arrays over ``datum``, in nats."""
        from pyrolvm.inference.evidence_report import evidence_dataset

        return evidence_dataset(self)

    def __str__(self) -> str:
        unit = "nats a datum" if len(self.value) > 1 else "nats"
        is_known = self.mean_error < 1e-6
        digits = 4 if is_known else max(0, 1 - math.floor(math.log10(self.mean_error)))
        error = "" if is_known else f" ± {self.mean_error:.2g}"
        least = "at least " if self.method.startswith("iwae") else ""
        return f"{least}{self.mean:.{digits}f}{error} {unit} ({self.method})"


def has_exact_evidence(model: Any) -> bool:
    """Whether a model's evidence is known exactly, and so is its posterior."""
    if offers(model, HasEvidence):
        return True
    return serves(ExactCPA, model)


def exact_log_evidence(
    model: Any, x: Float[Tensor, "data obs_dim"] | Data
) -> Float[Tensor, " data"]:
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
            f"The exact evidence needs a model for which it is known, but "
            f"{getattr(model, '__name__', type(model).__name__)} {why_not_exact(model)}. "
            "Estimate it instead: log_evidence(model, x) needs no guide."
        )
    rows = Data.of(x)
    rows.check_finite()
    given = rows.only
    if given is None or given.dim() != 2:
        shapes = {name: tuple(tensor.shape) for name, tensor in rows.items()}
        raise DataError(
            f"The exact evidence needs one tensor of observations of shape (N, obs_dim), but got "
            f"{shapes}. Put one observation in a row."
        )
    if isinstance(model, Model):
        model.batch_size(given, None)
    if offers(model, HasEvidence):
        return model.log_evidence(given)
    if can_enumerate(model):
        return live_sums(model).log_evidence(given)
    return exact.log_evidence(model.affine_stack, given)


def why_not_exact(model: Any) -> str:
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
            value = exact_log_evidence(model, x.double())
            return Evidence(value, torch.zeros_like(value), "exact", is_bound=False)
        if can_enumerate(model):
            value = exact_log_evidence(model, x.double())
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
