"""The iterative guide: a network that is fed the ELBO's gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import pyrolvm as lvm
from pyrolvm.core import Guide, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import Iterative, PerDatum
from pyrolvm.models import LinearGaussian, ResidualGenerator
from pyrolvm.testing import GuideContract


class TestIterative(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return Iterative(model, family="full", hidden=(8,), num_refinements=2)

    @pytest.mark.parametrize(
        ("family", "first_order"),
        [("diagonal", True), ("full", True), ("full", False), ("mixture", True), ("flow", True)],
    )
    def test_training_raises_the_bound(self, family: str, first_order: bool) -> None:
        model = ResidualGenerator(latent_dim=2).eval().requires_grad_(False)
        guide = Iterative(
            model, family=family, hidden=(16,), num_refinements=3, first_order=first_order
        )
        x = model(size=128)
        before = log_densities(model, guide, x, num_particles=50).log_weights.mean()
        lvm.fit(model, guide, x, steps=60, learning_rate=1e-2, train="guide", progress=False)
        after = log_densities(model, guide, x, num_particles=50).log_weights.mean()
        assert after > before + 5

    def test_parameters_do_not_grow_with_the_steps(self) -> None:
        model = self.make_model()
        counts = {Iterative(model, num_refinements=steps).num_parameters for steps in (1, 9)}
        assert len(counts) == 1

    def test_answers_are_the_same_whenever_asked(self) -> None:
        guide, x = Iterative(self.make_model()), torch.randn(6, 4)
        order = torch.randperm(6)
        first = guide.parameters_for(x)
        torch.testing.assert_close(guide.parameters_for(x[order]), first[order])
        with torch.no_grad():
            torch.testing.assert_close(guide.parameters_for(x), first)

    def test_its_oracle_starts_from_it(self) -> None:
        guide, x = Iterative(self.make_model()), torch.randn(5, 4)
        oracle = PerDatum.from_amortized(guide, x)
        torch.testing.assert_close(oracle.parameters_for(x), guide.parameters_for(x))

    def test_the_sign_family_is_refused(self) -> None:
        with pytest.raises(SettingError, match="smoothly"):
            Iterative(ResidualGenerator(2), family="sign")
