"""What is measured of a pair, by identities and limits; what the data must offer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pyrolvm import datasets, guides, models
from pyrolvm.core import evaluating
from pyrolvm.core.errors import DataError, SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.layer_rates import layer_rates
from pyrolvm.inference.rate_plane import PlaneSettings, weight_grid
from pyrolvm.inference.rate_plane.measuring import _codes, measured
from pyrolvm.inference.rate_plane.members import all_members, make_guide, make_model
from pyrolvm.inference.rate_plane.yardstick import make_yardstick, probe_accuracy


def small_digits():
    whole = datasets.digits()
    return dataclasses.replace(
        whole,
        train=whole.train[:300],
        train_labels=whole.train_labels[:300],
        test=whole.test[:150],
        test_labels=whole.test_labels[:150],
    )


@pytest.fixture(scope="module")
def dataset():
    return small_digits()


@pytest.fixture(scope="module")
def yardstick(dataset):
    return make_yardstick(dataset)


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    model = models.HierarchicalVAE((6, 3), 64, (16,), noise_scale=0.5)
    return model, guides.Layerwise(model, hidden=(16,))


@pytest.fixture(scope="module")
def row(pair, yardstick):
    return measured(*pair, yardstick, num_particles=20, num_samples=300)


class TestMeasured:
    def test_rates_are_those_of_layer_rates(self, pair, yardstick, row):
        found = layer_rates(*pair, yardstick.x, num_particles=20)
        assert row["rate_2"] == pytest.approx(found.rates["z_2"].mean().item())
        terms = row["distortion"] + row["rate_1"] + row["rate_2"]
        assert row["negative_elbo"] == pytest.approx(terms)

    def test_information_and_excess_make_up_the_rate(self, pair, yardstick, row):
        rate = row["information_2"] + row["excess_2"]
        error = row["information_2_se"] + row["excess_2_se"]
        assert abs(rate - row["rate_2"]) < 5 * error
        assert row["rate_2_se"] > 0

    def test_label_information_is_part_of_the_information(self, row):
        assert row["label_information"] <= row["information_2"] + 3 * row["information_2_se"]

    def test_score_is_diversity_times_sharpness(self, row):
        assert row["score"] == pytest.approx(row["diversity"] * row["sharpness"])
        assert 1 <= row["score"] <= 10

    def test_same_seed_same_figures(self, pair, yardstick, row):
        assert measured(*pair, yardstick, num_particles=20, num_samples=300) == row

    def test_draws_differ_from_means_by_the_width_of_the_guide(self, pair, yardstick):
        model, guide = pair
        with evaluating(model, guide), own_randomness(0):
            codes = _codes(model, guide, yardstick.x)
            scale = guide.layer_posterior("z_2", {}, yardstick.x).stddev
        standard = ((codes.draw - codes.mean) / scale).flatten()
        assert standard.square().mean() == pytest.approx(1, abs=5 * (2 / len(standard)) ** 0.5)

    def test_densities_have_draws_in_rows(self, pair, yardstick):
        model, guide = pair
        with evaluating(model, guide), own_randomness(0):
            codes = _codes(model, guide, yardstick.x)
            at_third = guide.layer_posterior("z_2", {}, yardstick.x).log_prob(codes.draw[3])
        torch.testing.assert_close(codes.log_guide[3], at_third)

    def test_guide_that_ignores_x_has_no_rate_and_leaves_the_bound_at_chance(
        self, pair, yardstick
    ):
        model, _ = pair
        guide = guides.Layerwise(model, hidden=(16,))
        last = guide.heads["z_2"].network[-1]
        with torch.no_grad():
            last.weight.zero_()
        row = measured(model, guide, yardstick, num_particles=20, num_samples=300)
        assert row["rate_2"] == pytest.approx(0, abs=1e-3)
        assert row["fano_bound"] < 0.2
        assert row["accuracy_drawn"] < row["fano_bound"] + 3 * row["accuracy_drawn_se"]


class TestYardstick:
    def test_probabilities_sum_to_one(self, yardstick):
        probs = yardstick.class_probs(yardstick.x)
        assert probs.shape == (150, 10)
        torch.testing.assert_close(probs.sum(1), torch.ones(150, dtype=torch.float64))

    def test_classifier_knows_real_digits(self, yardstick):
        assert yardstick.classifier_accuracy > 0.8

    def test_entropy_is_that_of_the_rows_held_out(self, yardstick):
        shares = torch.bincount(yardstick.labels).double() / len(yardstick.labels)
        assert yardstick.label_entropy == pytest.approx(-(shares * shares.log()).sum().item())

    def test_probe_reads_codes_that_hold_the_class(self, yardstick):
        def one_hot(labels):
            return torch.nn.functional.one_hot(labels, 10).double()

        codes, held_out = one_hot(yardstick.probe_labels), one_hot(yardstick.labels)
        assert probe_accuracy(yardstick, codes, held_out) == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"test": None, "test_labels": None}, "lacks rows held out"),
            ({"train_labels": None}, "lacks classes"),
            ({"train_labels": torch.zeros(300, dtype=torch.int64)}, "at least 2"),
        ],
    )
    def test_data_without_classes_or_held_out_rows_are_refused(self, dataset, changes, message):
        with pytest.raises(DataError, match=message):
            make_yardstick(dataclasses.replace(dataset, **changes))


class TestMembers:
    def test_weights_are_even_in_the_logarithm(self):
        weights = torch.tensor(weight_grid(9)).log()
        assert weights.diff().std() < 1e-3
        assert weight_grid([2, 1, 2]) == (1.0, 2.0)

    @pytest.mark.parametrize("grid", [1, [1.0], [1.0, 0.0], [1.0, float("inf")]])
    def test_senseless_grids_are_refused(self, grid):
        with pytest.raises(SettingError):
            weight_grid(grid)

    def test_every_member_has_a_key_of_its_own(self):
        members = all_members(weight_grid(5), (0, 1, 1))
        assert len({member.key for member in members}) == len(members) == 50

    def test_no_seed_is_refused(self):
        with pytest.raises(SettingError, match="at least one seed"):
            all_members((0.1, 1.0), ())

    def test_convolutions_read_images_without_a_channel_axis(self, dataset):
        settings = PlaneSettings(network="conv")
        model = make_model(dataset, settings)
        guide = make_guide(model, {"z_2": 0.5}, dataset, settings)
        assert model.image_shape == (1, 8, 8)
        assert guide.rate_weights == {"z_2": 0.5, "z_1": 1.0}

    def test_convolutions_need_images(self, dataset):
        flat = dataclasses.replace(dataset, image_shape=None)
        with pytest.raises(SettingError, match="image_shape"):
            make_model(flat, PlaneSettings(network="conv"))

    @pytest.mark.parametrize("changes", [{"steps": 0}, {"warm_up": 0.0}, {"latent_dims": (4,)}])
    def test_senseless_settings_are_refused(self, changes):
        with pytest.raises(SettingError):
            PlaneSettings(**changes)
