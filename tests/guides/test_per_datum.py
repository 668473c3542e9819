"""The oracle of the approximation gap."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pyro.distributions import MultivariateNormal
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import PyroOptim
from pyro.optim.lr_scheduler import PyroLRScheduler
from safetensors.torch import load, save

from pyrolvm.core import DataError, Guide, evaluating, log_densities
from pyrolvm.families import FAMILIES
from pyrolvm.guides import Amortized, Exact, PerDatum
from pyrolvm.models import LinearGaussian
from pyrolvm.testing import GuideContract

REAL_FAMILIES = sorted(name for name, family in FAMILIES.items() if not family.is_binary)


class TestPerDatum(GuideContract):
    def make_model(self) -> LinearGaussian:
        return LinearGaussian(latent_dim=2, obs_dim=4)

    def make(self, model: Any) -> Guide:
        return PerDatum(model, family="full")

    @pytest.mark.parametrize("family", REAL_FAMILIES)
    def test_starts_from_the_encoder(self, family: str) -> None:
        amortized = Amortized(self.make_model(), family=family)
        x = torch.randn(6, 4)
        oracle = PerDatum.from_amortized(amortized, x)
        torch.testing.assert_close(oracle.parameters_for(x), amortized.parameters_for(x))
        assert oracle.family is amortized.family

    @pytest.mark.parametrize("family", ["full", "mixture", "flow"])
    def test_starts_from_a_simpler_solution(self, family: str) -> None:
        model = self.make_model()
        x = torch.randn(6, 4)
        posterior = Exact(model).posterior(x)
        oracle = PerDatum(model, family=family).start_from(x, posterior)
        log_weights = log_densities(model, oracle, x, num_particles=200).log_weights
        with evaluating(model):
            gap = model.log_evidence(x.double()) - log_weights.mean(0)
        assert gap.abs().max() < 0.01

    def test_full_starts_where_diagonal_ended(self) -> None:
        model, x = self.make_model(), torch.randn(6, 4)
        diagonal = PerDatum(model, family="diagonal").initialise(x, torch.randn(6, 4))
        full = PerDatum(model, family="full").start_from(x, diagonal.distribution(x))
        z = torch.randn(6, 2)
        torch.testing.assert_close(
            full.distribution(x).log_prob(z), diagonal.distribution(x).log_prob(z)
        )

    def test_finds_the_closed_form_posterior(self) -> None:
        model, x = self.make_model().eval().requires_grad_(False), torch.randn(5, 4)
        oracle = PerDatum(model, family="full")
        schedule = PyroLRScheduler(
            torch.optim.lr_scheduler.ExponentialLR,
            {"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.1}, "gamma": 0.985},
        )
        elbo = Trace_ELBO(num_particles=100, vectorize_particles=True, max_plate_nesting=1)
        svi = SVI(model, oracle, schedule, elbo)
        for _ in range(300):
            svi.step(x)
            schedule.step()
        truth = Exact(model).posterior(x)
        found = oracle.distribution(x)
        assert isinstance(found, MultivariateNormal)
        gap = torch.distributions.kl_divergence(found, truth)
        assert gap.max() < 1e-3

    def test_rows_are_found_in_any_order_and_number(self) -> None:
        x, parameters = torch.randn(8, 4), torch.randn(8, 5)
        oracle = PerDatum(self.make_model()).initialise(x, parameters)
        order = torch.tensor([5, 2, 2, 7])
        torch.testing.assert_close(oracle.parameters_for(x[order]), parameters[order])

    def test_equal_rows_share_their_parameters(self) -> None:
        x, parameters = torch.randn(4, 4), torch.randn(4, 5)
        x[3] = x[1]
        oracle = PerDatum(self.make_model()).initialise(x, parameters)
        wanted = torch.tensor([0, 1, 2, 1])
        torch.testing.assert_close(oracle.parameters_for(x), parameters[wanted])
        torch.testing.assert_close(oracle.parameters_for(x.flip(0)), parameters[wanted.flip(0)])

    def test_rows_are_found_in_double_precision(self) -> None:
        model, x, parameters = self.make_model(), torch.randn(8, 4), torch.randn(8, 5)
        oracle = PerDatum(model).initialise(x, parameters)
        with evaluating(model, oracle):
            torch.testing.assert_close(
                oracle.parameters_for(x.double()[3:5]), parameters.double()[3:5]
            )
        torch.testing.assert_close(oracle.parameters_for(x[3:5]), parameters[3:5])

    def test_data_in_double_precision_is_found_after_rounding(self) -> None:
        x = torch.rand(8, 4, dtype=torch.float64)
        oracle = PerDatum(self.make_model()).initialise(x.float())
        assert oracle.parameters_for(x[2:4]).shape == (2, 5)

    def test_negative_zero_is_zero(self) -> None:
        oracle = PerDatum(self.make_model()).initialise(torch.zeros(1, 4))
        assert oracle.parameters_for(-torch.zeros(2, 4)).shape == (2, 5)

    def test_unknown_rows_are_refused(self) -> None:
        oracle = PerDatum(self.make_model()).initialise(torch.randn(8, 4))
        with pytest.raises(DataError, match=r"8 rows.*3 of the 3 .*row 0.*initialise\(x\)"):
            oracle(torch.randn(3, 4))

    def test_minibatches_train_their_own_rows(self) -> None:
        model, x = self.make_model(), torch.randn(8, 4)
        oracle = PerDatum(model).initialise(x)
        assert oracle.variational_parameters is not None
        before = oracle.variational_parameters.detach().clone()
        SVI(model, oracle, PyroOptim(torch.optim.SGD, {"lr": 0.1}), Trace_ELBO()).step(x[2:5])
        moved = (oracle.variational_parameters != before).any(-1)
        assert moved.nonzero().flatten().tolist() == [2, 3, 4]

    def test_a_second_start_is_trained_in_place_of_the_first(self) -> None:
        model = self.make_model()
        oracle = PerDatum(model)
        svi = SVI(model, oracle, PyroOptim(torch.optim.Adam, {"lr": 0.1}), Trace_ELBO())
        svi.step(torch.randn(8, 4))
        x = torch.randn(3, 4)
        before = oracle.initialise(x).parameters_for(x).detach().clone()
        svi.step(x)
        assert (oracle.parameters_for(x) != before).all()

    def test_state_loads_before_the_first_call(self) -> None:
        model, x = self.make_model(), torch.randn(8, 4)
        oracle = PerDatum(model).initialise(x, torch.randn(8, 5))
        fresh = PerDatum(model)
        fresh.load_state_dict(load(save(oracle.state_dict())))
        torch.testing.assert_close(fresh.parameters_for(x[4:]), oracle.parameters_for(x[4:]))

    def test_state_of_other_rows_replaces_the_rows(self) -> None:
        model, x = self.make_model(), torch.randn(8, 4)
        oracle = PerDatum(model).initialise(x, torch.randn(8, 5))
        other = PerDatum(model).initialise(torch.randn(3, 4))
        other.load_state_dict(oracle.state_dict())
        torch.testing.assert_close(other.parameters_for(x), oracle.parameters_for(x))

    def test_state_of_the_same_rows_is_loaded_in_place(self) -> None:
        """An optimizer that holds the parameters goes on with them after a restored state."""
        oracle = PerDatum(self.make_model()).initialise(torch.randn(8, 4))
        held = oracle.variational_parameters
        state = {name: value + 1 for name, value in oracle.state_dict().items()}
        oracle.load_state_dict(state)
        assert oracle.variational_parameters is held
        assert oracle.parameters_for(state["table.rows"]).shape == (8, 5)

    def test_parameters_of_another_shape_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"shape \(8, 5\), but got \(8, 4\)"):
            PerDatum(self.make_model()).initialise(torch.randn(8, 4), torch.randn(8, 4))

    def test_counts_its_parameters(self) -> None:
        oracle = PerDatum(self.make_model(), family="diagonal")
        assert oracle.num_parameters == 0
        assert oracle.initialise(torch.randn(8, 4)).num_parameters == 32
