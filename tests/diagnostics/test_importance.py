import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from pyro.infer import importance as pyro_importance

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import (
    effective_sample_size,
    importance,
    khat_standard_error,
    khat_threshold,
    pareto_khat,
    psis,
    tail_length,
)
from pyrolvm.diagnostics.pareto import fit_generalized_pareto


def weights_of_spread(num_particles, size, seed=0):
    """Log-normal weights, from nearly constant to very heavy tailed."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(num_particles, size, dtype=torch.float64, generator=generator)
    return draws * torch.linspace(0.1, 4.0, size, dtype=torch.float64) - 300.0


def weights_of_gaussians(variance, num_particles, size):
    """q = N(0, 1), p = N(0, variance): the tail shape is 1 − 1/variance."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(num_particles, size, dtype=torch.float64, generator=generator)
    return 0.5 * draws**2 * (1 - 1 / variance) - 0.5 * math.log(variance)


class TestAgainstOthers:
    @pytest.mark.parametrize("num_particles", [100, 400, 900, 2500])
    def test_psis_equals_arviz(self, num_particles):
        # These K have whole 3√K: ArviZ rounds the tail length down, the paper, loo and Pyro up.
        log_weights = weights_of_spread(num_particles, 12)
        ours, khat = psis(log_weights)
        theirs, their_khat = array_stats.psislw(-log_weights.numpy(), axis=0)
        np.testing.assert_allclose(khat, their_khat, rtol=0, atol=1e-10)
        np.testing.assert_allclose(ours, theirs.T, rtol=0, atol=1e-10)

    def test_psis_equals_arviz_at_the_same_tail_length(self):
        log_weights = weights_of_spread(1000, 12)
        ours, khat = psis(log_weights)
        for datum in range(12):
            theirs, their_khat = array_stats._ps_tail(
                log_weights[:, datum].numpy(), 1000, 95, True, "right", log_weights=True
            )
            assert khat[datum].item() == pytest.approx(their_khat, abs=1e-10)
            np.testing.assert_allclose(ours[:, datum], theirs, rtol=0, atol=1e-10)

    def test_khat_equals_pyros(self, monkeypatch):
        log_weights = weights_of_spread(1000, 6)[:, :4]
        for datum, khat in enumerate(pareto_khat(log_weights)):
            batch = log_weights[:, datum]
            monkeypatch.setattr(
                pyro_importance,
                "vectorized_importance_weights",
                lambda *args, batch=batch, **kwargs: (batch, None, None),
            )
            theirs = pyro_importance.psis_diagnostic(None, None, num_particles=1000)
            assert khat.item() == pytest.approx(float(theirs), abs=1e-8)

    @pytest.mark.parametrize("variance", [1.25, 1.6, 2.0, 4.0])
    def test_khat_of_two_gaussians_approaches_the_closed_form(self, variance):
        khat = pareto_khat(weights_of_gaussians(variance, 100_000, 30))
        # Finite samples stay below the limit: the tail becomes Pareto only slowly.
        assert khat.mean().item() == pytest.approx(1 - 1 / variance, abs=0.06)


class TestTail:
    def test_tail_length_is_rounded_up(self):
        assert tail_length(1000) == math.ceil(3 * math.sqrt(1000)) == 95
        assert tail_length(99) == 20

    def test_threshold_follows_the_number_of_draws(self):
        assert khat_threshold(1000) == pytest.approx(2 / 3)
        assert khat_threshold(10**6) == 0.7
        with pytest.raises(ValueError, match="at least 2"):
            khat_threshold(1)

    @pytest.mark.parametrize("num_particles", [2, 10, 20])
    def test_short_tail_is_not_trusted(self, num_particles):
        assert pareto_khat(weights_of_spread(num_particles, 3)).isposinf().all()

    def test_twenty_five_draws_are_the_fewest(self):
        assert tail_length(25) == 5
        assert pareto_khat(weights_of_spread(25, 3)).isfinite().all()

    @pytest.mark.parametrize("num_particles", [2, 10, 100, 1000])
    def test_constant_weights_have_no_tail(self, num_particles):
        log_weights = torch.full((num_particles, 2), -700.0, dtype=torch.float64)
        smoothed, khat = psis(log_weights)
        assert khat.isneginf().all()
        torch.testing.assert_close(smoothed.exp() * num_particles, torch.ones_like(smoothed))

    def test_rounding_noise_of_an_exact_guide_counts_as_constant(self):
        noise = torch.randn(1000, 5, dtype=torch.float64) * 1e-13
        assert pareto_khat(noise - 31.0).isneginf().all()
        assert pareto_khat((noise * 3e8 - 310.0).float()).isneginf().all()

    def test_single_draw_says_nothing(self):
        assert pareto_khat(torch.zeros(1, 2)).isposinf().all()

    @pytest.mark.parametrize("lower", [-0.01, -2.0, -50.0, -math.inf])
    @pytest.mark.parametrize("number", [1, 600, 904])
    def test_ties_that_fill_the_tail_are_bounded_but_not_constant(self, number, lower):
        log_weights = torch.zeros(1000, 1)
        log_weights[:number] = lower
        smoothed, khat = psis(log_weights)
        assert -math.inf < khat.item() < 0
        torch.testing.assert_close(smoothed, log_weights.double().log_softmax(0))

    def test_ties_that_just_fill_the_tail_are_like_those_that_nearly_do(self):
        log_weights = torch.zeros(1000, 2)
        log_weights[:904, 0], log_weights[:906, 1] = -2.0, -2.0
        filling, nearly = pareto_khat(log_weights).tolist()
        assert filling == pytest.approx(nearly, abs=0.2)

    def test_ties_at_the_cutoff_do_not_count_as_exceedances(self):
        log_weights = weights_of_spread(1000, 1)
        ordered = log_weights.sort(dim=0, descending=True).values
        tied = ordered.clone()
        tied[40:200] = ordered[40]
        exceedances = (tied[:40] - tied[0]).exp() - (tied[40] - tied[0]).exp()
        expected, _ = fit_generalized_pareto(exceedances.T.flip(1), torch.tensor([40]))
        torch.testing.assert_close(pareto_khat(tied), expected)

    def test_four_exceedances_over_a_tie_are_too_few(self):
        log_weights = torch.zeros(1000, 1)
        log_weights[:4, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        assert pareto_khat(log_weights).item() == math.inf

    def test_one_enormous_weight_is_not_trusted(self):
        log_weights = weights_of_spread(1000, 1)
        log_weights[17] = 5000.0
        smoothed, khat = psis(log_weights)
        assert khat.item() == math.inf
        assert smoothed[17].item() == pytest.approx(0.0, abs=1e-12)


class TestSupport:
    def test_draws_outside_the_support_get_no_weight(self):
        log_weights = weights_of_spread(400, 3)
        log_weights[100:150] = -torch.inf
        smoothed, khat = psis(log_weights)
        assert khat.isfinite().all()
        assert smoothed[100:150].isneginf().all()
        torch.testing.assert_close(smoothed.exp().sum(0), torch.ones(3, dtype=torch.float64))

    def test_fewer_draws_in_the_support_than_the_tail_is_long(self):
        log_weights = torch.full((1000, 2), -torch.inf, dtype=torch.float64)
        log_weights[:30] = weights_of_spread(30, 2)
        log_weights[3:, 1] = -torch.inf
        khat = pareto_khat(log_weights)
        assert khat[0].isfinite()
        assert khat[1] == math.inf

    def test_no_draw_in_the_support(self):
        log_weights = torch.full((100, 1), -torch.inf)
        smoothed, khat = psis(log_weights)
        assert khat.item() == math.inf
        assert smoothed.isneginf().all()
        assert effective_sample_size(log_weights).item() == 0.0

    @pytest.mark.parametrize("function", [pareto_khat, psis, effective_sample_size])
    def test_nan_is_refused(self, function):
        log_weights = weights_of_spread(100, 3)
        log_weights[5, 2] = math.nan
        with pytest.raises(DataError, match="particle 5, datum 2"):
            function(log_weights)


class TestSmoothing:
    def test_each_datum_stands_alone(self):
        log_weights = weights_of_spread(300, 7)
        together, khat = psis(log_weights)
        for datum in range(7):
            alone, alone_khat = psis(log_weights[:, datum : datum + 1])
            torch.testing.assert_close(together[:, datum], alone[:, 0])
            torch.testing.assert_close(khat[datum], alone_khat[0])

    def test_chunks_do_not_matter(self, monkeypatch):
        log_weights = weights_of_spread(300, 7)
        whole = psis(log_weights)
        monkeypatch.setattr(importance, "CHUNK_ELEMENTS", 1)
        torch.testing.assert_close(psis(log_weights), whole, rtol=0, atol=1e-12)

    def test_order_of_the_weights_is_kept_and_the_input_left_alone(self):
        log_weights = weights_of_spread(300, 4)
        before = log_weights.clone()
        smoothed, _ = psis(log_weights)
        assert torch.equal(log_weights, before)
        # Only the cap at the largest raw weight can merge two weights.
        ordered = smoothed.gather(0, log_weights.argsort(0))
        assert (ordered.diff(dim=0) >= -1e-12).all()

    def test_estimate_is_closer_to_the_truth_than_with_raw_weights(self):
        log_weights = weights_of_gaussians(3.0, 400, 400)
        # The draws' squares, recovered from the weights; their mean under p is the variance 3.
        squares = 3.0 * (log_weights + 0.5 * math.log(3.0))
        smoothed, _ = psis(log_weights)
        error = ((smoothed.exp() * squares).sum(0) - 3.0).square().mean()
        raw = ((log_weights.softmax(0) * squares).sum(0) - 3.0).square().mean()
        assert error < raw


def test_khat_standard_error_is_its_spread_over_data():
    for variance in (1.25, 2.0, 4.0):
        khat = pareto_khat(weights_of_gaussians(variance, 1000, 1000))
        spread = khat_standard_error(khat, 1000).mean().item()
        assert spread == pytest.approx(khat.std().item(), rel=0.08)


def test_khat_standard_error_of_an_unknown_tail_is_infinite():
    error = khat_standard_error(torch.tensor([math.inf, -math.inf, -2.0]), 1000)
    assert error[0] == math.inf
    assert error[1] == 0.0
    assert error[2] > 0.0


def test_effective_sample_size_is_kishs():
    log_weights = weights_of_spread(200, 5)
    weights = (log_weights + 300.0).exp()
    expected = weights.sum(0) ** 2 / weights.square().sum(0)
    torch.testing.assert_close(effective_sample_size(log_weights), expected)


def test_effective_sample_size_of_equal_weights_is_the_number_of_draws():
    torch.testing.assert_close(
        effective_sample_size(torch.full((50, 2), -900.0)), torch.full((2,), 50.0).double()
    )
