"""Gaussian guides that are right, narrow, wide, shifted, mean-field: everything in closed form."""

import math

import numpy as np
import pytest
import torch
from arviz_stats.base import array_stats  # type: ignore[attr-defined]
from scipy.stats import norm

from pyrolvm.core.errors import SettingError
from pyrolvm.diagnostics import pareto_khat, tail_length
from pyrolvm.diagnostics.importance_report import STAND_IN, Importance
from pyrolvm.diagnostics.log_weight_spread import log_weight_skewness, log_weight_variance

IDENTITY = torch.eye(2, dtype=torch.float64)
EVIDENCE = -7.25


def correlated(rho):
    return torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)


class Pair:
    """Guide N(mean, guide), posterior N(0, posterior), log evidence EVIDENCE."""

    def __init__(self, guide, posterior=IDENTITY, mean=(0.0, 0.0)):
        self.mean = torch.tensor(mean, dtype=torch.float64)
        self.posterior, self.guide = posterior, guide
        root = torch.linalg.cholesky(guide)
        self.root, precision = root, torch.linalg.inv(posterior)
        self.curvature = torch.eye(2, dtype=torch.float64) - root.T @ precision @ root  # A
        self.slope = root.T @ precision @ self.mean  # b

    def log_weights(self, num_particles, size, seed=0):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(num_particles, size, 2, dtype=torch.float64, generator=generator)
        constant = 0.5 * (torch.logdet(self.guide) - torch.logdet(self.posterior))
        constant = constant - 0.5 * self.mean @ torch.linalg.inv(self.posterior) @ self.mean
        form = 0.5 * torch.einsum("kni,ij,knj->kn", noise, self.curvature, noise)
        return EVIDENCE + constant + form - noise @ self.slope

    @property
    def variance(self):
        square = self.curvature @ self.curvature
        return (0.5 * square.trace() + self.slope @ self.slope).item()

    @property
    def skewness(self):
        cube = torch.linalg.matrix_power(self.curvature, 3).trace()
        third = cube + 3 * self.slope @ self.curvature @ self.slope
        return third.item() / self.variance**1.5

    @property
    def overlap(self):
        middle = (self.guide + self.posterior) / 2
        volume = 0.5 * (torch.logdet(self.guide) + torch.logdet(self.posterior))
        distance = self.mean @ torch.linalg.inv(middle) @ self.mean / 4
        return torch.exp(volume - torch.logdet(middle) - distance).item()


def mean_field(rho):
    posterior = correlated(rho)
    return Pair(torch.diag(1 / torch.linalg.inv(posterior).diag()), posterior)


# Tail shapes: one less the least eigenvalue of the guide's covariance in units of the posterior's;
# of bounded weights, which fall off like a squared distance from their peak, −2 / dimensions.
NARROW = [(Pair(s**2 * IDENTITY), 1 - s**2) for s in (0.95, 0.8, 0.6)]
WIDE = [(Pair(s**2 * IDENTITY), -1.0) for s in (1.05, 1.25, 2.0)]
SHIFTED = [(Pair(IDENTITY, mean=(shift, 0.0)), 0.0) for shift in (0.25, 0.5, 0.7)]
MEAN_FIELD = [(mean_field(rho), rho) for rho in (0.3, 0.6, 0.9)]
ALL = [*NARROW, *WIDE, *SHIFTED, *MEAN_FIELD]


class TestKhat:
    @pytest.mark.parametrize(("pair", "khat"), ALL)
    def test_hundred_thousand_draws_come_near_the_closed_form(self, pair, khat):
        found = pareto_khat(pair.log_weights(100_000, 4)).mean().item()
        assert found == pytest.approx(khat, abs=0.15)

    def test_shifted_tail_is_lognormal_and_falls_to_its_limit_slowly(self):
        shift, num_particles = 1.2, 100_000
        place = norm.isf(tail_length(num_particles) / num_particles)
        mills = norm.sf(place) / norm.pdf(place)
        local_shape = shift * mills + place * mills - 1  # derivative of the inverse hazard
        found = pareto_khat(Pair(IDENTITY, mean=(shift, 0.0)).log_weights(num_particles, 4))
        assert local_shape > 0.25
        assert found.mean().item() == pytest.approx(local_shape, abs=0.06)

    @pytest.mark.parametrize("num_particles", [100, 1000, 4000])
    def test_every_row_equals_arviz(self, num_particles):
        # ArviZ rounds the tail's length down: slightly more effective draws make it the same.
        r_eff = 1.0
        if num_particles > 225:
            r_eff = num_particles / ((tail_length(num_particles) + 0.01) / 3) ** 2
        rows = torch.cat([pair.log_weights(num_particles, 2) for pair, _ in ALL], dim=1)
        theirs = [array_stats.psislw(-row, r_eff=r_eff)[1] for row in rows.T.numpy()]
        np.testing.assert_allclose(pareto_khat(rows), theirs, rtol=0, atol=1e-8)

    @pytest.mark.parametrize("power", [0.3, 0.7])
    def test_interval_covers_the_shape_of_a_pareto_tail(self, power):
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(1000, 1000, dtype=torch.float64, generator=generator)
        found = Importance.of(-power * uniform.log())
        inside = ((found.khat - power).abs() < 1.96 * found.khat_se).double().mean().item()
        assert 0.90 < inside < 0.98


class TestClosedForms:
    @pytest.mark.parametrize(("pair", "khat"), ALL)
    def test_variance_of_the_log_weights(self, pair, khat):
        value, error = log_weight_variance(pair.log_weights(4000, 20))
        assert ((value - pair.variance).abs() < 5 * error).all()
        assert value.mean().item() == pytest.approx(pair.variance, rel=0.1)

    @pytest.mark.parametrize(("pair", "khat"), ALL)
    def test_overlap_with_evidence_from_outside(self, pair, khat):
        found = Importance.of(pair.log_weights(4000, 20), torch.full((20,), EVIDENCE))
        assert ((found.bc2 - pair.overlap).abs() < 5 * found.bc2_se).all()

    def test_variance_error_is_its_spread_over_repetitions(self):
        for pair, _ in (NARROW[2], WIDE[2], SHIFTED[2]):
            value, error = log_weight_variance(pair.log_weights(1000, 1500))
            assert error.mean().item() == pytest.approx(value.std().item(), rel=0.08)

    def test_error_of_the_stand_in_is_its_spread_over_repetitions(self):
        found = Importance.of(WIDE[2][0].log_weights(1000, 1500))
        assert found.evidence == STAND_IN
        assert found.bc2_se.mean().item() == pytest.approx(found.bc2.std().item(), rel=0.08)

    @pytest.mark.parametrize("pair", [NARROW[1][0], WIDE[1][0], SHIFTED[1][0], MEAN_FIELD[1][0]])
    def test_skewness_says_on_which_side_the_guide_errs(self, pair):
        found = log_weight_skewness(pair.log_weights(100_000, 6)).mean().item()
        assert found == pytest.approx(pair.skewness, abs=0.05)

    def test_posterior_itself_has_no_variance_no_skewness_and_overlaps_fully(self):
        found = Importance.of(Pair(IDENTITY).log_weights(1000, 3), torch.full((3,), EVIDENCE))
        assert found.khat.isneginf().all()
        assert found.log_weight_variance.max() < 1e-20
        assert (found.log_weight_skewness == 0).all()
        torch.testing.assert_close(found.bc2, torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(found.ess, torch.full((3,), 1000.0, dtype=torch.float64))

    def test_draws_outside_the_support_have_infinite_variance(self):
        weights = WIDE[0][0].log_weights(100, 2)
        weights[3, 0] = -torch.inf
        value, error = log_weight_variance(weights)
        assert value.isinf().tolist() == error.isinf().tolist() == [True, False]
        assert log_weight_skewness(weights).isfinite().all()


def found_by_name(pair, num_particles=1000, size=50, evidence=True):
    log_evidence = torch.full((size,), EVIDENCE) if evidence else None
    found = Importance.of(pair.log_weights(num_particles, size), log_evidence, method="exact")
    return {finding.name: finding for finding in found.findings()}


TAIL, SPREAD = "k-hat, largest", "variance of the log weights"
MASS = "posterior mass within reach, lowest"


class TestFindings:
    def test_exact_guide_is_good_in_everything(self):
        levels = {finding.level for finding in found_by_name(Pair(IDENTITY)).values()}
        assert levels == {"good"}

    def test_narrow_guide_has_a_bad_tail(self):
        finding = found_by_name(Pair(0.2 * IDENTITY))[TAIL]
        assert finding.level == "bad"
        assert "repair" in finding.sentence
        assert finding.advice

    def test_wide_guide_escapes_khat_but_not_the_variance(self):
        found = found_by_name(WIDE[2][0])
        assert found[TAIL].level == "good"
        assert "too wide" in found[TAIL].sentence
        assert found[SPREAD].level == "care"
        assert "no mass" in found[SPREAD].sentence

    def test_importance_names_no_defect_that_moments_should(self):
        for pair, _ in ALL:
            assert {finding.defect for finding in found_by_name(pair).values()} == {None}

    def test_missed_mode_shows_with_evidence_from_outside_only(self):
        # All weights are nearly equal, and account for half of the evidence.
        weights = Pair(1.02 * IDENTITY).log_weights(1000, 5) - math.log(2)
        outside = Importance.of(weights, torch.full((5,), EVIDENCE), method="quadrature")
        convicted = [f for f in outside.findings() if f.defect == "misses a mode"]
        assert [f.name for f in convicted] == [MASS]
        assert convicted[0].level == "bad"
        assert abs(convicted[0].value - 0.5) < 5 * convicted[0].standard_error + 0.01
        assert all(f.defect is None for f in Importance.of(weights).findings())

    def test_uncertain_evidence_convicts_nobody(self):
        weights = Pair(1.02 * IDENTITY).log_weights(1000, 5) - math.log(2)
        error = torch.full((5,), 0.5)
        found = Importance.of(weights, torch.full((5,), EVIDENCE), log_evidence_se=error)
        assert all(f.defect is None for f in found.findings())

    def test_one_datum_near_the_threshold_is_no_conviction(self):
        places = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
        found = Importance.of(-0.8 * places.log()[:, None])
        (finding,) = (f for f in found.findings() if f.name == TAIL)
        assert found.threshold < found.khat.item() < found.threshold + 1.96 * found.khat_se.item()
        assert finding.level == "care"

    def test_too_few_draws_are_unknown(self):
        finding = found_by_name(NARROW[0][0], num_particles=15)[TAIL]
        assert finding.level == "unknown"
        assert "15" in finding.sentence

    def test_single_draw_is_refused(self):
        with pytest.raises(SettingError, match="at least 2"):
            Importance.of(torch.zeros(1, 3))


def test_dataset_has_one_figure_a_datum_and_says_what_it_rests_on():
    found = Importance.of(NARROW[0][0].log_weights(500, 7)).dataset()
    assert dict(found.sizes) == {"datum": 7}
    assert {"khat", "khat_se", "ess", "bc2", "log_weight_variance"} <= set(found.data_vars)
    assert found.attrs["bc2_evidence"] == STAND_IN
    assert found.attrs["khat_threshold"] == pytest.approx(1 - 1 / math.log10(500))
