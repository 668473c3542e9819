import math

import pytest
import torch

from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import gap_split


def test_parts_add_up_to_the_total():
    evidence, guide, oracle = torch.randn(
        3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    split = gap_split(evidence, guide, oracle)
    torch.testing.assert_close(split.approximation + split.amortization, split.total)
    torch.testing.assert_close(split.total, evidence - guide)


def test_guide_that_is_its_own_oracle_loses_nothing_by_amortization():
    bound = torch.tensor([-2.0, -3.0])
    split = gap_split(torch.tensor([-1.0, -1.0]), bound, bound)
    assert split.amortization.abs().max() == 0.0
    assert torch.equal(split.total, split.approximation)


def test_oracle_below_the_guide_shows_as_a_negative_gap():
    split = gap_split(torch.tensor([0.0]), torch.tensor([-1.0]), torch.tensor([-1.5]))
    assert split.amortization.item() == -0.5


def test_estimates_are_means_over_data_with_their_standard_errors():
    split = gap_split(torch.tensor([0.0, 0.0]), torch.tensor([-1.0, -3.0]), torch.zeros(2))
    estimates = split.estimates()
    assert list(estimates) == ["total", "approximation", "amortization"]
    assert estimates["total"].value == 2.0
    assert estimates["total"].standard_error == pytest.approx(1.0)
    assert estimates["approximation"].value == 0.0


def test_single_datum_has_an_infinite_standard_error():
    split = gap_split(torch.zeros(1), torch.zeros(1), torch.zeros(1))
    assert split.estimates()["total"].standard_error == math.inf


@pytest.mark.parametrize("shape", [(3,), (), (1, 2)])
def test_bounds_of_other_data_are_refused(shape):
    with pytest.raises(DataError, match="same shape"):
        gap_split(torch.zeros(2), torch.zeros(2), torch.zeros(shape))


def test_particles_left_in_are_refused():
    with pytest.raises(DataError, match="Average over particles"):
        gap_split(*torch.zeros(3, 5, 2))
