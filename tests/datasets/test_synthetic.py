import math

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import circle, factor_loadings, gaussian_factors, spiral, wave

EVERY = [circle, wave, spiral, gaussian_factors]


@pytest.mark.parametrize("make", EVERY)
class TestEvery:
    def test_sizes_are_as_asked(self, make):
        data = make(30, test_size=7)
        assert len(data.train) == 30
        assert len(data.test) == 7
        assert make(30).test.shape == data.train.shape
        assert make(30, test_size=0).test is None

    def test_seed_decides_the_rows(self, make):
        assert torch.equal(make(20, seed=5).train, make(20, seed=5).train)
        assert not torch.equal(make(20, seed=5).train, make(20, seed=6).train)

    def test_rows_held_out_are_others(self, make):
        data = make(20)
        assert not torch.equal(data.train, data.test)

    def test_global_random_state_is_left_alone(self, make):
        before = torch.random.get_rng_state()
        make(10)
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        "changes",
        [{"size": 0}, {"noise_scale": -0.1}, {"noise_scale": math.nan}, {"test_size": -1}],
    )
    def test_impossible_sizes_and_noise_are_refused(self, make, changes):
        with pytest.raises(DataError, match="needs size"):
            make(**changes)


def test_circle_without_noise_has_radius_one_and_every_angle():
    rows = circle(4000, noise_scale=0.0).train
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(4000))
    assert rows.mean(0).abs().max() < 5 * math.sqrt(0.5 / 4000)


def test_wave_without_noise_lies_on_its_curve():
    rows = wave(4000, noise_scale=0.0).train
    torch.testing.assert_close(rows[:, 1], torch.cos(1.4 * rows[:, 0]))
    assert rows[:, 0].std().item() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("make", [circle, wave])
def test_default_noise_is_a_tenth(make):
    # The same seed draws the same latent values, so the difference is the noise.
    noise = make(4000).train - make(4000, noise_scale=0.0).train
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert make().size == 1000


def test_spiral_without_noise_lies_on_two_turns():
    rows = spiral(2000, noise_scale=0.0).train
    radius, angle = rows.norm(dim=1), torch.atan2(rows[:, 1], rows[:, 0])
    turns = (4 * math.pi * radius - angle) / (2 * math.pi)
    torch.testing.assert_close(turns, turns.round(), atol=1e-3, rtol=0)
    assert set(turns.round().tolist()) == {0.0, 1.0, 2.0}


def test_gaussian_factors_have_their_closed_form_covariance():
    data = gaussian_factors(100_000, latent_dim=2, obs_dim=4, noise_scale=0.5, seed=3)
    loadings = factor_loadings(2, 4, seed=3)
    covariance = loadings @ loadings.T + 0.25 * torch.eye(4)
    error = math.sqrt(2 / 100_000) * covariance.diagonal().max()
    assert (data.train.T.cov() - covariance).abs().max() < 5 * error
    assert (data.train.mean(0).abs() < 5 * (covariance.diagonal() / 100_000).sqrt()).all()
