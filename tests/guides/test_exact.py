"""The closed-form posterior as a guide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro.infer import Trace_ELBO

from pyrolvm.core import Guide, IncompatiblePairError, evaluating, log_densities
from pyrolvm.guides import Exact
from pyrolvm.models import VAE, LinearGaussian
from pyrolvm.testing import GuideContract


class TestExact(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4, isotropic=False)

    def make(self, model: Any) -> Guide:
        return Exact(model)

    def test_every_particle_weighs_the_evidence(self) -> None:
        model = self.make_model()
        guide, x = Exact(model), torch.randn(7, 4)
        log_weights = log_densities(model, guide, x, num_particles=20).log_weights
        with evaluating(model, guide):
            evidence = guide.log_evidence(x.double())
        torch.testing.assert_close(log_weights, evidence.expand(20, 7), rtol=1e-9, atol=1e-9)

    def test_gradient_of_the_elbo_is_that_of_the_evidence(self) -> None:
        model = self.make_model().double()
        x = torch.randn(5, 4, dtype=torch.float64)
        loss = Trace_ELBO().differentiable_loss(model, Exact(model), x)
        names, parameters = zip(*model.named_parameters(), strict=True)
        found = torch.autograd.grad(loss, parameters)
        truth = torch.autograd.grad(-model.log_evidence(x).sum(), parameters)
        for name, one, other in zip(names, found, truth, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6, msg=name)

    def test_refusal_names_the_guides_that_would_do(self) -> None:
        with pytest.raises(IncompatiblePairError, match=r"HasPosterior.*Amortized.*PerDatum"):
            Exact(VAE(latent_dim=2, obs_dim=4))
