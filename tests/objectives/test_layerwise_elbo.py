"""The layerwise objective, its handler form, and the combinations that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Bernoulli, Categorical, MultivariateNormal, Normal
from pyro.infer import (
    SVI,
    RenyiELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    config_enumerate,
)
from pyro.infer.autoguide import AutoMultivariateNormal
from pyro.optim import PyroOptim
from torch import Tensor
from torch.testing import assert_close

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import CheckpointError, IncompatiblePairError, SiteError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.objectives import LayerwiseELBO, linear_warm_up, weighted

WEIGHTS = {"z_2": 3.0, "z_1": 0.3}
QUIET: dict[str, Any] = {"progress": False}


@pytest.fixture(autouse=True)
def _double() -> Any:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def layered(**options: Any) -> tuple[Any, Any, Tensor]:
    """A model and guide of the zoo, with 12 data."""
    model = models.HierarchicalVAE((3, 2), obs_dim=4, hidden=(6,), noise_scale=0.5)
    return model, guides.Layerwise(model, hidden=(6,), **options), model(size=12).detach()


LOADING = torch.tensor([[1.0], [0.5], [-1.0]], dtype=torch.float64)


def plain_model(x: Tensor) -> None:
    """A Pyro program that knows nothing of PyroLVM."""
    pull = pyro.param("pull", torch.tensor(0.8))
    with pyro.plate("data", len(x)):
        z_2 = pyro.sample("z_2", Normal(x.new_zeros(1), 1.0).to_event(1))
        z_1 = pyro.sample("z_1", Normal(pull * z_2, 0.7).to_event(1))
        pyro.sample("x", Normal(z_1 @ LOADING.mT, 0.5).to_event(1), obs=x)


def plain_guide(x: Tensor) -> None:
    slope = pyro.param("slope", torch.tensor(0.3))
    spread = pyro.param("spread", torch.tensor(0.6))
    with pyro.plate("data", len(x)):
        z_2 = pyro.sample("z_2", Normal(slope * x[:, :1], spread).to_event(1))
        pyro.sample("z_1", Normal(0.5 * z_2 + slope * x[:, 1:2], 0.5).to_event(1))


def upside_down(x: Tensor) -> None:
    slope = pyro.param("slope", torch.tensor(0.3))
    with pyro.plate("data", len(x)):
        z_1 = pyro.sample("z_1", Normal(slope * x[:, :1], 0.5).to_event(1))
        pyro.sample("z_2", Normal(0.5 * z_1, 0.6).to_event(1))


def unordered(x: Tensor) -> None:
    """Layers that do not depend on each other, the lower one first."""
    slope = pyro.param("slope", torch.tensor(0.3))
    with pyro.plate("data", len(x)):
        pyro.sample("z_1", Normal(slope * x[:, :1], 0.5).to_event(1))
        pyro.sample("z_2", Normal(slope * x[:, 1:2], 0.6).to_event(1))


def scaled(program: Callable[..., Any], site: str, factor: float) -> Callable[..., Any]:
    """The program with one latent site scaled, as people do it by hand."""
    return weighted(program, {site: factor})


def loss_and_gradients(
    loss: Any, model: Any, guide: Any, x: Tensor, seed: int = 1
) -> tuple[float, dict[str, Tensor]]:
    """One evaluation under a seed; gradients by the names of Pyro's store."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    with poutine.trace(param_only=True) as capture:
        value = loss.loss_and_grads(model, guide, x)
    found = {}
    for name, site in capture.trace.nodes.items():
        value_of: Any = site["value"]
        if site["type"] == "param" and value_of.unconstrained().grad is not None:
            parameter = value_of.unconstrained()
            found[name] = parameter.grad.clone()
            parameter.grad = None
    return value, found


PAIRS: dict[str, Callable[[], tuple[Any, Any, Tensor]]] = {
    "zoo": layered,
    "functions": lambda: (plain_model, plain_guide, torch.randn(9, 3)),
}


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize(
    ("particles", "vectorised"), [(1, False), (3, False), (3, True)], ids=["1", "loop", "plate"]
)
class TestAgainstPyro:
    """With Pyro's own objectives, under the same seed."""

    def options(self, particles: int, vectorised: bool) -> dict[str, Any]:
        nesting = {"max_plate_nesting": 1}
        return {"num_particles": particles, "vectorize_particles": vectorised, **nesting}

    def test_weights_of_one_are_the_plain_elbo_bit_for_bit(
        self, pair: Any, particles: int, vectorised: bool
    ) -> None:
        model, guide, x = pair()
        options = self.options(particles, vectorised)
        plain = loss_and_gradients(Trace_ELBO(**options), model, guide, x)
        ours = loss_and_gradients(LayerwiseELBO(analytic=False, **options), model, guide, x)
        assert plain[0] == ours[0]
        assert plain[1].keys() == ours[1].keys() != set()
        for name, gradient in plain[1].items():
            assert torch.equal(gradient, ours[1][name]), name

    @pytest.mark.parametrize("analytic", [False, True])
    def test_the_handler_gives_the_same_loss_and_gradients(
        self, pair: Any, particles: int, vectorised: bool, analytic: bool
    ) -> None:
        model, guide, x = pair()
        options = self.options(particles, vectorised)
        pyros = (TraceMeanField_ELBO if analytic else Trace_ELBO)(**options)
        outside = loss_and_gradients(pyros, weighted(model, WEIGHTS), weighted(guide, WEIGHTS), x)
        ours = loss_and_gradients(
            LayerwiseELBO(WEIGHTS, analytic=analytic, **options), model, guide, x
        )
        assert ours[0] == pytest.approx(outside[0], rel=1e-12)
        assert outside[1].keys() == ours[1].keys() != set()
        for name, gradient in outside[1].items():
            assert_close(ours[1][name], gradient, rtol=1e-9, atol=1e-9)

    def test_the_history_adds_up_to_the_loss(
        self, pair: Any, particles: int, vectorised: bool
    ) -> None:
        model, guide, x = pair()
        loss = LayerwiseELBO(WEIGHTS, **self.options(particles, vectorised))
        value, _ = loss_and_gradients(loss, model, guide, x)
        entry = loss.history.frame.iloc[0]
        total = entry["distortion"] + sum(w * entry[f"rate {s}"] for s, w in WEIGHTS.items())
        assert total * len(x) == pytest.approx(value, rel=1e-9)


def test_one_weight_for_all_is_distortion_plus_its_multiple_of_the_rate() -> None:
    model, guide, x = layered()
    parts = LayerwiseELBO()
    loss_and_gradients(parts, model, guide, x)
    rate = sum(values.item() for values in parts.history.rates.values())
    weights = dict.fromkeys(WEIGHTS, 2.5)
    value, _ = loss_and_gradients(LayerwiseELBO(weights), model, guide, x)
    assert value / len(x) == pytest.approx(parts.history.distortion.item() + 2.5 * rate)


def test_the_loss_is_linear_in_the_weights_so_that_a_path_of_them_has_no_jumps() -> None:
    """The slope is the rate."""
    model, guide, x = layered()
    losses = [
        loss_and_gradients(LayerwiseELBO({"z_2": weight}), model, guide, x)[0]
        for weight in (0.0, 1.0, 1.001)
    ]
    step = losses[1] - losses[0]
    assert losses[2] - losses[1] == pytest.approx(0.001 * step, rel=1e-6)


@pytest.mark.parametrize("analytic", [False, True])
def test_a_guide_equal_to_the_prior_has_no_rate_under_any_weights(analytic: bool) -> None:
    model, _, x = layered()
    prior = poutine.block(model, hide=["x"])
    plain = Trace_ELBO()._get_traces(model, prior, (x,), {})
    pyro.set_rng_seed(1)
    distortion = -next(iter(plain))[0].nodes["x"]["log_prob_sum"].item()
    loss = LayerwiseELBO(WEIGHTS, analytic=analytic)
    pyro.set_rng_seed(1)
    value = loss.loss_and_grads(model, prior, x)
    assert value == pytest.approx(distortion, rel=1e-12)
    for rate in loss.history.rates.values():
        assert rate.item() == pytest.approx(0, abs=1e-12)


class TestWeights:
    def test_zero_leaves_a_layer_out(self) -> None:
        model, guide, x = layered()
        loss = LayerwiseELBO({"z_2": 0.0, "z_1": 0.0})
        value, _ = loss_and_gradients(loss, model, guide, x)
        assert value / len(x) == pytest.approx(loss.history.distortion.item())
        assert loss.history.rates["z_2"].item() > 0

    def test_a_tensor_may_change_between_steps(self) -> None:
        model, guide, x = layered()
        weight = torch.tensor(1.0)
        loss = LayerwiseELBO({"z_2": weight})
        first, _ = loss_and_gradients(loss, model, guide, x)
        weight.fill_(0.0)
        second, _ = loss_and_gradients(loss, model, guide, x)
        assert loss.history.weights["z_2"].tolist() == [1.0, 0.0]
        assert first - second == pytest.approx(len(x) * loss.history.rates["z_2"][0].item())

    def test_a_schedule_raises_them_in_a_line(self) -> None:
        model, guide, x = layered()
        loss = LayerwiseELBO({"z_2": 2.0}, warm_up=linear_warm_up(4))
        for _ in range(6):
            loss_and_gradients(loss, model, guide, x)
            loss.loss(model, guide, x)  # a look at the loss is no step
        assert loss.history.weights["z_2"].tolist() == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
        assert loss.history.weights["z_1"].tolist() == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]

    def test_a_schedule_may_name_sites(self) -> None:
        model, guide, x = layered()
        loss = LayerwiseELBO(warm_up=lambda step: {"z_1": 0.0 if step == 0 else 1.0})
        for _ in range(2):
            loss_and_gradients(loss, model, guide, x)
        assert loss.history.weights["z_1"].tolist() == [0.0, 1.0]
        assert loss.history.weights["z_2"].tolist() == [1.0, 1.0]

    @pytest.mark.parametrize(
        ("make", "part"),
        [
            (lambda: LayerwiseELBO({"z_1": -1.0}), "0 or more, but that of 'z_1' is -1"),
            (lambda: LayerwiseELBO({"z_1": math.nan}), "0 or more, but that of 'z_1' is nan"),
            (lambda: LayerwiseELBO({"z_1": torch.ones(2)}), "one number, but that of 'z_1' has"),
            (lambda: LayerwiseELBO([1.0]), "need names of latent sites"),  # type: ignore[arg-type]
            (lambda: weighted(plain_model, {"z_1": 0.0}), "positive rate_weights, but that of"),
            (lambda: linear_warm_up(0), "num_steps should be at least 1"),
            (lambda: LayerwiseELBO(warm_up=10), "warm_up should map"),  # type: ignore[arg-type]
        ],
    )
    def test_wrong_ones_are_one_clear_sentence(self, make: Any, part: str) -> None:
        with pytest.raises(SettingError, match=part):
            make()

    def test_unknown_names_are_refused(self) -> None:
        model, guide, x = layered()
        with pytest.raises(UnknownNameError, match=r"'z_3'\. Did you mean"):
            LayerwiseELBO({"z_3": 2.0}).loss(model, guide, x)
        with pytest.raises(UnknownNameError, match="'x'"):
            weighted(model, {"x": 2.0})(x)


def rates_of(model: Any, guide: Any, x: Tensor) -> lvm.LayerRates:
    return lvm.layer_rates(model, guide, x, num_particles=4000)


class TestHandlerSemantics:
    """What Pyro makes of scales, one fact a test."""

    @pytest.mark.parametrize("kind", [Trace_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO])
    def test_on_both_programs_every_objective_minimises_the_weighted_loss(self, kind: Any) -> None:
        x = torch.randn(4, 3)
        found = rates_of(plain_model, plain_guide, x)
        wanted = found.distortion + sum(w * found.rates[s] for s, w in WEIGHTS.items())
        options = {"num_particles": 2000, "vectorize_particles": True, "max_plate_nesting": 1}
        losses = [
            kind(**options).loss(weighted(plain_model, WEIGHTS), weighted(plain_guide, WEIGHTS), x)
            for _ in range(5)
        ]
        mean, spread = torch.tensor(losses).mean(), torch.tensor(losses).std()
        assert abs(mean - wanted.sum()) < 6 * spread

    @pytest.mark.parametrize("which", ["model", "guide"])
    @pytest.mark.parametrize("loss", [Trace_ELBO(), TraceMeanField_ELBO(), LayerwiseELBO()])
    def test_on_one_program_alone_fit_refuses(self, which: str, loss: Any) -> None:
        model = scaled(plain_model, "z_1", 2.0) if which == "model" else plain_model
        guide = scaled(plain_guide, "z_1", 2.0) if which == "guide" else plain_guide
        with pytest.raises(SiteError, match=r"'z_1' has the scale .* in the model and"):
            lvm.fit(model, guide, torch.randn(4, 3), steps=1, loss=loss, **QUIET)

    @pytest.mark.parametrize("which", ["model", "guide"])
    def test_on_one_program_alone_the_objective_and_the_rates_refuse(self, which: str) -> None:
        model = scaled(plain_model, "z_1", 2.0) if which == "model" else plain_model
        guide = scaled(plain_guide, "z_1", 2.0) if which == "guide" else plain_guide
        with pytest.raises(SiteError, match="Scale both alike"):
            LayerwiseELBO().loss(model, guide, torch.randn(4, 3))
        with pytest.raises(SiteError, match="Scale both alike"):
            lvm.layer_rates(model, guide, torch.randn(4, 3))

    def test_a_scale_around_a_part_of_the_model_is_one_sided_too(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z_2 = pyro.sample("z_2", Normal(x.new_zeros(1), 1.0).to_event(1))
                with poutine.scale(scale=0.5):  # meant for z_1, and around x as well
                    z_1 = pyro.sample("z_1", Normal(z_2, 0.7).to_event(1))
                    pyro.sample("x", Normal(z_1 @ LOADING.mT, 0.5).to_event(1), obs=x)

        with pytest.raises(SiteError, match=r"'z_1' has the scale 0\.5 in the model and 1 in"):
            lvm.fit(model, plain_guide, torch.randn(4, 3), steps=1, **QUIET)

    def test_one_scale_around_both_whole_programs_is_no_trap(self) -> None:
        x = torch.randn(4, 3)
        model, guide = (poutine.scale(program, 0.25) for program in (plain_model, plain_guide))
        whole, _ = loss_and_gradients(LayerwiseELBO(WEIGHTS), plain_model, plain_guide, x)
        part, _ = loss_and_gradients(LayerwiseELBO(WEIGHTS), model, guide, x)
        assert part == pytest.approx(whole / 4)

    def test_rates_are_measured_without_weights(self) -> None:
        x = torch.randn(4, 3)
        plain = lvm.layer_rates(plain_model, plain_guide, x)
        tempered = lvm.layer_rates(
            weighted(plain_model, WEIGHTS), weighted(plain_guide, WEIGHTS), x
        )
        for site in WEIGHTS:
            assert_close(plain.rates[site], tempered.rates[site])
        assert_close(plain.distortion, tempered.distortion)

    def test_closed_forms_and_draws_agree_for_a_top_down_guide(self) -> None:
        pair = (plain_model, plain_guide, torch.randn(6, 3))
        options: dict[str, Any] = {
            "num_particles": 4000,
            "vectorize_particles": True,
            "max_plate_nesting": 1,
        }
        draws = torch.tensor(
            [
                [
                    LayerwiseELBO(WEIGHTS, analytic=analytic, **options).loss(*pair)
                    for _ in range(20)
                ]
                for analytic in (True, False)
            ]
        )
        error = draws.std(1).square().sum().sqrt() / math.sqrt(20)
        assert (draws[0] - draws[1]).mean().abs() < 4 * error
        assert error < 1e-3 * draws.mean()

    @pytest.mark.parametrize("loss", [TraceMeanField_ELBO(), LayerwiseELBO(WEIGHTS)])
    def test_closed_forms_of_a_bottom_up_guide_are_refused(self, loss: Any) -> None:
        x = torch.randn(4, 3)
        with pytest.raises(IncompatiblePairError, match="draws 'z_1' before 'z_2', and the model"):
            lvm.fit(plain_model, upside_down, x, steps=1, loss=loss, **QUIET)
        model, _, x = layered()
        with pytest.raises(IncompatiblePairError, match="from the top down"):
            lvm.fit(model, guides.BottomUp(model), x, steps=1, loss=loss, **QUIET)

    def test_they_would_be_the_wrong_number(self) -> None:
        """What the refusal prevents: the two estimates of one bound disagree."""
        x = torch.randn(4, 3)
        options: dict[str, Any] = {
            "num_particles": 4000,
            "vectorize_particles": True,
            "max_plate_nesting": 1,
        }
        with pytest.warns(UserWarning, match="mean field restriction"):
            wrong = TraceMeanField_ELBO(**options).loss(plain_model, upside_down, x)
        right = [Trace_ELBO(**options).loss(plain_model, upside_down, x) for _ in range(4)]
        assert abs(wrong - torch.tensor(right).mean()) > 5 * torch.tensor(right).std()

    def test_another_order_of_independent_layers_is_as_good(self) -> None:
        x = torch.randn(4, 3)
        value = LayerwiseELBO(WEIGHTS).loss(plain_model, unordered, x)
        ordered = LayerwiseELBO(WEIGHTS).loss(plain_model, plain_guide, x)
        assert math.isfinite(value)
        assert math.isfinite(ordered)
        lvm.fit(plain_model, unordered, x, steps=1, loss=LayerwiseELBO(WEIGHTS), **QUIET)

    def test_guides_with_auxiliary_sites_are_refused(self) -> None:
        guide = AutoMultivariateNormal(plain_model)
        with pytest.raises(IncompatiblePairError, match=r"auxiliary site '.*_latent'"):
            LayerwiseELBO().loss(plain_model, guide, torch.randn(4, 3))

    @pytest.mark.parametrize("loss", [RenyiELBO(alpha=0.0, num_particles=4)])
    def test_importance_weighted_bounds_and_weights_are_refused(self, loss: Any) -> None:
        model, guide, x = layered(rate_weights={"z_2": 2.0})
        with pytest.raises(SettingError, match=r"bound of nothing .*'z_2': 2.0"):
            lvm.fit(model, guide, x, steps=1, loss=loss, **QUIET)
        with pytest.raises(SettingError, match=r"bound of nothing .*'z_1': 0.3"):
            lvm.fit(
                weighted(plain_model, WEIGHTS), weighted(plain_guide, WEIGHTS),
                torch.randn(4, 3), steps=1, loss=loss, **QUIET,
            )  # fmt: skip
        assert lvm.fit(plain_model, plain_guide, torch.randn(4, 3), steps=1, loss=loss, **QUIET)

    def test_enumerated_layers_cannot_be_weighed_by_pyro(self) -> None:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                z_2 = pyro.sample("z_2", Categorical(torch.ones(3) / 3))
                z_1 = pyro.sample("z_1", Categorical(torch.eye(3)[z_2] + 0.1))
                pyro.sample("x", Normal(z_1.double(), 1.0), obs=x)

        summed = config_enumerate(weighted(model, WEIGHTS), "parallel")
        with pytest.raises(ValueError, match=r"share a common poutine\.scale"):
            TraceEnum_ELBO(max_plate_nesting=1).loss(summed, lambda x: None, torch.randn(4))

    def test_posterior_diagnostics_of_a_weighted_guide_are_refused(self) -> None:
        model, guide, x = layered(rate_weights={"z_2": 2.0})
        with pytest.raises(SettingError, match=r"layer_rates\(model, guide, data\)"):
            lvm.score(model, guide, x)
        with pytest.raises(SettingError, match="'mine' carries rate_weights"):
            lvm.compare(model, {"mine": guide}, x, steps=1, progress=False)

    @pytest.mark.parametrize("around", ["model", "guide", "both"])
    def test_posterior_diagnostics_of_scaled_programs_are_refused(self, around: str) -> None:
        x, weights = torch.randn(4, 3), {"z_2": 3.0}
        model = plain_model if around == "guide" else weighted(plain_model, weights)
        guide = plain_guide if around == "model" else weighted(plain_guide, weights)
        where = "guide" if around == "guide" else "model"
        with pytest.raises(SettingError, match=f"'z_2' has the scale 3 in the {where}"):
            lvm.score(model, guide, x)
        lvm.score(plain_model, plain_guide, x, num_particles=2)


@pytest.mark.parametrize("analytic", [True, False])
def test_score_function_gradients_are_those_of_the_weighted_loss(analytic: bool) -> None:
    """A layer that cannot be reparametrised; truth by a sum over its two values."""
    x = torch.tensor([0.7])
    logit = torch.tensor(0.4, requires_grad=True)
    jump = torch.tensor(1.2, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", 1):
            z_2 = pyro.sample("z_2", Bernoulli(0.3))
            z_1 = pyro.sample("z_1", Normal(z_2, 1.0))
            pyro.sample("x", Normal(z_1, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", 1):
            z_2 = pyro.sample("z_2", Bernoulli(logits=pyro.param("logit", logit)))
            pyro.sample("z_1", Normal(pyro.param("jump", jump) * z_2, 0.5))

    share, prior = logit.sigmoid(), torch.tensor([0.7, 0.3])
    top = torch.stack([1 - share, share])
    loss = WEIGHTS["z_2"] * (top * (top / prior).log()).sum()
    for value in (0, 1):
        mean = jump * value
        kl = torch.distributions.kl_divergence(Normal(mean, 0.5), Normal(float(value), 1.0))
        miss = ((x[0] - mean) ** 2 + 0.25) / (2 * 0.64) + math.log(0.8 * math.sqrt(2 * math.pi))
        loss = loss + top[value] * (miss + WEIGHTS["z_1"] * kl)
    wanted = torch.stack(torch.autograd.grad(loss, [logit, jump]))

    objective = LayerwiseELBO(
        WEIGHTS, analytic=analytic, num_particles=500, vectorize_particles=True,
        max_plate_nesting=1,
    )  # fmt: skip
    found, losses = [], []
    for _ in range(60):
        losses.append(objective.loss_and_grads(model, guide, x))
        grads = [p.grad for p in (logit, jump)]
        found.append(torch.stack([g.clone() for g in grads if g is not None]))
        logit.grad = jump.grad = None
    for draws, truth in ((torch.stack(found), wanted), (torch.tensor(losses), loss.detach())):
        error = draws.std(0) / math.sqrt(60)
        assert ((draws.mean(0) - truth).abs() < 4 * error).all()
        assert (error < 0.05 * truth.abs()).all()


class TestPlates:
    def subsampling(self, size: int) -> tuple[Any, Any]:
        def model(x: Tensor) -> None:
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                z_2 = pyro.sample("z_2", Normal(x.new_zeros(1), 1.0).to_event(1))
                z_1 = pyro.sample("z_1", Normal(0.8 * z_2, 0.7).to_event(1))
                pyro.sample("x", Normal(z_1 @ LOADING.mT, 0.5).to_event(1), obs=x[rows])

        def guide(x: Tensor) -> None:
            slope = pyro.param("slope", torch.tensor(0.3))
            with pyro.plate("data", len(x), subsample_size=size) as rows:
                z_2 = pyro.sample("z_2", Normal(slope * x[rows, :1], 0.6).to_event(1))
                pyro.sample("z_1", Normal(0.5 * z_2, 0.5).to_event(1))

        return model, guide

    @pytest.mark.parametrize("size", [3, 40])
    def test_rates_do_not_depend_on_the_subsample(self, size: int) -> None:
        x = torch.randn(1, 3).expand(40, 3)  # equal rows: any subsample has the same mean
        loss = LayerwiseELBO(WEIGHTS)
        values = [loss.loss_and_grads(*self.subsampling(size), x) for _ in range(300)]
        whole = rates_of(*self.subsampling(40), x)
        for site in WEIGHTS:
            draws = loss.history.rates[site]
            error = draws.std() / math.sqrt(300) + 1e-9
            assert abs(draws.mean() - whole.rates[site].mean()) < 5 * error
        weighed = sum(w * whole.rates[s] for s, w in WEIGHTS.items()) + whole.distortion
        error = torch.tensor(values).std() / math.sqrt(300)
        assert abs(torch.tensor(values).mean() - weighed.sum()) < 5 * error

    def test_masked_data_count_for_nothing(self) -> None:
        x, keep = torch.randn(6, 3), torch.tensor([True, True, False, True, False, True])
        mask: Any = poutine.mask
        loss = LayerwiseELBO(WEIGHTS)
        loss.loss_and_grads(mask(plain_model, keep), mask(plain_guide, keep), x)
        wanted = lvm.layer_rates(plain_model, plain_guide, x).rates["z_2"][keep].sum() / 6
        assert_close(loss.history.rates["z_2"][0], wanted)

    @pytest.mark.parametrize("analytic", [True, False])
    def test_all_particles_at_once_are_as_good_as_one_after_another(self, analytic: bool) -> None:
        model, guide, x = layered()
        found = []
        for vectorised in (True, False):
            loss = LayerwiseELBO(
                WEIGHTS, num_particles=20, analytic=analytic, vectorize_particles=vectorised,
                max_plate_nesting=1,
            )  # fmt: skip
            found.append(torch.tensor([loss.loss(model, guide, x) for _ in range(15)]))
        error = math.hypot(*(draws.std().item() for draws in found)) / math.sqrt(15)
        assert abs(found[0].mean() - found[1].mean()) < 4 * error


class TestFit:
    def test_takes_the_weights_that_a_guide_carries(self) -> None:
        model, guide, x = layered(rate_weights=WEIGHTS)
        twin_model, twin, _ = layered()
        twin_model.load_state_dict(model.state_dict())
        twin.load_state_dict(guide.state_dict())
        own = lvm.fit(model, guide, x, steps=5, **QUIET)
        given = lvm.fit(twin_model, twin, x, steps=5, loss=LayerwiseELBO(WEIGHTS), **QUIET)
        assert torch.equal(own.losses, given.losses)
        assert own.rate_history is not None
        assert own.rate_history.weights["z_2"].tolist() == [3.0] * 5
        entry = own.rate_history.frame.iloc[-1]
        total = entry["distortion"] + sum(w * entry[f"rate {s}"] for s, w in WEIGHTS.items())
        assert total == pytest.approx(own.losses[-1].item())

    def test_a_given_loss_wins(self) -> None:
        model, guide, x = layered(rate_weights=WEIGHTS)
        twin_model, twin, _ = layered()
        twin_model.load_state_dict(model.state_dict())
        twin.load_state_dict(guide.state_dict())
        given = lvm.fit(model, guide, x, steps=3, loss=Trace_ELBO(), **QUIET)
        plain = lvm.fit(twin_model, twin, x, steps=3, **QUIET)
        assert torch.equal(given.losses, plain.losses)
        assert given.rate_history is None
        assert plain.rate_history is None

    def test_the_same_objective_starts_anew(self) -> None:
        loss = LayerwiseELBO(warm_up=linear_warm_up(5))
        histories = []
        for _ in range(2):
            torch.manual_seed(3)
            model, guide, x = layered()
            histories.append(lvm.fit(model, guide, x, steps=4, loss=loss, **QUIET).rate_history)
        first, second = (history.frame for history in histories if history is not None)
        assert first.equals(second)
        assert len(first) == 4

    def test_a_killed_run_goes_on_with_warm_up_targets_and_history(self, tmp_path: Any) -> None:
        def run(steps: int, path: Any, interrupted: int | None = None) -> Any:
            torch.manual_seed(3)
            model, guide, x = layered()
            loss = LayerwiseELBO(targets={"z_2": 0.5}, warm_up=linear_warm_up(12))

            def stop(step: int) -> None:
                if step == interrupted:
                    raise KeyboardInterrupt

            return lvm.fit(
                model, guide, x, steps=steps, loss=loss, checkpoint=path, checkpoint_every=1,
                watch=stop, watch_every=1, **QUIET,
            )  # fmt: skip

        with pytest.warns(UserWarning, match="Target rates were not reached"):
            whole = run(20, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            run(20, tmp_path / "part", interrupted=9)
        with pytest.warns(UserWarning, match="Target rates were not reached"):
            resumed = run(20, tmp_path / "part")
        assert torch.equal(whole.losses, resumed.losses)
        assert whole.rate_history.frame.equals(resumed.rate_history.frame)

    def test_a_checkpoint_of_other_weights_is_refused(self, tmp_path: Any) -> None:
        model, guide, x = layered(rate_weights=WEIGHTS)
        lvm.fit(model, guide, x, steps=2, checkpoint=tmp_path / "c", **QUIET)
        guide.rate_weights["z_2"] = 2.0
        with pytest.raises(CheckpointError, match="differs in loss"):
            lvm.fit(model, guide, x, steps=2, checkpoint=tmp_path / "c", **QUIET)

    def test_plain_svi_takes_it(self) -> None:
        model, guide, x = layered()
        loss = LayerwiseELBO(WEIGHTS)
        svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 1e-2}), loss)
        values = [svi.step(x) for _ in range(60)]
        assert sum(values[-10:]) < sum(values[:10])
        assert len(loss.history) == 60


def affine_guide(x: Tensor) -> None:
    """Full-covariance Gaussian layers, affine in x and the layer above."""
    heads = {}
    for site, dim, inputs in (("z_2", 2, 5), ("z_1", 3, 7)):
        weight = pyro.param(f"{site}.weight", torch.zeros(dim, inputs))
        factor = pyro.param(f"{site}.factor", torch.eye(dim))
        heads[site] = (weight, factor.tril(-1) + torch.diag(factor.diagonal().exp() / math.e))
    with pyro.plate("data", len(x)):
        weight, factor = heads["z_2"]
        z_2 = pyro.sample("z_2", MultivariateNormal(x @ weight.mT, scale_tril=factor))
        weight, factor = heads["z_1"]
        both = torch.cat([x.expand(*z_2.shape[:-1], 5), z_2], -1)
        pyro.sample("z_1", MultivariateNormal(both @ weight.mT, scale_tril=factor))


@pytest.mark.parametrize("weights", [{}, {"z_1": 0.3, "z_2": 3.0}], ids=["one", "unequal"])
@pytest.mark.parametrize(
    ("steps", "particles", "tolerance"),
    [(400, 1, 0.05), pytest.param(2000, 8, 0.01, marks=pytest.mark.slow)],
    ids=["short", "long"],
)
def test_training_finds_the_best_guide_of_a_linear_hierarchy(
    weights: Mapping[str, float], steps: int, particles: int, tolerance: float
) -> None:
    model = models.HierarchicalLinearGaussian((3, 2), 5)
    x = model(size=300).detach()
    loss = LayerwiseELBO(weights, num_particles=particles, vectorize_particles=True)
    lvm.fit(
        model, affine_guide, x, steps=steps, learning_rate=0.04, train="guide", loss=loss, **QUIET
    )
    found = lvm.layer_rates(model, affine_guide, x, num_particles=100)
    best = model.optimal_layers(x, weights)
    for site, rate in best.rates.items():
        wanted = pytest.approx(rate.mean().item(), rel=tolerance, abs=2e-3)
        assert found.rates[site].mean().item() == wanted
    assert found.distortion.mean().item() == pytest.approx(
        best.distortion.mean().item(), rel=tolerance
    )


def test_objectives_that_differ_are_told_apart_by_their_texts():
    objectives = [
        LayerwiseELBO({"z_1": 2.0}),
        LayerwiseELBO({"z_1": 2.0}, num_particles=3),
        LayerwiseELBO({"z_1": 2.0}, warm_up=linear_warm_up(50)),
        LayerwiseELBO({"z_1": 2.0}, warm_up=linear_warm_up(60)),
        LayerwiseELBO({"z_1": 2.0}, targets={"z_2": 1.0}),
        LayerwiseELBO({"z_1": 2.0}, targets={"z_2": 1.0}, dual_step=0.1),
    ]
    assert len({repr(each) for each in objectives}) == len(objectives)
    again = LayerwiseELBO({"z_1": 2.0}, warm_up=linear_warm_up(50))
    assert repr(again) == repr(objectives[2])


def test_a_guide_remembers_the_weights_of_the_loss_that_trained_it():
    model = models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=5, hidden=(8,))
    guide, x = guides.Layerwise(model, hidden=(8,)), model(size=20).detach()
    lvm.fit(model, guide, x, steps=2, loss=LayerwiseELBO({"z_1": 10.0}), progress=False)
    assert guide.rate_weights == {"z_2": 1.0, "z_1": 10.0}
    with pytest.raises(SettingError, match="rate_weights"):
        lvm.score(model, guide, x)
