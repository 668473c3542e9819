"""Target rates: what is in reach is reached, what is not is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.objectives import LayerwiseELBO
from pyrolvm.objectives.target_rates import WEIGHT_RANGE, DualAscent


def trained(steps: int, **targets: float) -> tuple[Any, Any, Any]:
    torch.manual_seed(0)
    model = models.HierarchicalLinearGaussian((3, 2), 5)
    guide, x = guides.Layerwise(model, hidden=()), model(size=300).detach()
    loss = LayerwiseELBO(targets=targets)
    lvm.fit(
        model, guide, x, steps=steps, batch_size=300, learning_rate=0.02, train="guide",
        loss=loss, progress=False,
    )  # fmt: skip
    return loss, lvm.layer_rates(model, guide, x, num_particles=100), model.optimal_layers(x, {})


def test_targets_in_reach_are_hit_to_one_percent() -> None:
    targets = {"z_2": 0.4, "z_1": 3.0}
    loss, found, plain = trained(1500, **targets)
    for site, target in targets.items():
        assert abs(plain.rates[site].mean().item() - target) > 0.3 * target  # not hit by itself
        assert found.rates[site].mean().item() == pytest.approx(target, rel=0.01)
        assert loss.report().rates[site] == pytest.approx(target, rel=0.01)
    assert loss.report().is_reached


def test_a_lower_rate_takes_a_larger_weight() -> None:
    """The dual is concave: weights order like the rates they enforce."""
    weights = [trained(600, z_2=target)[0].report().weights["z_2"] for target in (0.4, 1.2)]
    assert weights[0] > 1 > weights[1]


def test_a_target_out_of_reach_is_said_with_its_residual() -> None:
    with pytest.warns(UserWarning, match="not reached for 'z_2': 'z_2': .* nats for 50"):
        loss, _, _ = trained(200, z_2=50.0)
    report = loss.report()
    assert report.unreached == ("z_2",)
    assert report.residuals["z_2"] == pytest.approx(report.rates["z_2"] - 50)
    assert report.residuals["z_2"] < -30


def test_a_step_is_bounded_and_goes_towards_the_target() -> None:
    ascent = DualAscent({"z": 2.0}, {}, step_size=0.1)
    ascent.update({"z": torch.tensor(1e9)})
    assert ascent.log_weights["z"] == pytest.approx(0.1)
    low = DualAscent({"z": 2.0}, {}, step_size=0.1)
    low.update({"z": torch.tensor(-5.0)})  # a noisy estimate of a small rate
    assert low.log_weights["z"] == pytest.approx(-0.1)
    there = DualAscent({"z": 2.0}, {"z": 3.0})
    there.update({"z": torch.tensor(2.0)})
    assert there.weights["z"] == pytest.approx(3.0)


def test_weights_stay_within_bounds() -> None:
    ascent = DualAscent({"z": 2.0, "y": 2.0}, {}, step_size=5.0)
    for _ in range(10):
        ascent.update({"z": torch.tensor(100.0), "y": torch.tensor(0.0)})
    assert ascent.weights == pytest.approx({"z": WEIGHT_RANGE[1], "y": WEIGHT_RANGE[0]})


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"targets": {"z_2": 0.0}}, "positive and finite, but that of 'z_2' is 0"),
        ({"targets": {"z_2": -1.0}}, "positive and finite, but that of 'z_2' is -1"),
        ({"targets": {"z_2": 1.0}, "rate_weights": {"z_2": 0.0}}, "first weight should be pos"),
        ({"targets": {"z_2": 1.0}, "dual_step": 0.0}, "dual_step should be positive"),
    ],
)
def test_wrong_settings_are_one_clear_sentence(options: dict[str, Any], part: str) -> None:
    with pytest.raises(SettingError, match=part):
        LayerwiseELBO(**options)


def test_a_report_needs_targets_and_steps() -> None:
    with pytest.raises(SettingError, match="no target"):
        LayerwiseELBO().report()
    with pytest.raises(SettingError, match="before the first step"):
        LayerwiseELBO(targets={"z_2": 1.0}).report()


def test_a_target_for_an_unknown_layer_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'z_3'"):
        trained(1, z_3=1.0)
