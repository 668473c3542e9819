"""Regions: maps, counts, and that they tile the plane."""

from __future__ import annotations

from math import comb, exp

import numpy as np
import pytest
import torch

from pyrolvm.core.errors import SettingError
from pyrolvm.exact import Partition, PartitionMismatchError, RegionLimitError, solve
from pyrolvm.exact.edge_moments import edge_moments, nearest_point
from pyrolvm.exact.folding import fold
from pyrolvm.exact.partition import latent_regions


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("hidden", [(), (9,), (7, 6), (5, 5, 5)])
@pytest.mark.parametrize("latent_dim", [1, 2])
def test_affine_maps_agree_with_the_network(random_stack, latent_dim, hidden, activation):
    stack = random_stack(latent_dim, hidden, 4, activation=activation, seed=1)
    posterior = solve(stack, torch.zeros(1, 4))
    regions = posterior.regions
    random = torch.Generator().manual_seed(0)
    if latent_dim == 1:
        z = 4 * torch.randn(5000, 1, generator=random, dtype=torch.float64)
        index = torch.searchsorted(regions.breakpoints, z[:, 0].contiguous())
    else:
        points, owners = [], []
        for r, corner in enumerate(regions.polygons):
            share = torch.rand(5, len(corner), generator=random, dtype=torch.float64)
            points.append(share / share.sum(1, keepdim=True) @ corner)
            owners += 5 * [r]
        z, index = torch.cat(points), torch.tensor(owners)
    value = torch.einsum("nds,ns->nd", regions.matrices[index], z) + regions.offsets[index]
    error = (value - stack.forward(z)).abs()
    assert (error / (1 + stack.forward(z).abs())).max() < 1e-11


@pytest.mark.parametrize("units", [3, 8, 15])
def test_one_generic_layer_has_the_combinatorial_number_of_regions(random_stack, units):
    stack = random_stack(2, (units,), 3, seed=units)
    expected = sum(comb(units, i) for i in range(3))
    assert Partition.of(stack, box=1e5).num_regions == expected
    assert Partition.of(random_stack(1, (units,), 3)).num_regions == units + 1


def test_codes_are_unique(random_stack):
    codes = torch.from_numpy(Partition.of(random_stack(2, (9, 8), 3)).codes)
    assert len(torch.unique(codes, dim=0)) == len(codes)


@pytest.mark.parametrize("hidden", [(9,), (12, 12), (6, 6, 6)])
def test_prior_moments_of_the_polygons_sum_to_those_of_the_prior(random_stack, hidden):
    partition = Partition.of(random_stack(2, hidden, 3))
    total = torch.zeros(6, dtype=torch.float64)
    area = 0.0
    for first, count in zip(partition.first, partition.count, strict=True):
        x, y = partition.vertices[first : first + count].T.copy()
        near_x, near_y, _ = nearest_point(x, y, count)
        square = near_x**2 + near_y**2
        moments = torch.tensor(edge_moments(x, y, count, square), dtype=torch.float64)
        total += moments * exp(-square / 2)
        area += 0.5 * (x * np.roll(y, -1) - y * np.roll(x, -1)).sum()
    expected = torch.tensor([1.0, 0, 0, 1, 0, 1], dtype=torch.float64)
    torch.testing.assert_close(total, expected, rtol=0, atol=1e-13)
    assert area == pytest.approx(4 * partition.box**2, rel=1e-13)


def test_identity_layers_add_no_regions(random_stack):
    plain = random_stack(2, (8,), 3, seed=2)
    eye, zero = torch.eye(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    longer = type(plain)(
        (plain.weights[0], eye, plain.weights[1]),
        (plain.biases[0], zero, plain.biases[1]),
        (0.0, 1.0),
        plain.noise_scale,
        plain.prior_loc,
        plain.prior_scale_tril,
    )
    assert Partition.of(longer).num_regions == Partition.of(plain).num_regions


@pytest.mark.parametrize(("dim", "box"), [(1, float("inf")), (2, 16.0), (3, 8.0), (4, 8.0)])
def test_the_first_box_depends_on_the_dimension(random_stack, dim, box):
    assert Partition.of(random_stack(dim, (3,), 3)).box == box


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_cells_are_in_the_latent_coordinates_of_the_model(random_stack, dim):
    stack = random_stack(dim, (4,), 3, seed=3)
    partition = Partition.of(stack)
    regions = latent_regions(partition, fold(stack))
    assert len(regions.polygons) == (partition.num_regions if dim == 2 else 0)
    assert len(regions.cells) == (0 if dim == 1 else partition.num_regions)
    assert regions.matrices.shape == (partition.num_regions, 3, dim)
    for r, corners in enumerate(regions.cells):
        # at the vertices, the map of the cell is the network, which is continuous
        value = corners @ regions.matrices[r].mT + regions.offsets[r]
        torch.testing.assert_close(value, stack.forward(corners), rtol=1e-9, atol=1e-9)


def test_a_partition_of_other_hidden_layers_is_refused(random_stack):
    partition = Partition.of(random_stack(3, (4,), 3, seed=1))
    with pytest.raises(PartitionMismatchError, match="another generator"):
        partition.check(fold(random_stack(3, (4,), 3, seed=2)))


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_the_refusal_of_too_many_regions_tells_their_number_and_memory(random_stack, dim):
    stack = random_stack(dim, (9, 9), 3)
    with pytest.raises(RegionLimitError, match=r"max_regions.* of 18 .* expect about .* MiB") as e:
        Partition.of(stack, max_regions=40)
    estimate = float(str(e.value).split("expect about ")[1].split(" ")[0])
    assert 0.2 < estimate / Partition.of(stack).num_regions < 5


def test_a_cap_below_one_region_makes_no_sense(random_stack):
    with pytest.raises(SettingError, match="max_regions"):
        Partition.of(random_stack(2, (4,), 3), max_regions=0)
