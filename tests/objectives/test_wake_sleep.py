"""Wake-sleep and its reweighted form: each phase against enumeration."""

from __future__ import annotations

import pytest
import torch

from pyrolvm.core.errors import SettingError
from pyrolvm.objectives import ReweightedWakeSleep, WakeSleep


def estimates(objective, net, gradient, module, x, repeats=40):
    return torch.stack(
        [gradient(objective(net.model, net.guide, x), module.parameters()) for _ in range(repeats)]
    )


def test_wake_theta_ascends_the_evidence(net, gradient, close_in_mean):
    objective = ReweightedWakeSleep(20_000, wake_phi=0, sleep_phi=0)
    truth = gradient(-net.log_joint(net.x).logsumexp(0).sum(), net.model.parameters())
    found = estimates(objective, net, gradient, net.model, net.x, repeats=15)
    assert close_in_mean(found, truth)
    assert (found.mean(0) - truth).norm() < 0.03 * truth.norm()


def test_wake_phi_fits_the_posterior(net, gradient, close_in_mean):
    objective = ReweightedWakeSleep(4000, wake_theta=False, wake_phi=0.7, sleep_phi=0)
    posterior = net.log_joint(net.x).softmax(0).detach()
    forward = -(posterior * net.log_guide(net.x)).sum()
    truth = 0.7 * gradient(forward, net.guide.parameters())
    found = estimates(objective, net, gradient, net.guide, net.x)
    assert close_in_mean(found, truth)
    assert (found.mean(0) - truth).norm() < 0.05 * truth.norm()
    assert not gradient(objective(net.model, net.guide, net.x), net.model.parameters()).any()


@pytest.mark.parametrize("kind", ["reweighted", "plain"])
def test_sleep_phi_fits_the_dreams(net, gradient, close_in_mean, kind):
    rows, weight = net.x.repeat(100, 1), 0.3 if kind == "reweighted" else 1.0
    objective = {
        "reweighted": ReweightedWakeSleep(2, wake_theta=False, wake_phi=0, sleep_phi=0.3),
        "plain": WakeSleep(),
    }[kind]
    chance = net.log_joint(net.x).exp().detach()
    forward = -(chance * net.log_guide(net.x)).sum()
    truth = weight * len(rows) * gradient(forward, net.guide.parameters())
    found = estimates(objective, net, gradient, net.guide, rows)
    assert close_in_mean(found, truth)
    assert (found.mean(0) - truth).norm() < 0.1 * truth.norm()


def test_the_wake_phase_ascends_the_elbo(net, gradient, close_in_mean):
    chance = net.log_guide(net.x).exp().detach()
    truth = gradient(-(chance * net.log_joint(net.x)).sum(), net.model.parameters())
    found = estimates(WakeSleep(500), net, gradient, net.model, net.x)
    assert close_in_mean(found, truth)
    assert (found.mean(0) - truth).norm() < 0.05 * truth.norm()


@pytest.mark.parametrize("objective", [WakeSleep(4000), ReweightedWakeSleep(4000)])
def test_the_loss_is_the_negative_bound_in_nats(net, objective):
    """Weights of the phases do not change what is shown."""
    chance = net.log_guide(net.x)
    log_weights = net.log_joint(net.x) - chance
    elbo = (chance.exp() * log_weights).sum()
    evidence = (chance + log_weights).logsumexp(0).sum()
    truth = elbo if isinstance(objective, WakeSleep) else evidence
    assert abs(evidence - elbo) > 5
    found = -objective(net.model, net.guide, net.x)
    assert abs(found - truth) < 0.03 * abs(evidence - elbo)


class TestSettings:
    def test_something_has_to_learn(self):
        with pytest.raises(SettingError, match="nothing to learn"):
            ReweightedWakeSleep(5, wake_theta=False, wake_phi=0, sleep_phi=0)

    @pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["wake_phi", "sleep_phi"])
    def test_weights_are_numbers_from_zero_on(self, name, weight):
        with pytest.raises(SettingError, match=f"{name} should be a number from 0 on"):
            ReweightedWakeSleep(5, **{name: weight})

    def test_a_single_draw_does_not_teach_the_guide(self):
        with pytest.raises(SettingError, match="num_particles=2 or more, or wake_phi=0"):
            ReweightedWakeSleep(1)
        assert ReweightedWakeSleep(1, wake_phi=0).num_particles == 1

    def test_its_name_tells_all_settings(self):
        objective = ReweightedWakeSleep(3, wake_theta=False, wake_phi=0.25)
        assert repr(eval(repr(objective))) == repr(objective)
        assert "wake_theta=False, wake_phi=0.25, sleep_phi=0.5" in repr(objective)
