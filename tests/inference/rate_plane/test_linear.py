"""The exact plane: population means by simulation, identities, bounds, trading, and SVI on top."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyrolvm import models
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.layer_rates import layer_rates
from pyrolvm.inference.rate_plane import linear_rate_plane, trained_linear_plane
from pyrolvm.inference.rate_plane.linear import COLUMNS, AffineLayers, exact_terms, population_rows


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.HierarchicalLinearGaussian((3, 2), 5)


@pytest.fixture(scope="module")
def plane(model):
    return linear_rate_plane(model, 21)


def at(plane, first, second):
    frame = plane.frame
    found = frame[np.isclose(frame["weight_1"], first) & np.isclose(frame["weight_2"], second)]
    assert len(found) == 1
    return found.iloc[0]


def table(plane, column):
    """Rows: weight of z_1; columns: weight of z_2."""
    return plane.frame.pivot_table(index="weight_1", columns="weight_2", values=column).to_numpy()


def test_rows_have_the_mean_and_the_covariance_of_the_data(model):
    rows = population_rows(model)
    assert rows.mean(0).abs().max() < 1e-12
    torch.testing.assert_close(rows.mT @ rows / len(rows), model.data_covariance)


def test_has_every_pair_of_weights_once(plane):
    assert len(plane.frame) == 441
    assert not plane.frame.duplicated(["weight_1", "weight_2"]).any()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.1, 10.0), (3.162, 0.3162)])
def test_means_are_those_of_simulated_data(model, plane, weights):
    x = model(size=20_000).detach()
    best = model.optimal_layers(x, {"z_1": weights[0], "z_2": weights[1]})
    exact = at(plane, *weights)
    simulated = {
        "rate_1": best.rates["z_1"],
        "rate_2": best.rates["z_2"],
        "distortion": best.distortion,
    }
    for name, values in simulated.items():
        error = values.std().item() / math.sqrt(len(values))
        assert abs(values.mean().item() - exact[name]) < 5 * error


def test_weights_of_one_give_the_information_of_each_layer(model, plane):
    covariance, noise = model.data_covariance, model.noise().double().item() ** 2
    loading = model.loadings[0].double()
    given_top = model.scales[0].double() ** 2 * loading @ loading.mT + noise * torch.eye(5)
    one = at(plane, 1.0, 1.0)
    about_top = 0.5 * (torch.logdet(covariance) - torch.logdet(given_top)).item()
    assert one["rate_2"] == pytest.approx(about_top, abs=1e-9)
    about_bottom = 0.5 * (torch.logdet(given_top).item() - 5 * math.log(noise))
    assert one["rate_1"] == pytest.approx(about_bottom, abs=1e-6)


def test_no_guide_crosses_the_bound_and_only_weights_of_one_reach_it(plane):
    total = plane.frame["rate_1"] + plane.frame["rate_2"]
    above = plane.frame["distortion"] - (plane.entropy - total)
    touches = plane.frame[above.abs() < 1e-6]
    assert above.min() > -1e-6
    assert touches[["weight_1", "weight_2"]].to_numpy().tolist() == [[1.0, 1.0]]


def test_a_rate_falls_with_its_own_weight_and_rises_with_the_other(plane):
    for own, other, column in ((0, 1, "rate_1"), (1, 0, "rate_2")):
        values = table(plane, column)
        assert (np.diff(values, axis=own) < 0).all()
        assert (np.diff(values, axis=other) > 0).all()


def test_cross_derivatives_agree(model):
    near = linear_rate_plane(model, [0.99, 1.0, 1.01])
    by_top = (at(near, 1.0, 1.01)["rate_1"] - at(near, 1.0, 0.99)["rate_1"]) / 0.02
    by_bottom = (at(near, 1.01, 1.0)["rate_2"] - at(near, 0.99, 1.0)["rate_2"]) / 0.02
    assert by_top > 0.1
    assert by_top == pytest.approx(by_bottom, rel=1e-3)


def test_an_affine_guide_can_be_the_best_one(model, plane):
    """The guide that SVI trains, set by hand to the optimum, has the optimum's rates."""
    weights = {"z_1": 0.1, "z_2": 10.0}
    guide = AffineLayers(model).double()
    _set(guide.loc_2, guide.raw_2, lambda x: model.optimal_layer("z_2", {}, x, weights), 5)
    _set(
        guide.loc_1,
        guide.raw_1,
        lambda read: model.optimal_layer("z_1", {"z_2": read[:, 5:]}, read[:, :5], weights),
        7,
    )
    x = population_rows(model)
    exact = at(plane, 0.1, 10.0)
    terms = exact_terms(model, guide, x)
    assert terms == pytest.approx(exact[["rate_1", "rate_2", "distortion"]].tolist(), rel=1e-6)


def test_terms_of_an_affine_guide_are_those_of_layer_rates(model):
    """Without sampling, and at draws: for a guide far from the optimum."""
    torch.manual_seed(1)
    guide = AffineLayers(model)
    x = population_rows(model)
    found = layer_rates(model, guide, x, num_particles=20_000)
    named = (
        (found.rates["z_1"], "z_1"),
        (found.rates["z_2"], "z_2"),
        (found.distortion, "distortion"),
    )
    for term, (values, key) in zip(exact_terms(model, guide, x), named, strict=True):
        error = found.standard_error[key].square().sum().sqrt().item() / len(x)
        assert abs(values.mean().item() - term) < 5 * error + 1e-9


def _set(linear, raw, layer, width):
    """Read an affine map off its values at 0 and at the unit vectors."""
    inputs = torch.cat([torch.zeros(1, width), torch.eye(width)])
    best = layer(inputs)
    with torch.no_grad():
        linear.bias.copy_(best.loc[0])
        linear.weight.copy_((best.loc[1:] - best.loc[0]).mT)
        factor = best.scale_tril[0] if best.scale_tril.ndim == 3 else best.scale_tril
        raw.copy_(factor.tril(-1) + torch.diag_embed(factor.diagonal().expm1().log()))


def test_a_few_steps_of_svi_bring_the_right_columns(model):
    found = trained_linear_plane(model, [0.5, 2.0], steps=3, num_particles=2, progress=False)
    assert list(found.columns) == COLUMNS
    assert len(found) == 4
    assert found.notna().all().all()


def test_one_weight_is_no_plane(model):
    with pytest.raises(SettingError, match="at least 2 positive weights"):
        linear_rate_plane(model, [1.0])


@pytest.mark.slow
def test_svi_comes_within_two_percent_of_the_closed_form(model):
    weights = [0.3, 1.0, 3.0]
    exact = linear_rate_plane(model, weights).frame
    found = trained_linear_plane(model, weights, progress=False)
    assert np.abs(found[COLUMNS[2:]] / exact[COLUMNS[2:]] - 1).to_numpy().max() < 0.02
