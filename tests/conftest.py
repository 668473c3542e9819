"""What every test starts from: a seed, a clean parameter store, and one thread."""

from __future__ import annotations

import pyro
import pytest
import torch

pytest.register_assert_rewrite("pyrolvm.testing")
torch.set_num_threads(1)  # on a busy machine a second thread makes a small step 30 times slower


@pytest.fixture(scope="session")
def linear():
    """A factor model whose posterior is correlated, and 300 data from it."""
    from pyrolvm import models

    torch.manual_seed(3)
    model = models.LinearGaussian(2, 4, noise_scale=0.5, isotropic=False)
    with torch.no_grad():
        loading = torch.tensor([[1.0, 0.8], [0.9, 1.0], [1.1, 0.2], [0.3, 1.0]])
        model.get_parameter("decoder.0.weight").copy_(loading)
        return model, model(size=300)


@pytest.fixture(autouse=True)
def _fresh_start():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    yield
    pyro.clear_param_store()
