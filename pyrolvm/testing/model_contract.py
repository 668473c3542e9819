"""The contract of a model: about twenty facts that every generative model keeps."""

# ruff: noqa: D102 - the name of a test states its fact

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core import Data, DataError, ExplicitJoint, Model, log_densities
from pyrolvm.testing.contract import (
    Contract,
    changed,
    has_docstring,
    held_at,
    in_particles,
    sample_sites,
    snapshot,
    through_safetensors,
    trace_of,
)


class ModelContract(Contract, ABC):
    """Facts about a generative model; a subclass says how to make one.

    Override :meth:`make_data` for a model with covariates, or whose draws are not data that it
    accepts.
    """

    @abstractmethod
    def make(self) -> Model:
        """Return a new small model, with other weights at each call."""

    def make_data(self, model: Model) -> Any:
        """Return N data that the model accepts: a tensor, or a mapping by argument name."""
        with torch.no_grad():
            return model(size=self.size)

    def sample(self, model: Model, size: int) -> Tensor:
        """Draw observations from the model."""
        return model(size=size)

    def test_says_what_it_is(self) -> None:
        assert has_docstring(type(self.make()))

    def test_samples_the_latent_sites_it_names_in_ancestral_order(self) -> None:
        model, data = self._pair()
        latents = sample_sites(trace_of(model, data), observed=False)
        assert tuple(latents) == model.latent_sites

    def test_every_site_lies_in_the_data_plate(self) -> None:
        model, data = self._pair()
        trace = trace_of(model, data)
        for site in self._sites(trace).values():
            frames = [(frame.name, frame.dim) for frame in site["cond_indep_stack"]]
            assert ("data", -1) in frames
            assert site["log_prob"].shape == (self.size,)

    def test_samples_as_many_observations_as_asked(self) -> None:
        model = self.make()
        assert self.sample(model, 5).shape == (5, model.obs_dim)

    def test_particles_vectorise_every_site(self) -> None:
        model, data = self._pair()
        trace = trace_of(in_particles(model, 3), data)
        assert all(
            site["log_prob"].shape == (3, self.size) for site in self._sites(trace).values()
        )
        for site in sample_sites(trace, observed=False).values():
            assert site["value"].shape[:2] == (3, self.size)

    def test_particles_score_like_single_runs(self) -> None:
        model, data = self._pair()
        trace = trace_of(in_particles(model, 3), data)
        values = self._values(trace)
        for particle in range(3):
            alone = {name: value[particle] for name, value in values.items()}
            single = self._log_joint(model, data, alone)
            together = sum(site["log_prob"][particle] for site in self._sites(trace).values())
            torch.testing.assert_close(together, single, rtol=1e-4, atol=1e-4)

    def test_rows_are_independent(self) -> None:
        model, data = self._pair()
        values = self._values(trace_of(model, data))
        whole = self._log_joint(model, data, values)
        order = torch.randperm(self.size)[: self.size - 1]
        part = {name: value[order] for name, value in values.items()}
        some = self._log_joint(model, data.rows(order), part)
        torch.testing.assert_close(some, whole[order], rtol=1e-4, atol=1e-4)

    def test_log_densities_have_particles_and_data(self) -> None:
        model, data = self._pair()
        observed = list(sample_sites(trace_of(model, data), observed=True))
        prior = poutine.block(poutine.uncondition(model), hide=observed)
        terms = log_densities(model, prior, data, num_particles=3)
        assert terms.log_joint.shape == (3, self.size)
        assert terms.log_joint.isfinite().all()

    def test_prior_and_likelihood_are_those_of_the_program(self) -> None:
        model, data = self._pair()
        if not isinstance(model, ExplicitJoint) or data.positional is None:
            return
        values = self._values(trace_of(model, data))
        z = values[model.latent_sites[0]]
        told = model.prior().log_prob(z) + model.likelihood(z).log_prob(data.positional)
        torch.testing.assert_close(
            told, self._log_joint(model, data, values), rtol=1e-4, atol=1e-4
        )

    def test_wrong_width_is_refused(self) -> None:
        import pytest

        model, data = self._pair()
        with pytest.raises(DataError, match="shape"):
            self._with_observations(data, lambda x: x[:, :-1]).call(model)

    def test_missing_values_are_refused(self) -> None:
        import pytest

        model, data = self._pair()

        def spoil(x: Tensor) -> Tensor:
            spoiled = x.clone().float()
            spoiled[0, 0] = torch.nan
            return spoiled

        with pytest.raises(ValueError, match=r"finite|support|NaN|nan|zeros and ones"):
            trace_of(model, self._with_observations(data, spoil))

    def test_runs_in_double_precision(self) -> None:
        model, data = self._pair()
        trace = trace_of(model.double(), data.to(dtype=torch.float64))
        for site in self._sites(trace).values():
            assert site["log_prob"].dtype == torch.float64

    def test_copies_are_equal_and_apart(self) -> None:
        model, data = self._pair()
        values = self._values(trace_of(model, data))
        other = copy.deepcopy(model)
        self._assert_same(model, other, data, values)
        shared = {p.data_ptr() for p in model.parameters()} & {
            p.data_ptr() for p in other.parameters()
        }
        assert not shared

    def test_weights_survive_a_file(self) -> None:
        model, data = self._pair()
        values = self._values(trace_of(model, data))
        other = self.make()
        through_safetensors(model, other)
        self._assert_same(model, other, data, values)

    def test_gradients_reach_every_parameter(self) -> None:
        model, data = self._pair()
        if not list(model.parameters()):
            return
        values = self._values(trace_of(model, data))
        self._log_joint(model, data, values).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} has no gradient"
            assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"

    def test_predictive_draws_from_the_prior(self) -> None:
        model, data = self._pair()
        observed = sample_sites(trace_of(model, data), observed=True)
        free = poutine.uncondition(model)
        for parallel in (False, True):
            drawn = data.call(Predictive(free, num_samples=4, parallel=parallel))
            for name in observed:
                assert drawn[name].shape == (4, self.size, model.obs_dim)

    def test_autoguides_train(self) -> None:
        for kind in (AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal):
            model, data = self._pair()
            if self._is_discrete(trace_of(model, data)) or not model.latent_sites:
                return
            losses = self._train(model, kind(model), data)
            assert torch.isfinite(torch.tensor(losses)).all(), kind.__name__

    def test_training_moves_every_parameter(self) -> None:
        model, data = self._pair()
        if self._is_discrete(trace_of(model, data)):
            return
        before = snapshot(model)
        self._train(model, _wide_guide(model), data)
        assert changed(before, model) == dict(model.named_parameters()).keys()

    def test_instances_do_not_share_parameters(self) -> None:
        first, second = self.make(), self.make()
        data = Data.of(self.make_data(first))
        if self._is_discrete(trace_of(first, data)):
            return
        before = snapshot(second)
        self._train(first, _wide_guide(first), data)
        assert not changed(before, second)
        self._train(second, _wide_guide(second), data)
        assert changed(before, second) == dict(second.named_parameters()).keys()

    def _pair(self) -> tuple[Model, Data]:
        model = self.make()
        return model, Data.of(self.make_data(model))

    def _with_observations(self, data: Data, change: Any) -> Data:
        """Change the observations ``x``, and leave covariates."""
        if data.positional is not None:
            return Data(change(data.positional), data.named)
        return Data(None, {**data.named, "x": change(data.named["x"])})

    def _train(self, model: Model, guide: Callable[..., Any], data: Data) -> list[float]:
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), Trace_ELBO())
        return [data.call(svi.step) for _ in range(3)]

    @staticmethod
    def _sites(trace: Any) -> dict[str, dict[str, Any]]:
        return {**sample_sites(trace, observed=False), **sample_sites(trace, observed=True)}

    @staticmethod
    def _values(trace: Any) -> dict[str, Tensor]:
        latents = sample_sites(trace, observed=False)
        return {name: site["value"].detach() for name, site in latents.items()}

    @staticmethod
    def _is_discrete(trace: Any) -> bool:
        latents = sample_sites(trace, observed=False)
        return any(site["fn"].support.is_discrete for site in latents.values())

    def _log_joint(self, model: Model, data: Data, values: dict[str, Tensor]) -> Tensor:
        trace = trace_of(held_at(model, values), data)
        densities = [site["log_prob"] for site in sample_sites(trace, observed=True).values()]
        return torch.stack(densities).sum(0)

    def _assert_same(
        self, one: Model, other: Model, data: Data, values: dict[str, Tensor]
    ) -> None:
        torch.testing.assert_close(
            self._log_joint(one, data, values),
            self._log_joint(other, data, values),
            rtol=0,
            atol=0,
        )


def _wide_guide(model: Model) -> Callable[..., Any]:
    """A guide as wide as a standard normal: around one point, all units of a net can be off."""
    return AutoNormal(model, init_scale=1.0) if model.latent_sites else _no_latents


def _no_latents(*_: Any, **__: Any) -> None:
    """Sample nothing: the guide of a model without latent sites."""
