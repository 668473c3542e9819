"""The triangular map: its inverse, its Jacobian and the density that follows."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from pyrolvm.core.errors import DataError
from pyrolvm.datasets import TriangularToy

TOY = TriangularToy()


def test_codes_are_recovered_from_rows():
    z = 3 * torch.randn(1000, 2, dtype=torch.float64)
    assert_close(TOY.encode(TOY.decode(z)), z, rtol=0, atol=1e-10)
    x = 3 * torch.randn(1000, 2, dtype=torch.float64)
    assert_close(TOY.decode(TOY.encode(x)), x, rtol=0, atol=1e-10)


def test_the_map_is_the_formula():
    z = torch.tensor([0.7, -1.2], dtype=torch.float64)
    first = 0.7 + 0.6 * math.sin(0.7)
    second = -1.2 * math.exp(0.4 * math.sin(1.5 * first)) + 0.6 * first**2 - 0.6
    assert_close(TOY.decode(z), torch.tensor([first, second], dtype=torch.float64))


def test_the_jacobian_is_lower_triangular_with_a_positive_diagonal():
    z = 2 * torch.randn(200, 2, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(TOY.decode))(z)
    assert (jacobian[:, 0, 1] == 0).all()
    assert (jacobian.diagonal(dim1=1, dim2=2) > 0).all()


def test_the_density_is_that_of_the_change_of_variables():
    z = torch.randn(200, 2, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(TOY.decode))(z)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    assert_close(TOY.log_density(TOY.decode(z)), normal - jacobian.logdet())


def test_the_density_integrates_to_one():
    first = torch.linspace(-7.0, 7.0, 281, dtype=torch.float64)
    second = torch.linspace(-15.0, 45.0, 1201, dtype=torch.float64)
    x = torch.cartesian_prod(first, second)
    cell = (first[1] - first[0]) * (second[1] - second[0])
    assert TOY.log_density(x).exp().sum() * cell == pytest.approx(1.0, abs=1e-6)


def test_a_data_set_keeps_its_codes():
    data = TOY.dataset(50, seed=3, test_size=20)
    assert_close(TOY.decode(data.train_codes), data.train)
    assert_close(TOY.decode(data.test_codes), data.test)
    assert not torch.equal(data.train[:20], data.test)
    assert not torch.equal(data.train, TOY.dataset(50, seed=4).train)
    assert TOY.dataset().train.shape == (4000, 2)


def test_codes_are_standard_normal():
    z = TOY.dataset(20_000, test_size=0).train_codes
    error = 1 / math.sqrt(len(z))
    assert z.mean(0).abs().max() < 5 * error
    assert (z.var(0) - 1).abs().max() < 5 * math.sqrt(2) * error


@pytest.mark.parametrize("sizes", [(0, None), (3, -1)])
def test_sizes_that_make_no_sense_are_refused(sizes):
    with pytest.raises(DataError, match="size ≥ 1"):
        TOY.dataset(sizes[0], test_size=sizes[1])
