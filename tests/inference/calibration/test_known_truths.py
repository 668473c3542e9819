"""Gaussian guides at three distances: ranks and coverage have their closed forms."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from scipy.stats import chi2, ncx2

from pyrolvm import models
from pyrolvm.inference.calibration import LOG_JOINT, calibrate

SIZE = 1000
CASES = [
    *[("too narrow", size) for size in (0.8, 0.6, 0.4)],
    *[("too wide", size) for size in (1.25, 1.6, 2.5)],
    *[("shifted", size) for size in (0.3, 0.8, 1.5)],
    *[("ignores correlation", size) for size in (0.5, 0.8, 0.95)],
]


def posterior_with(correlation):
    """A model whose posterior has this correlation and equal variances, for any data."""
    model = models.LinearGaussian(latent_dim=2, obs_dim=2, noise_scale=1.0)
    information = torch.tensor([[2.0, -2 * correlation], [-2 * correlation, 2.0]])
    information = information / (1 - correlation) - torch.eye(2)
    with torch.no_grad():
        model.decoder[0].weight.copy_(torch.linalg.cholesky(information).T)
    return model


def spoilt(model, defect, size):
    def guide(x):
        exact = model.posterior(x)
        loc, covariance = exact.mean, exact.covariance_matrix
        if defect == "shifted":
            loc = loc + size * exact.variance.sqrt() * torch.tensor([1.0, 0.0])
        elif defect == "ignores correlation":
            precision = torch.linalg.inv(covariance).diagonal(dim1=-2, dim2=-1)
            covariance = torch.diag_embed(1 / precision)
        else:
            covariance = size**2 * covariance
        with pyro.plate("data", len(x), dim=-1):
            pyro.sample("z", dist.MultivariateNormal(loc, covariance))

    return guide


def truth_of(model, defect, size):
    """Ratio of widths, shift of the first coordinate, and coverage of 90 % regions."""
    x = torch.zeros(1, 2).double()
    covariance = model.double().posterior(x).covariance_matrix[0].detach()
    model.float()
    if defect == "shifted":
        precision = torch.linalg.inv(covariance)[0, 0] * covariance[0, 0]
        return 1.0, size, ncx2.cdf(chi2.ppf(0.9, 2), 2, size**2 * precision.item())
    if defect == "ignores correlation":
        precision = torch.linalg.inv(covariance).diagonal()
        ratio = (1 / precision / covariance.diagonal()).sqrt()[0].item()
        generator = torch.Generator().manual_seed(0)
        draws = torch.randn(200_000, 2, generator=generator).double()
        draws = draws @ torch.linalg.cholesky(covariance).T
        inside = (draws.square() * precision).sum(-1) < chi2.ppf(0.9, 2)
        return ratio, 0.0, inside.double().mean().item()
    return size, 0.0, 1 - 0.1 ** (size**2)


@pytest.mark.parametrize(("defect", "size"), CASES)
def test_ranks_and_coverage_are_their_closed_forms(defect, size):
    model = posterior_with(size if defect == "ignores correlation" else 0.6)
    found = calibrate(
        model, spoilt(model, defect, size), torch.zeros(SIZE, 2), num_simulations=SIZE,
        progress=False,
    )  # fmt: skip
    ratio, shift, coverage = truth_of(model, defect, size)
    shape = next(each.shape for each in found.quantities if each.name == "z[0]")
    assert abs(shape.sd_ratio - ratio) < 5 * shape.sd_ratio_error
    assert abs(shape.shift - shift) < 5 * shape.shift_error
    share, _ = found.coverage(0.9)
    assert abs(share - coverage) < 5 * math.sqrt(coverage * (1 - coverage) / SIZE) + 1 / 200
    levels = {finding.level for finding in found.findings()}
    assert levels & {"care", "bad"}
    named = {finding.defect for finding in found.findings()} - {None}
    expected = "too narrow" if defect == "ignores correlation" else defect
    assert named == {expected}
    assert {each.name for each in found.quantities} == {"z[0]", "z[1]", LOG_JOINT}
