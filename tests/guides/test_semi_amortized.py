"""The semi-amortized guide: refinement by gradient ascent."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

import pyrolvm as lvm
from pyrolvm.core import Guide, IncompatiblePairError, log_densities
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import PerDatum, SemiAmortized
from pyrolvm.models import LinearGaussian, ResidualGenerator
from pyrolvm.testing import GuideContract

FAMILIES = ["diagonal", "full", "mixture", "flow"]


def bounds(guide: Guide, x: Tensor) -> tuple[Tensor, Tensor]:
    """ELBO of each datum from fresh draws, and its standard error."""
    weights = log_densities(guide.model, guide, x, num_particles=2000).log_weights
    return weights.mean(0), weights.std(0) / math.sqrt(2000)


class TestSemiAmortized(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return SemiAmortized(model, family="full", hidden=(8,), num_refinements=2)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_refinement_raises_the_bound_of_every_new_datum(self, family: str) -> None:
        model = ResidualGenerator(latent_dim=2).eval().requires_grad_(False)
        guide = SemiAmortized(model, family=family, hidden=(4,), num_refinements=0)
        lvm.fit(model, guide, model(size=128), steps=20, train="guide", progress=False)
        x = model(size=20)
        found = []
        for steps in (0, 2, 8):
            guide.ascent.num_steps = steps
            found.append(bounds(guide, x))
        for (low, low_error), (high, high_error) in pairwise(found):
            assert (high > low - 5 * (low_error + high_error)).all()
            error_of_means = torch.cat([low_error, high_error]).norm() / len(x)
            assert high.mean() > low.mean() + 5 * error_of_means

    def test_many_steps_find_the_exact_posterior_of_a_linear_model(self) -> None:
        model = self.make_model().double().eval().requires_grad_(False)
        guide = SemiAmortized(model, family="full", hidden=(), num_refinements=300)
        x = model(size=5)
        posterior = model.posterior(x)
        with torch.no_grad():
            found: Any = guide.distribution(x)
        torch.testing.assert_close(found.mean, posterior.mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            found.covariance_matrix, posterior.covariance_matrix, rtol=1e-3, atol=1e-3
        )

    def test_answers_are_the_same_whenever_asked(self) -> None:
        guide, x = self.make(self.make_model()), torch.randn(6, 4)
        assert isinstance(guide, SemiAmortized)
        order = torch.randperm(6)
        first = guide.parameters_for(x)
        torch.testing.assert_close(guide.parameters_for(x[order]), first[order])
        with torch.no_grad():
            torch.testing.assert_close(guide.parameters_for(x), first)

    @pytest.mark.parametrize("first_order", [False, True])
    @pytest.mark.parametrize("family", FAMILIES)
    def test_training_moves_encoder_and_rates(self, family: str, first_order: bool) -> None:
        model = ResidualGenerator(latent_dim=2)
        guide = SemiAmortized(model, family=family, hidden=(4,), first_order=first_order)
        before = {name: value.clone() for name, value in guide.state_dict().items()}
        x = model(size=16).detach()
        lvm.fit(model, guide, x, steps=3, train="guide", progress=False)
        after = guide.state_dict()
        assert {n for n in before if not torch.equal(before[n], after[n])} == set(
            dict(guide.named_parameters())
        )

    def test_gradient_goes_through_the_refinement(self) -> None:
        """The gradient of the refined λ in the encoder's output is that of finite differences."""
        model = ResidualGenerator(latent_dim=1).double().eval().requires_grad_(False)
        guide = SemiAmortized(model, family="diagonal", hidden=(), num_refinements=2)
        x = model(size=3)
        bias: Any = guide.encoder[-1].bias
        (found,) = torch.autograd.grad(guide.parameters_for(x)[:, 0].sum(), bias)
        step = 1e-5
        with torch.no_grad():
            bias[0] += step
            high = guide.parameters_for(x)[:, 0].sum()
            bias[0] -= 2 * step
            low = guide.parameters_for(x)[:, 0].sum()
        assert found[0].item() == pytest.approx(((high - low) / (2 * step)).item(), rel=1e-5)

    def test_its_oracle_starts_from_it(self) -> None:
        guide, x = self.make(self.make_model()), torch.randn(5, 4)
        oracle = PerDatum.from_amortized(guide, x)  # type: ignore[arg-type]
        torch.testing.assert_close(oracle.parameters_for(x), guide.parameters_for(x))  # type: ignore[operator]

    def test_the_sign_family_is_refused(self) -> None:
        with pytest.raises(SettingError, match="smoothly"):
            SemiAmortized(ResidualGenerator(2), family="sign")

    def test_a_model_without_explicit_joint_is_refused(self) -> None:
        with pytest.raises(IncompatiblePairError, match="ExplicitJoint"):
            SemiAmortized(object())
