"""The contract of a guide: about twenty facts that every guide keeps."""

# ruff: noqa: D102 - the name of a test states its fact

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from types import SimpleNamespace
from typing import Any

import pyro
import torch
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.optim import PyroOptim
from torch import Tensor

from pyrolvm.core import (
    Data,
    DataError,
    Guide,
    HasEvidence,
    IncompatiblePairError,
    Model,
    NoDensityError,
    evaluating,
    log_densities,
    require_capabilities,
    serves,
)
from pyrolvm.core.randomness import own_randomness
from pyrolvm.core.vectorising import vectorises
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


class GuideContract(Contract, ABC):
    """Facts about a guide; a subclass says how to make a model and a guide for it.

    Override :meth:`make_data` for a model with covariates. A guide on an extended space, which has
    no density at a given value, is compared with itself on equal random numbers instead. One that
    says that it has no density is held to what it draws, and to a refusal of all that needs one.
    """

    @abstractmethod
    def make_model(self) -> Model:
        """Return a small model that the guide serves."""

    @abstractmethod
    def make(self, model: Any) -> Guide:
        """Return a new guide for a model."""

    def make_data(self, model: Model) -> Any:
        """Return N data: a tensor, or a mapping from argument name to tensor."""
        with torch.no_grad():
            return model(size=self.size)

    def test_says_what_it_is(self) -> None:
        _, guide, _ = self._triple()
        assert has_docstring(type(guide))

    def test_samples_the_latent_sites_of_the_model(self) -> None:
        model, guide, data = self._triple()
        wanted = sample_sites(trace_of(model, data), observed=False)
        found = sample_sites(trace_of(guide, data, scored=guide.has_density), observed=False)
        assert set(found) == set(wanted)
        for name, site in found.items():
            assert site["value"].shape == wanted[name]["value"].shape

    def test_every_site_lies_in_the_data_plate(self) -> None:
        _, guide, data = self._triple()
        trace = trace_of(guide, data, scored=guide.has_density)
        for site in sample_sites(trace, observed=False).values():
            assert ("data", -1) in [(frame.name, frame.dim) for frame in site["cond_indep_stack"]]
            if guide.has_density:
                assert site["log_prob"].shape == (self.size,)

    def test_particles_vectorise_every_site(self) -> None:
        _, guide, data = self._triple()
        trace = trace_of(in_particles(guide, 3), data, scored=guide.has_density)
        for site in sample_sites(trace, observed=False).values():
            assert site["value"].shape[:2] == (3, self.size)
            if guide.has_density:
                assert site["log_prob"].shape == (3, self.size)

    def test_without_a_density_scoring_is_refused(self) -> None:
        import pytest

        model, guide, data = self._triple()
        if guide.has_density:
            return
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), Trace_ELBO())
        for score in (
            lambda: log_densities(model, guide, data, num_particles=2),
            lambda: data.call(svi.step),
        ):
            with pytest.raises(NoDensityError, match=f"{type(guide).__name__} .* no log q"):
                score()

    def test_particles_score_like_single_runs(self) -> None:
        model, guide, data = self._triple()
        if guide.extended_space or not guide.has_density:
            return  # each run draws a chain of its own, or has no score
        with evaluating(model, guide):
            assert vectorises(model, guide, data.to(dtype=torch.float64), -2)

    def test_draws_have_finite_densities(self) -> None:
        model, guide, data = self._triple()
        if not guide.has_density:
            return
        terms = log_densities(model, guide, data, num_particles=20)
        assert terms.log_guide.shape == terms.log_weights.shape == (20, self.size)
        assert terms.log_weights.isfinite().all()

    def test_rows_are_independent(self) -> None:
        _, guide, data = self._triple()
        if not guide.has_density:
            return
        if guide.extended_space:
            others = torch.tensor([0, *range(2, self.size), 1])
            one, other = (self._own_log_guide(guide, rows) for rows in (data, data.rows(others)))
            torch.testing.assert_close(one[0], other[0], rtol=1e-4, atol=1e-4)
            return
        values = self._values(guide, data)
        whole = self._log_guide(guide, data, values)
        order = torch.randperm(self.size)[: self.size - 1]
        part = {name: value[order] for name, value in values.items()}
        some = self._log_guide(guide, data.rows(order), part)
        torch.testing.assert_close(some, whole[order], rtol=1e-4, atol=1e-4)

    def test_measuring_leaves_the_weights_alone(self) -> None:
        model, guide, data = self._triple()
        if not guide.has_density:
            return
        before = snapshot(guide)
        terms = log_densities(model, guide, data, num_particles=2)
        assert terms.log_guide.dtype == torch.float64
        after = guide.state_dict()
        assert {n: (v.dtype, v.shape) for n, v in before.items()} == {
            n: (v.dtype, v.shape) for n, v in after.items()
        }
        assert all(torch.equal(value, after[name]) for name, value in before.items())

    def test_inference_without_data_is_refused(self) -> None:
        import pytest

        _, guide, _ = self._triple()
        with pytest.raises(DataError, match="observations"):
            guide()

    def test_wrong_width_is_refused(self) -> None:
        import pytest

        _, guide, data = self._triple()
        name, x = next(iter(data.items()))
        wrong = x[:, :-1] if data.positional is not None else {**data.named, name: x[:, :-1]}
        with pytest.raises(DataError, match="shape"):
            Data.of(wrong).call(guide)

    def test_a_model_that_offers_nothing_is_refused(self) -> None:
        import pytest

        kind = type(self.make(self.make_model()))
        nothing = SimpleNamespace()
        assert bool(kind.requires) != serves(kind, nothing)
        if kind.requires:
            with pytest.raises(IncompatiblePairError, match="needs a model with the capability"):
                require_capabilities(kind, nothing)

    def test_model_belongs_to_nobody_else(self) -> None:
        model, guide, _ = self._triple()
        theirs = {id(parameter) for parameter in model.parameters()}
        assert theirs.isdisjoint(id(parameter) for parameter in guide.parameters())
        assert all(part is not model for part in guide.modules())

    def test_plain_pyro_trains_the_pair(self) -> None:
        model, guide, data = self._triple()
        if not guide.has_density:
            return
        before, model_before = snapshot(guide), snapshot(model)
        self._train(model, guide, data)
        if dict(guide.named_parameters()):
            assert changed(before, guide)
        assert changed(model_before, model)

    def test_a_frozen_model_is_neither_trained_nor_registered(self) -> None:
        model, guide, data = self._triple()
        if not dict(guide.named_parameters()):
            return
        model.eval().requires_grad_(False)
        before = snapshot(model)
        self._train(model, guide, data)
        now = model.state_dict()
        assert all(torch.equal(now[name], value) for name, value in before.items())
        tensors = {id(parameter) for parameter in guide.parameters()}
        assert all(id(p) in tensors for _, p in pyro.get_param_store().named_parameters())

    def test_a_frozen_guide_stays(self) -> None:
        model, guide, data = self._triple()
        guide.eval().requires_grad_(False)
        before = snapshot(guide)
        self._train(model, guide, data)
        assert not changed(before, guide)
        assert not any(parameter.requires_grad for parameter in guide.parameters())

    def test_instances_do_not_share_parameters(self) -> None:
        model, first, data = self._triple()
        second = self.make(model)
        data.call(second)
        before = snapshot(second)
        self._train(model, first, data)
        assert not changed(before, second)

    def test_copies_are_equal_and_apart(self) -> None:
        _, guide, data = self._triple()
        values = self._values(guide, data)
        other = copy.deepcopy(guide)
        self._assert_same(guide, other, data, values)
        ours = {parameter.data_ptr() for parameter in guide.parameters()}
        assert ours.isdisjoint(parameter.data_ptr() for parameter in other.parameters())

    def test_weights_survive_a_file(self) -> None:
        model, guide, data = self._triple()
        self._train(model, guide, data)
        values = self._values(guide, data)
        other = self.make(model)
        through_safetensors(guide, other)
        assert not changed(snapshot(guide), other)
        if guide.has_density:
            self._assert_same(guide, other, data, values)

    def test_predictive_draws_from_the_guide(self) -> None:
        model, guide, data = self._triple()
        shape = (4, self.size)
        for parallel in (False, True):
            drawn = data.call(
                Predictive(
                    model,
                    guide=guide,
                    num_samples=4,
                    parallel=parallel,
                    return_sites=self._sites(model),
                )
            )
            assert all(drawn[name].shape[:2] == shape for name in model.latent_sites)

    def test_elbo_stays_below_the_evidence(self) -> None:
        model, guide, data = self._triple()
        if not isinstance(model, HasEvidence) or data.positional is None:
            return
        if not guide.has_density:
            return
        terms = log_densities(model, guide, data, num_particles=2000).log_weights
        with evaluating(model):
            evidence = model.log_evidence(data.positional.double())
        error = terms.std(0) / math.sqrt(len(terms))
        assert (terms.mean(0) <= evidence + 5 * error + 1e-9).all()

    def _triple(self) -> tuple[Model, Guide, Data]:
        """Make model, guide and data; the guide has seen the data, so its parameters exist."""
        model = self.make_model()
        with pyro.get_param_store().scope():
            data = Data.of(self.make_data(model))
        guide = self.make(model)
        data.call(guide)
        return model, guide, data

    def _train(self, model: Model, guide: Guide, data: Data) -> None:
        if not guide.has_density:
            return
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.01}), Trace_ELBO())
        assert all(math.isfinite(data.call(svi.step)) for _ in range(3))

    @staticmethod
    def _sites(model: Model) -> tuple[str, ...]:
        return tuple(model.latent_sites)

    @staticmethod
    def _values(guide: Guide, data: Data) -> dict[str, Tensor]:
        trace = trace_of(guide, data, scored=guide.has_density)
        latents = sample_sites(trace, observed=False)
        return {name: site["value"].detach() for name, site in latents.items()}

    @staticmethod
    def _log_guide(guide: Guide, data: Data, values: dict[str, Tensor]) -> Tensor:
        trace = trace_of(held_at(guide, values), data)
        sites = sample_sites(trace, observed=True).values()
        nothing = torch.zeros(data.num_rows)  # of a guide that samples nothing
        return torch.stack([nothing, *(site["log_prob"] for site in sites)]).sum(0)

    @staticmethod
    def _own_log_guide(guide: Guide, data: Data) -> Tensor:
        """Log density of the guide's own draws, the same ones at each call."""
        with own_randomness(1):
            sites = sample_sites(trace_of(guide, data), observed=False).values()
        return torch.stack([site["log_prob"] for site in sites]).sum(0)

    def _assert_same(
        self, one: Guide, other: Guide, data: Data, values: dict[str, Tensor]
    ) -> None:
        if not one.has_density:
            drawn, again = (self._values(guide, data) for guide in (one, other))
            assert all(torch.equal(value, again[name]) for name, value in drawn.items())
            return
        if one.extended_space:
            ours, theirs = (self._own_log_guide(guide, data) for guide in (one, other))
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
            return
        torch.testing.assert_close(
            self._log_guide(one, data, values),
            self._log_guide(other, data, values),
            rtol=0,
            atol=0,
        )
