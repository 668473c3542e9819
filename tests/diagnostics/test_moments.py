"""Moments against closed forms at three distances, and findings that name the right defect."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import netcdf
from pyrolvm.diagnostics.draw_pair import draw_pair
from pyrolvm.diagnostics.moments import compare_moments
from pyrolvm.diagnostics.moments.correlation import correlation_error
from pyrolvm.diagnostics.moments.directions import extreme_directions
from pyrolvm.diagnostics.moments.estimates import (
    log_sd_ratio,
    mean_error,
    shape_error,
    standardised,
)

made = runpy.run_path(str(Path(__file__).parent / "gaussian_guides.py"))
pair, right, CASES = made["pair"], made["right"], made["CASES"]
SIZE = 4000
BAD = {
    ("too narrow", 0.3), ("too wide", 3.0), ("shifted", 0.8), ("shifted", 2.0),
    ("ignores correlation", 0.8), ("ignores correlation", 0.95),
}  # fmt: skip
"""A shift of 0.8 in one of two correlated coordinates is one of 1 along a direction."""


def agrees(estimate, error, truth):
    return bool(((estimate - truth).abs() < 5 * error).all())


def correlation(covariance):
    scale = covariance.diagonal().sqrt()
    return (covariance / scale / scale[:, None])[0, 1]


@pytest.mark.parametrize(("defect", "size"), [("none", 0.0), *CASES])
def test_every_moment_is_its_closed_form_within_its_error(defect, size):
    both = right() if defect == "none" else pair(defect, size)
    found = compare_moments(*both.draws(SIZE))
    scale = both.covariance.diagonal().sqrt()
    shift, inner = both.whitened()
    spectrum = np.log(np.linalg.eigvalsh(inner)) / 2
    width = (both.guide_covariance.diagonal() / both.covariance.diagonal()).log() / 2
    assert agrees(*found.mean_error, (both.guide_mean - both.mean) / scale)
    assert agrees(*found.log_sd_ratio, width)
    difference = correlation(both.guide_covariance) - correlation(both.covariance)
    assert agrees(*found.correlation.estimates, difference)
    assert agrees(*found.directions.narrowest.estimates, spectrum[0])
    assert agrees(*found.directions.widest.estimates, spectrum[1])
    assert agrees(*found.directions.furthest.estimates, float(np.linalg.norm(shift)))
    conditional = -(torch.linalg.inv(both.covariance).diagonal().log()) / 2 - scale.log()
    torch.testing.assert_close(found.conditional_log_sd[0], conditional, atol=0.05, rtol=0)
    assert (found.shape_error.value.abs() < 5 * found.shape_error.standard_error).all()


@pytest.mark.parametrize(("defect", "size"), CASES)
def test_findings_name_the_defect_and_nothing_else(defect, size):
    findings = compare_moments(*pair(defect, size).draws(1000, num_data=3)).findings()
    assert {one.defect for one in findings} - {None} == {defect}
    levels = {one.level for one in findings}
    assert "unknown" not in levels
    assert ("bad" in levels) == ((defect, size) in BAD)
    assert all(one.advice for one in findings if one.defect)


def test_right_guide_has_no_defect_in_any_of_many_data():
    findings = compare_moments(*right().draws(500, num_data=20)).findings()
    assert {one.defect for one in findings} == {None}
    assert {one.level for one in findings} == {"good"}


def test_mean_field_is_not_called_narrow_unless_it_is_narrower_than_it_must_be():
    both = pair("ignores correlation", 0.9)
    draws, reference = both.draws(1000)
    narrow = both.guide_mean + 0.5 * (draws - both.guide_mean)
    by_name = {one.name: one for one in compare_moments(draws, reference).findings()}
    marginal = by_name["log sd ratio, narrowest marginal"]
    assert (marginal.defect, marginal.level) == ("ignores correlation", "bad")
    assert "what ignoring correlation costs" in marginal.sentence
    defects = {one.defect for one in compare_moments(narrow, reference).findings()}
    assert {"too narrow", "ignores correlation"} <= defects


def test_directions_show_what_no_marginal_and_no_single_correlation_does():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4000, 1, 31, generator=generator, dtype=torch.float64)
    posterior = 0.15**0.5 * noise[..., :1] + 0.85**0.5 * noise[..., 1:]
    guide = torch.randn(4000, 1, 30, generator=generator, dtype=torch.float64)
    found = compare_moments(guide, posterior)
    truth = -0.5 * math.log(1 + 29 * 0.15)
    assert abs(found.directions.narrowest.value - truth) < 0.06
    by_name = {one.name: one for one in found.findings()}
    assert by_name["log sd ratio, narrowest marginal"].level == "good"
    assert by_name["error of a correlation"].level == "good"
    direction = by_name["log sd ratio, narrowest direction"]
    assert (direction.level, direction.defect) == ("bad", "ignores correlation")


def test_the_worst_coordinate_and_datum_are_named():
    draws, reference = right().draws(1000, num_data=3)
    draws[:, 1, 0] += 1.5
    found = compare_moments(draws, reference, coordinates=("tau", "mu"), data=(4, 7, 9))
    finding = next(one for one in found.findings() if one.name == "error of the mean")
    assert finding.sentence.startswith("The guide's mean of tau of datum 7 is 1.")
    assert finding.sentence.endswith("too high.")
    assert finding.level == "bad"


def test_standard_errors_are_the_spread_over_repetitions_far_from_normal():
    generator = torch.Generator().manual_seed(0)
    noise = torch.empty(400, 400, 2, dtype=torch.float64)
    posterior = noise.exponential_(generator=generator).clone()
    posterior[..., 1] += posterior[..., 0]
    guide = noise.exponential_(generator=generator).clone() * 1.5
    both = draw_pair(guide, posterior)
    samples = standardised(both)
    normal = standardised(draw_pair(guide, noise.normal_(generator=generator)))[1]
    figures = {
        "mean": (mean_error(*samples), 0.15),
        "width": (log_sd_ratio(*samples), 0.15),
        "shape": (shape_error(samples[0], normal), 0.25),
        "correlation": (correlation_error(*samples).estimates, 0.15),
        "narrowest": (extreme_directions(both).narrowest.estimates, 0.2),
    }
    for name, ((value, error), tolerance) in figures.items():
        ratio = error.square().mean(0).sqrt() / value.std(0)
        assert ((ratio - 1).abs() < tolerance).all(), (name, ratio)


def test_draws_that_depend_on_each_other_count_as_their_effective_number():
    generator = torch.Generator().manual_seed(0)
    rho, size = 0.9, 1000
    noise = torch.randn(size, 300, 1, generator=generator, dtype=torch.float64)
    chain = [noise[0]]
    for each in noise[1:]:
        chain.append(rho * chain[-1] + math.sqrt(1 - rho**2) * each)
    guide = torch.randn(size, 300, 1, generator=generator, dtype=torch.float64)
    ess = torch.full((300, 1), size * (1 - rho) / (1 + rho)).double()
    samples = standardised(draw_pair(guide, torch.stack(chain), ess=ess))
    value, error = mean_error(*samples)
    assert error.mean().item() == pytest.approx(value.std().item(), rel=0.12)


def test_wrong_shape_is_found_once_mean_and_width_match():
    generator = torch.Generator().manual_seed(0)
    posterior = torch.empty(2000, 1, 1, dtype=torch.float64).exponential_(generator=generator)
    guide = 1 + torch.randn(2000, 1, 1, generator=generator, dtype=torch.float64)
    found = compare_moments(guide, posterior)
    truth = -1.6449 - (-math.log(0.95) - 1)
    assert agrees(*found.shape_error, truth)
    assert {one.defect for one in found.findings()} == {None, "wrong shape"}


def test_a_missed_mode_is_the_defect_behind_its_moments():
    draws, reference = right().draws(1000, num_data=2)
    reference[::2] += 8.0 * made["SCALE"]
    findings = compare_moments(draws, reference).findings()
    assert findings[0].defect == "misses a mode"
    assert findings[0].level == "bad"
    assert {one.defect for one in findings} == {None, "misses a mode"}


def test_a_point_mass_is_too_narrow_without_further_ado():
    draws, reference = right().draws(200)
    found = compare_moments(torch.zeros_like(draws) + made["MEAN"], reference)
    assert found.log_sd_ratio.value.isneginf().all()
    narrow = next(one for one in found.findings() if "narrowest marginal" in one.name)
    assert narrow.level == "bad"
    found.dataset()


def test_few_draws_say_nothing_rather_than_good():
    draws, reference = right().draws(20)
    levels = {one.name: one.level for one in compare_moments(draws, reference).findings()}
    assert levels["error of the mean"] == "unknown"


def test_the_dataset_survives_a_file(tmp_path):
    import xarray as xr

    found = compare_moments(*right().draws(100, num_data=2), data=(3, 8)).dataset()
    assert found["mean_error"].dims == ("datum", "coordinate")
    assert list(found["datum"].values) == [3, 8]
    assert {"log_sd_ratio_se", "correlation_error", "missed_mass", "narrowest_loading"} <= set(
        found
    )
    path = netcdf.save(xr.DataTree.from_dict({"/moments": found}), tmp_path / "tree.nc")
    xr.testing.assert_allclose(netcdf.load(path)["moments"].to_dataset(), found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, r: (d[:, :, 0], r), "shape .draws, data, coordinates"),
        (lambda d, r: (d[:10], r), "at least 20"),
        (lambda d, r: (d.clone().index_fill_(0, torch.tensor(3), math.nan), r), "draw 3 of z.0."),
        (lambda d, r: (d, r[:1].repeat(50, 1, 1)), "posterior draws of z.0. are equal"),
    ],
)
def test_draws_that_cannot_be_compared_are_refused(change, message):
    draws, reference = right().draws(50)
    with pytest.raises(DataError, match=message):
        compare_moments(*change(draws, reference))


def test_labels_and_effective_sizes_that_do_not_fit_are_refused():
    draws, reference = right().draws(50)
    with pytest.raises(DataError, match="1 names of coordinates"):
        compare_moments(draws, reference, coordinates=("z",))
    with pytest.raises(DataError, match="start at 5"):
        compare_moments(draws, reference, ess=torch.full((1, 2), 5.0))
