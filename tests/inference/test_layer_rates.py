"""Rates of layers: against closed forms, other estimates, and for pairs of any kind."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pytest
import torch
from pyro.distributions import Categorical, Normal
from pyro.infer.autoguide import AutoMultivariateNormal
from torch import Tensor
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import DataError, IncompatiblePairError
from pyrolvm.core.errors import SettingError

WEIGHTS = {"z_2": 3.0, "z_1": 0.3}


@pytest.fixture(scope="module")
def linear() -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    model = models.HierarchicalLinearGaussian((3, 2), 5)
    return model, model(size=40).detach()


def vae(**options: Any) -> tuple[Any, Tensor]:
    model = models.HierarchicalVAE((3, 2), 4, hidden=(6,), noise_scale=0.5, **options)
    return model, model(size=10).detach()


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["one", "unequal"])
@pytest.mark.parametrize("analytic", [True, False])
def test_the_best_guide_has_the_rates_of_the_closed_form(
    linear: Any, weights: dict[str, float], analytic: bool
) -> None:
    model, x = linear
    guide = guides.Layerwise.optimal(model, weights)
    found = lvm.layer_rates(model, guide, x, num_particles=2000, analytic=analytic)
    best = model.optimal_layers(x, weights)
    for site, rate in best.rates.items():
        error = found.standard_error[site]
        assert ((found.rates[site] - rate).abs() < 5 * error + 1e-7).all()
        assert (error < 0.2).all()
    error = found.standard_error["distortion"]
    assert ((found.distortion - best.distortion).abs() < 5 * error).all()


def test_the_posterior_spends_its_rate_on_the_evidence(linear: Any) -> None:
    model, x = linear
    found = lvm.layer_rates(model, guides.Layerwise.optimal(model), x, analytic=False)
    assert_close(found.elbo, model.double().log_evidence(x.double()).detach())
    assert (found.standard_error["elbo"] < 1e-9).all()
    model.float()


@pytest.mark.parametrize("guide", ["layerwise", "ladder"])
def test_rates_add_up_to_the_total_at_the_same_draws(guide: str) -> None:
    """Exactly where both are drawn, within the error where layers are in closed form."""
    model, x = vae()
    pair = {"layerwise": guides.Layerwise, "ladder": guides.Ladder}[guide](model, hidden=(6,))
    found = lvm.layer_rates(model, pair, x, num_particles=30, analytic=False, seed=4)
    assert_close(sum(found.rates.values()), found.total)
    rates = lvm.layer_rates(model, pair, x, num_particles=30, analytic=True, seed=4)
    error = rates.standard_error["total"].hypot(found.standard_error["total"])
    assert ((rates.total - found.total).abs() < 5 * error).all()


def test_the_total_is_that_of_the_log_densities(linear: Any) -> None:
    model, x = linear
    guide = guides.BottomUp(model)
    terms = lvm.log_densities(model, guide, x, num_particles=4000)
    spread = terms.log_guide - (terms.log_joint - terms.likelihood["x"])
    found = lvm.layer_rates(model, guide, x, num_particles=4000)
    error = found.standard_error["total"] * math.sqrt(2)
    assert ((found.total - spread.mean(0)).abs() < 5 * error).all()
    assert_close(found.standard_error["total"], spread.std(0) / math.sqrt(4000), rtol=0.1, atol=0)


def test_closed_forms_are_not_negative_and_draws_hardly() -> None:
    model, x = vae()
    guide = guides.Layerwise(model, hidden=(6,))
    exact = lvm.layer_rates(model, guide, x, num_particles=400)
    drawn = lvm.layer_rates(model, guide, x, num_particles=400, analytic=False)
    assert set(exact.method.values()) == {"analytic"}
    assert set(drawn.method.values()) == {"monte carlo"}
    for site in exact.rates:
        assert (exact.rates[site] >= 0).all()
        assert (drawn.rates[site] > -5 * drawn.standard_error[site]).all()
        error = exact.standard_error[site].hypot(drawn.standard_error[site])
        assert ((exact.rates[site] - drawn.rates[site]).abs() < 5 * error).all()
    assert (exact.standard_error["z_2"] < 1e-12).all()  # it has no layer above to be drawn


def test_weights_of_the_guide_do_not_count() -> None:
    model, x = vae()
    plain = guides.Layerwise(model, hidden=(6,))
    weighty = guides.Layerwise(model, rate_weights=WEIGHTS, hidden=(6,))
    weighty.load_state_dict(plain.state_dict())
    one, other = (lvm.layer_rates(model, guide, x) for guide in (plain, weighty))
    for site in one.rates:
        assert torch.equal(one.rates[site], other.rates[site])


def test_a_prior_guide_has_no_rates() -> None:
    model, x = vae()

    def guide(x: Tensor) -> None:
        latents: dict[str, Tensor] = {}
        with pyro.plate("data", len(x)):
            for site in model.latent_sites:
                latents[site] = pyro.sample(site, model.layer_prior(site, latents))

    for analytic in (True, False):
        found = lvm.layer_rates(model, guide, x, analytic=analytic)
        for rate in found.rates.values():
            assert_close(rate, torch.zeros_like(rate), rtol=0, atol=1e-12)


def test_a_bottom_up_guide_has_a_total_alone() -> None:
    model, x = vae()
    found = lvm.layer_rates(model, guides.BottomUp(model, hidden=(6,)), x)
    assert (found.total > -5 * found.standard_error["total"]).all()
    assert list(found.frame.index) == ["total", "distortion", "elbo"]
    assert "no rates of layers" in repr(found)
    with pytest.raises(IncompatiblePairError, match=r"draws 'z_1' before 'z_2'.* can be negative"):
        _ = found.rates


def test_a_bottom_up_guide_with_one_layer_is_no_exception() -> None:
    model = models.HierarchicalVAE(3, 4, hidden=(6,))
    found = lvm.layer_rates(model, guides.BottomUp(model, hidden=(6,)), model(size=5).detach())
    assert_close(found.rates["z_1"], found.total)


def two_layers(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z_2 = pyro.sample("z_2", Normal(0.0, 1.0))
        z_1 = pyro.sample("z_1", Normal(z_2, 0.5))
        pyro.sample("x", Normal(z_1, 0.5), obs=x)


def bottom_up(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z_1 = pyro.sample("z_1", Normal(0.8 * x, 0.4))
        pyro.sample("z_2", Normal(0.8 * z_1, 0.5))


def independent(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        pyro.sample("z_1", Normal(0.8 * x, 0.4))
        pyro.sample("z_2", Normal(0.6 * x, 0.5))


def one_draw_of_three(x: Tensor) -> None:
    """Breaks batch shapes: it cannot be run for all particles at once."""
    with pyro.plate("data", 3):
        z_2 = pyro.sample("z_2", Normal(0.6 * x, 0.5))
        pyro.sample("z_1", Normal(z_2.reshape(3) * 0.5, 0.4))


class TestPlainPrograms:
    x = torch.tensor([0.3, -1.0, 2.0])

    def test_a_bottom_up_function_is_found_out(self) -> None:
        found = lvm.layer_rates(two_layers, bottom_up, self.x)
        with pytest.raises(IncompatiblePairError, match="draws 'z_1' before 'z_2'"):
            _ = found.rates

    def test_independent_layers_may_come_in_any_order(self) -> None:
        found = lvm.layer_rates(two_layers, independent, self.x, num_particles=2000)
        assert list(found.rates) == ["z_2", "z_1"]
        mean, x = 0.6 * self.x.double(), self.x.double()
        top = 0.5 * (0.25 + mean**2 - 1) - math.log(0.5)
        assert_close(found.rates["z_2"], top, rtol=1e-6, atol=1e-6)
        below = math.log(0.5 / 0.4) + (0.16 + 0.25 + (0.8 * x - mean) ** 2) / 0.5 - 0.5
        assert ((found.rates["z_1"] - below).abs() < 5 * found.standard_error["z_1"]).all()

    def test_autoguides_over_one_vector_have_a_total_alone(self) -> None:
        found = lvm.layer_rates(two_layers, AutoMultivariateNormal(two_layers), self.x)
        assert found.total.shape == (1,)  # its vector lies outside the plate
        with pytest.raises(IncompatiblePairError, match="auxiliary site"):
            _ = found.rates

    def test_programs_that_do_not_vectorise_are_run_one_by_one(self) -> None:
        with pytest.warns(UserWarning, match="one after another"):
            found = lvm.layer_rates(two_layers, one_draw_of_three, self.x, num_particles=5)
        assert found.rates["z_1"].shape == (3,)

    def test_a_site_outside_the_plate_makes_one_datum(self) -> None:
        def model(x: Tensor) -> None:
            level = pyro.sample("level", Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Normal(level, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x)

        def guide(x: Tensor) -> None:
            level = pyro.sample("level", Normal(0.2, 0.5))
            with pyro.plate("data", len(x)):
                pyro.sample("z", Normal(0.5 * (x + level), 0.4))

        found = lvm.layer_rates(model, guide, self.x)
        wanted = torch.distributions.kl_divergence(Normal(0.2, 0.5), Normal(0.0, 1.0))
        assert found.rates["level"].item() == pytest.approx(wanted.item(), rel=1e-6)
        assert found.rates["z"].shape == (1,)

    @pytest.mark.parametrize("size", [2, 5])
    def test_subsamples_have_the_rates_of_their_rows(self, size: int) -> None:
        """Per datum the scale of the plate does not count."""

        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                z = pyro.sample("z", Normal(0.0, 1.0))
                pyro.sample("x", Normal(z, 0.5), obs=x[rows])

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                pyro.sample("z", Normal(0.5 * x[rows], 0.5))

        found = lvm.layer_rates(model, guide, torch.full((5,), 0.6))
        wanted = torch.distributions.kl_divergence(Normal(0.3, 0.5), Normal(0.0, 1.0))
        assert_close(found.rates["z"], wanted.double().expand(size), rtol=1e-6, atol=0)


class TestDiscreteTop:
    def test_one_hot_layers_have_a_closed_form(self) -> None:
        model, x = vae(top="categorical")
        guide = guides.Layerwise(model, hidden=(6,))
        exact = lvm.layer_rates(model, guide, x, num_particles=1000)
        drawn = lvm.layer_rates(model, guide, x, num_particles=1000, analytic=False)
        assert exact.method["z_2"] == "analytic"
        assert (exact.rates["z_2"] <= math.log(2)).all()
        error = drawn.standard_error["z_2"]
        assert ((exact.rates["z_2"] - drawn.rates["z_2"]).abs() < 5 * error).all()

    def test_laws_without_a_closed_form_are_drawn(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", Categorical(torch.ones(3) / 3))
                y = pyro.sample("y", pyro.distributions.StudentT(4.0, 0.0, 1.0))
                pyro.sample("x", Normal(z.double() + y, 1.0), obs=x)

        def guide(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                pyro.sample("z", Categorical(torch.tensor([0.2, 0.3, 0.5])))
                pyro.sample("y", Normal(x, 1.0))

        found = lvm.layer_rates(model, guide, torch.randn(4), num_particles=10)
        assert dict(found.method) == {"z": "analytic", "y": "monte carlo"}


class TestForm:
    def test_double_precision_and_the_same_seed(self) -> None:
        model, x = vae()
        guide = guides.Layerwise(model, hidden=(6,))
        state = torch.get_rng_state()
        one, other = (lvm.layer_rates(model, guide, x, seed=3) for _ in range(2))
        assert torch.equal(state, torch.get_rng_state())
        assert one.total.dtype == torch.float64
        assert torch.equal(one.total, other.total)
        assert next(model.parameters()).dtype == torch.float32

    def test_rows_are_run_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        model, x = vae()
        guide = guides.Layerwise(model, hidden=(6,))
        whole = lvm.layer_rates(model, guide, x, num_particles=500)
        monkeypatch.setattr("pyrolvm.inference.layer_rates.CHUNK_ROWS", 3)
        monkeypatch.setattr("pyrolvm.inference.layer_rates.CHUNK_DRAWS", 100)
        parts = lvm.layer_rates(model, guide, x, num_particles=500)
        assert_close(parts.rates["z_2"], whole.rates["z_2"])
        error = parts.standard_error["z_1"].hypot(whole.standard_error["z_1"])
        assert ((parts.rates["z_1"] - whole.rates["z_1"]).abs() < 5 * error).all()

    def test_the_table_says_means_errors_and_methods(self) -> None:
        model, x = vae()
        found = lvm.layer_rates(model, guides.Layerwise(model, hidden=(6,)), x)
        frame = found.frame
        assert list(frame.index) == ["z_2", "z_1", "total", "distortion", "elbo"]
        assert frame.loc["z_1", "nats"] == pytest.approx(found.rates["z_1"].mean().item())
        spread = found.rates["z_1"].std().item() / math.sqrt(len(x))
        assert frame.loc["z_1", "standard_error"] == pytest.approx(spread)
        assert frame.loc["total", "method"] == "sum"
        assert frame["nats"][["total", "distortion", "elbo"]].sum() == pytest.approx(0)
        assert "z_2" in repr(found)

    def test_wrong_calls_are_one_clear_sentence(self) -> None:
        model, x = vae()
        guide = guides.Layerwise(model, hidden=(6,))
        with pytest.raises(SettingError, match="num_particles should be at least 2"):
            lvm.layer_rates(model, guide, x, num_particles=1)
        with pytest.raises(DataError):
            lvm.layer_rates(model, guide, x[:, :2])
