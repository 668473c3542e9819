"""The gap split for plain Pyro pairs against closed forms."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Gamma, LogNormal, MultivariateNormal, Normal, Poisson
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]

from pyrolvm import guides
from pyrolvm.core import DataError
from pyrolvm.inference import local_oracle
from pyrolvm.inference.evidence import Evidence
from pyrolvm.inference.gap_split import gap_split

COUNTS = torch.tensor([0.0, 3.0, 12.0, 40.0])
QUICK = {"steps": 200, "num_particles": 2000}
SHIFT = 1.5


def gamma_poisson(x):
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", Gamma(2.0, 0.5))
        pyro.sample("x", Poisson(rate), obs=x)


def log_normal_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("rate", LogNormal(((x + 1) / 1.5).log(), 0.8))


def correlated(x):
    """A posterior of the data set as a whole, with correlation 0.8 and no data to speak of."""
    law = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    z = pyro.sample("z", law)
    pyro.sample("x", Normal(0.0 * z.sum(-1, keepdim=True), 1.0).to_event(1), obs=x)


def best_diagonal(model, x):
    """KL of the best independent normals from each posterior: log det of scaled precision."""
    covariance = model.posterior(x.double()).covariance_matrix
    precision = torch.linalg.inv(covariance)
    return 0.5 * (precision.diagonal(dim1=-2, dim2=-1).log().sum(-1) - precision.logdet())


def encoder_for(model, full):
    """A plain guide: shifted by 1.5 posterior standard deviations in the first coordinate."""

    def guide(x):
        posterior = model.posterior(x)
        precision = torch.linalg.inv(posterior.covariance_matrix)
        scale = precision.diagonal(dim1=-2, dim2=-1).rsqrt()
        offset = SHIFT * scale * torch.tensor([1.0, 0.0])
        law = Normal(posterior.mean + offset, scale).to_event(1)
        if full:
            law = MultivariateNormal(posterior.mean, posterior.covariance_matrix)
        with pyro.plate("data", len(x)):
            pyro.sample("z", law)

    return guide


def within(value, truth, error, slack=2e-3):
    return bool(((value - truth).abs() < 5 * error + slack).all())


def test_the_split_of_a_shifted_diagonal_guide(linear):
    model, x = linear
    found = gap_split(model, encoder_for(model, full=False), x, rows=range(4), **QUICK)
    approximation = best_diagonal(model, x[:4])
    assert found.evidence.method == "exact"
    assert (found.oracle, found.is_same_family) == ("diagonal Gaussian", True)
    assert found.shared_part == "amortization"
    assert within(found.approximation, approximation, found.approximation_se)
    assert within(found.amortization, SHIFT**2 / 2, found.amortization_se)
    assert within(found.total, approximation + SHIFT**2 / 2, found.total_se)
    assert within(found.from_correlation, approximation, found.approximation_se)
    family, shared = found.findings()
    assert shared.defect == "encoder"
    assert family.value < shared.value


def test_the_exact_full_rank_guide_loses_nothing(linear):
    model, x = linear
    found = gap_split(model, encoder_for(model, full=True), x, rows=[3, 8], **QUICK)
    assert found.oracle == "full-rank Gaussian"
    assert found.is_same_family
    assert within(found.approximation, 0.0, found.approximation_se)
    assert within(found.amortization, 0.0, found.amortization_se)
    assert all(each.level == "good" for each in found.findings())


def test_an_encoder_of_the_library_is_held_against_its_own_family(linear):
    model, x = linear
    guide = guides.Amortized(model, family="diagonal", hidden=(4,))
    found = gap_split(model, guide, x, rows=range(3), **QUICK)
    assert found.oracle == "diagonal Gaussian"
    assert found.is_same_family
    assert within(found.approximation, best_diagonal(model, x[:3]), found.approximation_se, 5e-3)
    assert (found.amortization > 5 * found.amortization_se).all()


def test_a_constrained_site_is_split_in_its_unconstrained_coordinate():
    shape, rate = 2.0 + COUNTS.double(), torch.tensor(1.5).double()
    evidence = (
        torch.lgamma(shape) - torch.lgamma(torch.tensor(2.0).double())
        - torch.lgamma(COUNTS.double() + 1) + 2 * math.log(0.5) - shape * rate.log()
    )  # fmt: skip
    given = Evidence(evidence, torch.zeros(4), "closed form", is_bound=False)
    found = gap_split(gamma_poisson, log_normal_guide, COUNTS, evidence=given, **QUICK)
    # the best log-normal for a Gamma(a, b) has variance 1/a and mean a/b
    best = -0.5 * (2 * math.pi * math.e / shape).log() - (
        shape * ((shape / rate).log() - 0.5 / shape) - shape + shape * rate.log() - shape.lgamma()
    )
    mean, scale = ((COUNTS.double() + 1) / 1.5).log(), 0.8
    total = -0.5 * math.log(2 * math.pi * math.e * scale**2) - (
        shape * mean - rate * (mean + scale**2 / 2).exp() + shape * rate.log() - shape.lgamma()
    )
    assert found.is_same_family
    assert within(found.approximation, best, found.approximation_se)
    assert within(found.total, total, found.total_se)


def test_correlation_is_named_where_the_family_cannot_have_it():
    guide = AutoNormal(correlated, init_scale=0.6)
    found = gap_split(correlated, guide, torch.zeros(1), **QUICK)
    assert found.shared_part == "optimisation"
    assert within(found.approximation, -0.5 * math.log(1 - 0.64), found.approximation_se, 5e-3)
    assert found.evidence.is_bound
    assert found.findings()[0].defect == "ignores correlation"


def test_training_that_stopped_early_shows_as_the_optimisation_gap():
    guide = AutoNormal(correlated, init_scale=0.1)
    svi = SVI(correlated, guide, Adam({"lr": 0.01}), Trace_ELBO())
    svi.step(torch.zeros(1))
    found = gap_split(correlated, guide, torch.zeros(1), **QUICK)
    assert found.rows == (0,)
    assert (found.amortization > 1.0).all()
    assert "training" in found.findings()[1].sentence
    assert found.findings()[1].defect is None


def test_a_low_rank_guide_gets_an_oracle_of_its_rank():
    guide = AutoLowRankMultivariateNormal(correlated, rank=1)
    guide(torch.zeros(1))
    found = gap_split(correlated, guide, torch.zeros(1), **QUICK)
    assert found.oracle == "Gaussian of rank 1"
    assert within(found.approximation, 0.0, found.approximation_se, 1e-2)


def test_many_coordinates_fall_back_to_the_diagonal_and_say_so(linear, monkeypatch):
    monkeypatch.setattr(local_oracle, "FULL_RANK_DIM", 1)
    model, x = linear
    found = gap_split(model, encoder_for(model, full=True), x, rows=[0], **QUICK)
    assert found.oracle == "diagonal Gaussian"
    assert not found.is_same_family
    assert "2 coordinates" in found.note
    assert (found.amortization < 0).all()
    assert "richer" in found.findings()[1].sentence


def test_an_exact_guide_is_its_own_oracle(linear):
    model, x = linear
    found = gap_split(model, guides.Exact(model), x, rows=[1, 2], **QUICK)
    assert found.total.abs().max() < 1e-8
    assert torch.equal(found.amortization, torch.zeros_like(found.amortization))
    data = found.dataset()
    assert data["total"].dims == ("datum",)
    assert list(data["datum"].values) == [1, 2]
    assert data.attrs["oracle"] == "exact posterior"


def test_evidence_of_other_data_is_refused(linear):
    model, x = linear
    given = Evidence(torch.zeros(3), torch.zeros(3), "exact", is_bound=False)
    with pytest.raises(DataError, match="chosen rows"):
        gap_split(model, guides.Exact(model), x, rows=[1, 2], evidence=given)
