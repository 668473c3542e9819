"""Nets of a few units whose every state can be visited."""

from __future__ import annotations

import pytest
import torch

from tests.inference.pstar.nets import Enumerated, enumerated, random_pair


@pytest.fixture(scope="package")
def net() -> Enumerated:
    torch.manual_seed(11)
    return enumerated(*random_pair((3, 2), 4))


@pytest.fixture(scope="package")
def deep_net() -> Enumerated:
    torch.manual_seed(12)
    return enumerated(*random_pair((3, 2, 2), 3))
