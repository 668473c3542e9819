import math

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import elbo, elbo_standard_error, iwae, iwae_standard_error


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def lognormal_weights(num_particles, size, scale, generator):
    """Weights whose log is N(0, scale²): ELBO 0, evidence scale²/2."""
    return scale * torch.randn(num_particles, size, dtype=torch.float64, generator=generator)


def test_elbo_estimates_the_mean_log_weight_within_its_error(generator):
    log_weights = lognormal_weights(2000, 20, 0.5, generator)
    assert (elbo(log_weights).abs() < 5 * elbo_standard_error(log_weights)).all()


def test_iwae_estimates_the_evidence_within_its_error(generator):
    log_weights = lognormal_weights(20_000, 20, 0.5, generator)
    assert ((iwae(log_weights) - 0.125).abs() < 5 * iwae_standard_error(log_weights)).all()


@pytest.mark.parametrize(
    ("bound", "standard_error"), [(elbo, elbo_standard_error), (iwae, iwae_standard_error)]
)
def test_standard_error_is_the_spread_over_repetitions(bound, standard_error, generator):
    log_weights = lognormal_weights(500, 2000, 0.7, generator)
    spread = bound(log_weights).std()
    assert standard_error(log_weights).mean() == pytest.approx(spread.item(), rel=0.06)


def test_iwae_is_at_least_the_elbo(generator):
    log_weights = lognormal_weights(50, 100, 2.0, generator)
    assert (iwae(log_weights) >= elbo(log_weights)).all()


@pytest.mark.parametrize("shift", [-1e5, 0.0, 1e5])
def test_bounds_shift_with_the_log_weights(shift, generator):
    log_weights = lognormal_weights(50, 3, 1.0, generator)
    for bound in (elbo, iwae):
        torch.testing.assert_close(bound(log_weights + shift), bound(log_weights) + shift)
    torch.testing.assert_close(
        iwae_standard_error(log_weights + shift), iwae_standard_error(log_weights)
    )


def test_exact_guide_gives_the_evidence_without_error():
    log_weights = torch.full((10, 4), -3.5)
    torch.testing.assert_close(elbo(log_weights), torch.full((4,), -3.5, dtype=torch.float64))
    torch.testing.assert_close(iwae(log_weights), torch.full((4,), -3.5, dtype=torch.float64))
    assert iwae_standard_error(log_weights).max() < 1e-12


def test_draw_outside_the_support_costs_the_elbo_everything_and_iwae_its_share():
    log_weights = torch.tensor([[0.0], [-torch.inf]])
    assert elbo(log_weights).item() == -math.inf
    assert elbo_standard_error(log_weights).item() == math.inf
    assert iwae(log_weights).item() == pytest.approx(math.log(0.5))
    assert iwae_standard_error(log_weights).item() == pytest.approx(1.0)


def test_no_draw_in_the_support_gives_minus_infinity_with_infinite_error():
    log_weights = torch.full((5, 2), -torch.inf)
    assert iwae(log_weights).isneginf().all()
    assert iwae_standard_error(log_weights).isposinf().all()


def test_one_particle_has_an_infinite_standard_error():
    log_weights = torch.zeros(1, 2)
    assert elbo_standard_error(log_weights).isposinf().all()
    assert iwae_standard_error(log_weights).isposinf().all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("bound", [elbo, elbo_standard_error, iwae, iwae_standard_error])
def test_unusable_weight_is_named_by_place(bound, bad):
    log_weights = torch.zeros(4, 3)
    log_weights[2, 1] = bad
    with pytest.raises(DataError, match="particle 2, datum 1"):
        bound(log_weights)


@pytest.mark.parametrize("shape", [(4,), (0, 3), (3, 0), (2, 3, 4)])
def test_another_shape_is_refused(shape):
    with pytest.raises(DataError, match=r"shape \(K, N\)"):
        elbo(torch.zeros(shape))


def test_result_is_detached_and_in_double_precision():
    result = iwae(torch.zeros(4, 3, requires_grad=True))
    assert result.dtype == torch.float64
    assert not result.requires_grad
