"""What rates allow: Fano's bound and its inverse, information, excess, scores."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.diagnostics.rates import (
    classifier_score,
    fano_accuracy,
    fano_information,
    information,
    label_entropy,
    label_information,
    layer_information,
    marginal_kl,
    psnr,
)

SKEWED = torch.tensor([0.7, 0.1, 0.1, 0.05, 0.05])


class TestFano:
    @pytest.mark.parametrize("num_classes", [2, 10, 1000])
    @pytest.mark.parametrize("share", [0.0, 1e-9, 0.1, 0.5, 0.9, 1 - 1e-9, 1.0])
    def test_the_inverse_inverts(self, num_classes: int, share: float) -> None:
        wanted = share * math.log(num_classes)
        accuracy = fano_accuracy(wanted, num_classes)
        assert fano_information(accuracy, num_classes) == pytest.approx(wanted, abs=1e-9)

    def test_nothing_allows_chance_and_enough_allows_all(self) -> None:
        assert fano_accuracy(0.0, 10) == pytest.approx(0.1)
        assert fano_accuracy(math.log(10), 10) == 1.0
        assert fano_accuracy(50.0, 10) == 1.0

    def test_it_grows_with_the_information(self) -> None:
        found = [fano_accuracy(0.1 * step, 10) for step in range(24)]
        assert all(low < high for low, high in itertools.pairwise(found))

    @pytest.mark.parametrize("wanted", [0.0, 0.2, 0.9])
    def test_skewed_labels(self, wanted: float) -> None:
        entropy = label_entropy(SKEWED)
        accuracy = fano_accuracy(wanted, 5, entropy)
        assert fano_information(accuracy, 5, entropy) == pytest.approx(wanted, abs=1e-9)
        assert accuracy >= 0.7 - 1e-9  # one can always name the most frequent class
        assert fano_accuracy(entropy, 5, entropy) == 1.0

    def test_two_classes_are_a_binary_channel(self) -> None:
        """Its capacity is log 2 - h(error), and the bound is tight."""
        error = 0.11
        capacity = math.log(2) + error * math.log(error) + (1 - error) * math.log(1 - error)
        assert fano_accuracy(capacity, 2) == pytest.approx(1 - error)

    def test_a_classifier_that_sees_draws_keeps_the_bound(self) -> None:
        generator = torch.Generator().manual_seed(0)
        labels = torch.randint(4, (4000,), generator=generator)
        for spread in (0.5, 1.0, 3.0):
            centres = torch.tensor([-3.0, -1.0, 1.0, 3.0])
            z = centres[labels] + spread * torch.randn(4000, generator=generator)
            guessed = (z[:, None] - centres).abs().argmin(1)
            accuracy = (guessed == labels).double().mean().item()
            rate = 0.5 * (5 + spread**2 - 1) - math.log(spread)  # to the prior N(0, 1)
            tighter = 0.5 * math.log(1 + 5 / spread**2)  # a Gaussian channel of this power
            slack = 5 * math.sqrt(0.25 / 4000)
            assert tighter <= rate
            assert accuracy <= fano_accuracy(tighter, 4) + slack
            assert accuracy <= fano_accuracy(rate, 4) + slack

    @pytest.mark.parametrize(
        ("call", "part"),
        [
            (lambda: fano_accuracy(-0.1, 10), "0 or more nats, but it is -0.1"),
            (lambda: fano_accuracy(math.nan, 10), "0 or more nats, but it is nan"),
            (lambda: fano_information(0.05, 10), "between 1/10 and 1, but it is 0.05"),
            (lambda: fano_accuracy(0.1, 1), "num_classes should be at least 2"),
            (lambda: fano_accuracy(0.1, 3, 2.0), "between 0 and log 3"),
        ],
    )
    def test_wrong_calls_are_one_clear_sentence(self, call: Any, part: str) -> None:
        with pytest.raises(SettingError, match=part):
            call()


def gaussian_channel(size: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draws z = x + noise of standard normal x, and log q(z_i | x_j)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, dtype=torch.float64, generator=generator)
    z = x + noise * torch.randn(size, dtype=torch.float64, generator=generator)
    return z, Normal(x, noise).log_prob(z[:, None])


class TestInformation:
    def test_a_gaussian_channel(self) -> None:
        found = information(gaussian_channel(1500, 0.5)[1])
        wanted = 0.5 * math.log(1 + 4)
        assert abs(found.estimate.value - wanted) < 5 * found.estimate.standard_error
        assert found.estimate.standard_error < 0.03
        assert not found.is_capped

    def test_it_cannot_exceed_the_logarithm_of_the_number_of_data(self) -> None:
        found = information(gaussian_channel(50, 1e-4)[1])
        assert found.ceiling == pytest.approx(math.log(50))
        assert found.estimate.value <= found.ceiling
        assert found.estimate.value < 0.5 * math.log(1e8)
        assert found.is_capped

    def test_a_guide_that_ignores_x_has_none(self) -> None:
        z = torch.randn(40, 1, dtype=torch.float64)
        found = information(Normal(0.0, 1.0).log_prob(z).expand(40, 40))
        assert found.estimate.value == pytest.approx(0, abs=1e-12)

    def test_layers_share_the_information_of_both(self) -> None:
        """A second look at x with other noise: the chain rule of a Gaussian channel."""
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(1500, dtype=torch.float64, generator=generator)
        matrices = {}
        for site, noise in (("z_2", 1.0), ("z_1", 0.5)):
            z = x + noise * torch.randn(1500, dtype=torch.float64, generator=generator)
            matrices[site] = Normal(x, noise).log_prob(z[:, None])
        found = layer_information(matrices)
        top, both = 0.5 * math.log(1 + 1), 0.5 * math.log(1 + 1 + 4)
        for site, wanted in (("z_2", top), ("z_1", both - top)):
            estimate = found[site].estimate
            assert abs(estimate.value - wanted) < 5 * estimate.standard_error

    def test_the_marginal_kl_is_the_excess_of_the_rate(self) -> None:
        z, log_guide = gaussian_channel(1500, 0.5)
        found = marginal_kl(log_guide, Normal(0.0, 1.0).log_prob(z))
        wanted = 0.5 * (1.25 - 1 - math.log(1.25))
        assert abs(found.value - wanted) < 5 * found.standard_error
        rate = (log_guide.diagonal() - Normal(0.0, 1.0).log_prob(z)).mean().item()
        assert rate == pytest.approx(found.value + information(log_guide).estimate.value)

    def test_labels_of_separated_classes_are_known(self) -> None:
        labels = torch.arange(300) % 3
        x = 100.0 * labels.double()
        z = x + torch.randn(300, dtype=torch.float64)
        known = label_information(Normal(x, 1.0).log_prob(z[:, None]), labels)
        assert known.value == pytest.approx(math.log(3))
        none = label_information(torch.zeros(300, 300), labels)
        assert none.value == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        "call",
        [
            lambda: information(torch.zeros(3, 4)),
            lambda: information(torch.full((3, 3), math.nan)),
            lambda: information(torch.full((3, 3), -math.inf)),
            lambda: marginal_kl(torch.zeros(3, 3), torch.zeros(2)),
            lambda: label_information(torch.zeros(3, 3), torch.zeros(2)),
        ],
    )
    def test_wrong_arrays_are_refused(self, call: Any) -> None:
        with pytest.raises(DataError, match="shape"):
            call()


def test_psnr_of_a_known_error() -> None:
    x = torch.rand(4, 6)
    found = psnr(x, x + 0.1, peak=1.0)
    assert found.tolist() == pytest.approx([20.0] * 4, rel=1e-5)
    assert psnr(255 * x, 255 * (x + 0.1), peak=255).tolist() == pytest.approx([20.0] * 4, rel=1e-5)
    assert psnr(x, x, peak=1.0).tolist() == [math.inf] * 4
    with pytest.raises(DataError, match="one shape"):
        psnr(x, x[:2], peak=1.0)
    with pytest.raises(SettingError, match="peak"):
        psnr(x, x, peak=0)


class TestClassifierScore:
    def test_sure_and_even_is_the_number_of_classes(self) -> None:
        found = classifier_score(torch.eye(5).repeat(4, 1))
        assert (found.diversity, found.sharpness) == pytest.approx((5, 1))
        assert found.value == pytest.approx(5)

    def test_one_class_alone_has_no_diversity(self) -> None:
        found = classifier_score(torch.eye(5)[:1].repeat(7, 1))
        assert (found.diversity, found.sharpness) == pytest.approx((1, 1))

    def test_unsure_has_no_sharpness(self) -> None:
        found = classifier_score(torch.full((7, 5), 0.2))
        assert (found.diversity, found.sharpness) == pytest.approx((5, 0.2))

    def test_the_product_is_the_exponential_of_the_mean_divergence(self) -> None:
        probs = torch.rand(50, 4, dtype=torch.float64)
        probs = probs / probs.sum(1, keepdim=True)
        divergence = (probs * (probs / probs.mean(0)).log()).sum(1).mean().exp().item()
        assert classifier_score(probs).value == pytest.approx(divergence)

    @pytest.mark.parametrize(
        "probs", [torch.ones(3, 2), torch.tensor([[-0.5, 1.5]]), torch.empty(0, 3)]
    )
    def test_what_is_no_probability_is_refused(self, probs: Tensor) -> None:
        with pytest.raises(DataError, match="sum to 1"):
            classifier_score(probs)
