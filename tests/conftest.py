"""What every test starts from: a seed, a clean parameter store, and one thread."""

from __future__ import annotations

import pyro
import pytest
import torch

pytest.register_assert_rewrite("pyrolvm.testing")
torch.set_num_threads(1)  # on a busy machine a second thread makes a small step 30 times slower


@pytest.fixture(autouse=True)
def _fresh_start():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
