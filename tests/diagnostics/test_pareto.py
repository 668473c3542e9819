import pytest
import torch
from pyro.ops.stats import fit_generalized_pareto as pyro_fit

from pyrolvm.diagnostics.pareto import (
    WIDEST,
    fit_generalized_pareto,
    generalized_pareto_quantile,
)


def sample(shape, scale, size, rows):
    levels = torch.rand(
        rows, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    shape = torch.full((rows,), shape, dtype=torch.float64)
    scale = torch.full((rows,), scale, dtype=torch.float64)
    return generalized_pareto_quantile(levels, shape, scale).sort(dim=1).values


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.5, 1.2])
def test_fit_recovers_shape_and_scale(shape):
    exceedances = sample(shape, 2.0, 2000, 50)
    fitted, scale = fit_generalized_pareto(exceedances, torch.full((50,), 2000))
    # The prior has the weight of 10 of 2,010 observations.
    expected = shape + (0.5 - shape) * 10 / 2010
    assert (fitted.mean() - expected).abs() < 5 * fitted.std() / 50**0.5 + 0.01
    assert scale.mean().item() == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("size", [5, 20, 95, 300])
def test_fit_equals_pyros(size):
    exceedances = sample(0.6, 1.0, size, 8)
    fitted, scale = fit_generalized_pareto(exceedances, torch.full((8,), size))
    for row in range(8):
        theirs = pyro_fit(exceedances[row])
        assert fitted[row].item() == pytest.approx(float(theirs[0]), abs=1e-9)
        assert scale[row].item() == pytest.approx(float(theirs[1]), rel=1e-9)


def test_tail_too_wide_for_products_equals_pyros():
    exceedances = sample(30.0, 1.0, 95, 4)
    assert (exceedances[:, -1] / exceedances[:, 23]).max() > WIDEST
    fitted, _ = fit_generalized_pareto(exceedances, torch.full((4,), 95))
    for row in range(4):
        assert fitted[row].item() == pytest.approx(float(pyro_fit(exceedances[row])[0]), abs=1e-9)


def test_padding_does_not_change_a_fit():
    exceedances = sample(0.6, 1.0, 40, 3)
    alone = fit_generalized_pareto(exceedances, torch.full((3,), 40))
    padded = torch.nn.functional.pad(exceedances, (25, 0))
    together = fit_generalized_pareto(padded, torch.full((3,), 40))
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_rows_of_different_length_are_fitted_each_on_its_own():
    exceedances = sample(0.6, 1.0, 60, 2)
    exceedances[1, :35] = 0.0
    fitted, _ = fit_generalized_pareto(exceedances, torch.tensor([60, 25]))
    for row, count in enumerate((60, 25)):
        alone, _ = fit_generalized_pareto(
            exceedances[row : row + 1, -count:], torch.tensor([count])
        )
        torch.testing.assert_close(fitted[row], alone[0], rtol=1e-12, atol=1e-12)


def test_shape_does_not_depend_on_the_unit():
    exceedances = sample(0.6, 1.0, 95, 4)
    counts = torch.full((4,), 95)
    first, scale = fit_generalized_pareto(exceedances, counts)
    second, scaled = fit_generalized_pareto(exceedances * 1e-6, counts)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(scale * 1e-6, scaled)
