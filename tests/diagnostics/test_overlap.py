import math

import pytest
import torch
from torch.distributions import Normal

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import bhattacharyya_squared, effective_sample_size, sqrt_weight_ess

EVIDENCE = -7.25


def gaussian_weights(loc, scale, num_particles=20_000, size=20):
    """Guide N(0, 1), posterior N(loc, scale²), log evidence EVIDENCE."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(num_particles, size, dtype=torch.float64, generator=generator)
    return EVIDENCE + Normal(loc, scale).log_prob(draws) - Normal(0.0, 1.0).log_prob(draws)


def evidence(size=20):
    return torch.full((size,), EVIDENCE, dtype=torch.float64)


def closed_form(loc, scale):
    total = 1 + scale**2
    return 2 * scale / total * math.exp(-(loc**2) / (2 * total))


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.3), (0.0, 0.4), (1.0, 1.0), (0.7, 1.2)])
def test_two_gaussians_have_their_closed_form(loc, scale):
    value, error = bhattacharyya_squared(gaussian_weights(loc, scale), evidence())
    assert ((value - closed_form(loc, scale)).abs() < 5 * error).all()


def test_standard_error_is_the_spread_over_repetitions():
    value, error = bhattacharyya_squared(gaussian_weights(0.5, 1.2, 400, 1500), evidence(1500))
    assert error.mean().item() == pytest.approx(value.std().item(), rel=0.06)


def test_exact_guide_overlaps_fully():
    value, error = bhattacharyya_squared(gaussian_weights(0.0, 1.0), evidence())
    torch.testing.assert_close(value, torch.ones_like(value))
    assert error.max() < 1e-12
    torch.testing.assert_close(sqrt_weight_ess(gaussian_weights(0.0, 1.0)), value)


def test_guide_that_misses_half_the_posterior():
    generator = torch.Generator().manual_seed(0)
    draws = -30.0 + torch.randn(1000, 4, dtype=torch.float64, generator=generator)
    posterior = torch.logaddexp(
        Normal(-30.0, 1.0).log_prob(draws), Normal(30.0, 1.0).log_prob(draws)
    ) - math.log(2)
    log_weights = EVIDENCE + posterior - Normal(-30.0, 1.0).log_prob(draws)
    value, error = bhattacharyya_squared(log_weights, evidence(4))
    torch.testing.assert_close(value, torch.full_like(value, 0.5))
    assert error.max() < 1e-12
    torch.testing.assert_close(sqrt_weight_ess(log_weights), torch.ones_like(value))


def test_stand_in_approaches_the_overlap_where_no_mode_is_missed():
    ratio = sqrt_weight_ess(gaussian_weights(0.0, 1.2))
    torch.testing.assert_close(
        ratio, torch.full_like(ratio, closed_form(0.0, 1.2)), rtol=0.01, atol=0
    )


def test_stand_in_bounds_the_relative_effective_sample_size():
    log_weights = gaussian_weights(0.5, 1.5, 500)
    assert (sqrt_weight_ess(log_weights) >= effective_sample_size(log_weights) / 500).all()


def test_no_draw_in_the_support_has_no_overlap_and_no_known_error():
    log_weights = torch.full((10, 1), -torch.inf)
    value, error = bhattacharyya_squared(log_weights, torch.zeros(1))
    assert value.item() == 0.0
    assert error.item() == math.inf
    assert sqrt_weight_ess(log_weights).item() == 0.0


@pytest.mark.parametrize("bad", [torch.zeros(3), torch.tensor(0.0), torch.tensor([0.0, math.nan])])
def test_evidence_of_another_shape_or_not_finite_is_refused(bad):
    with pytest.raises(DataError, match=r"finite log evidence.*\(2,\)"):
        bhattacharyya_squared(torch.zeros(5, 2), bad)
