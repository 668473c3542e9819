"""Every model with every guide: a few steps of plain Pyro, or a refusal that says why."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO
from pyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]

import pyrolvm as lvm
from pyrolvm.core import IncompatiblePairError, NoDensityError
from pyrolvm.registry import GUIDES, MODELS, make_guide, make_model

MODEL_SPECS = (
    "linear-gaussian:2",
    "linear-gaussian:3:isotropic=false",
    "cpa-generator:1:6",
    "cpa-generator:2:6",
    "cpa-generator:2:4x4:activation=abs",
    "cpa-generator:3:6",
    "vae:2:8",
    "vae:2:8:activation=tanh",
    "vae:2:8:likelihood=bernoulli",
    "residual-generator:4:8",
    "leaky-generator:4",
    "conv-generator:2",
    "manifold-generator:2:8",
    "sign-permutation:4:permutation=random",
    "folding:num_folds=2",
    "injective-slope",
    "triangular-vae:2:8",
)
NOISELESS_MODEL_SPECS = (
    "triangular-map", "triangular-map:4:8:kind=integral:layers=1", "generic-flow:4:8",
    "brenier-map:4:8x8",
)  # fmt: skip
HAVE_POSTERIORS = ("linear-gaussian", "sign-permutation", "folding", "injective-slope")
ARE_AFFINE = {
    "linear-gaussian:2", "cpa-generator:1:6", "cpa-generator:2:6",
    "cpa-generator:2:4x4:activation=abs", "vae:2:8", "linear-gaussian:3:isotropic=false",
    "cpa-generator:3:6",
}  # fmt: skip
GUIDE_SPECS = (
    "diagonal:8", "full:affine", "mixture:8", "flow:8", "per-datum:diagonal", "per-datum:full",
    "per-datum:mixture", "per-datum:flow", "semi-amortized:full:8", "iterative:diagonal:8",
    "sign-guide:8", "langevin:affine:num_langevin=3", "exact", "exact-cpa",
    "line-gibbs:warmup=20",
)  # fmt: skip
LAYERED_MODEL_SPECS = (
    "hierarchical-vae:3:8x8",
    "hierarchical-vae:8x8:latent_dims=3x2",
    "hierarchical-vae:8x8:latent_dims=3x2x2:skip=true:likelihood=bernoulli",
    "hierarchical-vae:8x8:latent_dims=3x4:top=categorical",
    "hierarchical-linear-gaussian:latent_dims=3x2",
    "hierarchical-linear-gaussian:latent_dims=3x2x2",
)
LAYERED_GUIDE_SPECS = (
    "layerwise:8", "layerwise:affine:rate_weights=0.3", "layerwise:optimal", "ladder:8x8",
    "ladder:affine", "bottom-up:8",
)  # fmt: skip
CONDITIONAL_MODEL_SPECS = ("ivae:2:6", "ivae:3:6:learn_means=true", "anchored-ivae:2:6")
CONDITIONAL_GUIDE_SPECS = ("conditional-product:6", "conditional-encoder:full:6")
BINARY_MODEL_SPECS = (
    "sigmoid-belief-network:3",
    "sigmoid-belief-network:3x2",
    "sigmoid-belief-network:3x4x2:num_deterministic=1",
)
BINARY_GUIDE_SPECS = (
    "helmholtz-coupled", "helmholtz-coupled:num_deterministic=1", "layerwise:8", "bottom-up:8x8",
    "bernoulli:8", "per-datum:bernoulli",
)  # fmt: skip
REFUSED = {
    "exact": {spec for spec in MODEL_SPECS if not spec.startswith(HAVE_POSTERIORS)},
    "exact-cpa": set(MODEL_SPECS) - ARE_AFFINE,
    "line-gibbs:warmup=20": set(MODEL_SPECS) - ARE_AFFINE,
}
OBS_DIM = 4


def width(spec):
    return 1 if spec.startswith(("folding", "injective-slope")) else OBS_DIM


def observations(spec):
    x = torch.randn(6, width(spec))
    return (x > 0).float() if "bernoulli" in spec or "belief" in spec else x


def test_the_table_of_pairs_covers_the_registry():
    names = {
        make_guide(s, make_model("linear-gaussian:2", OBS_DIM)).__class__ for s in GUIDE_SPECS
    }
    layered = make_model("hierarchical-linear-gaussian:2", OBS_DIM)
    names |= {make_guide(s, layered).__class__ for s in LAYERED_GUIDE_SPECS}
    conditional = make_model("ivae:2", OBS_DIM)
    names |= {make_guide(s, conditional).__class__ for s in CONDITIONAL_GUIDE_SPECS}
    names |= {make_guide("exact-code", make_model("triangular-map", OBS_DIM)).__class__}
    binary = make_model("sigmoid-belief-network:2", OBS_DIM)
    names |= {make_guide(s, binary).__class__ for s in BINARY_GUIDE_SPECS}
    assert names == set(GUIDES.values())
    specs = (
        *MODEL_SPECS, *LAYERED_MODEL_SPECS, *NOISELESS_MODEL_SPECS, *CONDITIONAL_MODEL_SPECS,
        *BINARY_MODEL_SPECS,
    )  # fmt: skip
    models = {spec.split(":")[0] for spec in specs}
    assert models == set(MODELS)


@pytest.mark.parametrize("guide_spec", GUIDE_SPECS)
@pytest.mark.parametrize("model_spec", MODEL_SPECS)
def test_plain_pyro_runs_the_pair_or_the_refusal_names_what_would_do(model_spec, guide_spec):
    model = make_model(model_spec, width(model_spec))
    x = observations(model_spec)
    if REFUSED.get(guide_spec, set()) & {model_spec}:
        with pytest.raises(IncompatiblePairError, match="Amortized"):
            make_guide(guide_spec, model)
        return
    guide = make_guide(guide_spec, model)
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    if not guide.has_density:
        drawn = Predictive(model, guide=guide, num_samples=3, parallel=True)(x)
        assert drawn["z"].shape == (3, 6, model.latent_dim)
        with pytest.raises(NoDensityError, match="no log q"):
            svi.step(x)
        return
    before = [p.detach().clone() for p in model.parameters()]
    losses = [svi.step(x) for _ in range(3)]
    assert torch.tensor(losses).isfinite().all()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert any(moved) or not before
    trace = poutine.trace(guide).get_trace(x)
    value = trace.nodes["z"]["value"]
    assert value is not None
    assert value.shape == (6, model.latent_dim)
    drawn = Predictive(model, guide=guide, num_samples=3, parallel=True)(x)
    assert drawn["z"].shape == (3, 6, model.latent_dim)
    densities = lvm.log_densities(model, guide, x, num_particles=5)
    assert densities.log_weights.shape == (5, 6)
    assert densities.factorises


@pytest.mark.parametrize("guide_spec", CONDITIONAL_GUIDE_SPECS)
@pytest.mark.parametrize("model_spec", CONDITIONAL_MODEL_SPECS)
def test_plain_pyro_runs_a_model_with_environments(model_spec, guide_spec):
    model = make_model(model_spec, OBS_DIM)
    guide = make_guide(guide_spec, model)
    data = {"x": torch.randn(6, OBS_DIM), "u": torch.arange(6) % 3}
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    before = [p.detach().clone() for p in model.parameters()]
    assert torch.tensor([svi.step(**data) for _ in range(3)]).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    drawn = Predictive(model, guide=guide, num_samples=3, parallel=True)(**data)
    assert drawn["z"].shape == (3, 6, model.latent_dim)
    assert lvm.log_densities(model, guide, data, num_particles=5).factorises


@pytest.mark.parametrize("model_spec", CONDITIONAL_MODEL_SPECS)
@pytest.mark.parametrize("guide_spec", GUIDE_SPECS)
def test_guides_of_x_alone_are_refused_for_a_model_with_environments(model_spec, guide_spec):
    with pytest.raises(IncompatiblePairError, match="ConditionalEncoder, ConditionalProduct"):
        make_guide(guide_spec, make_model(model_spec, OBS_DIM))


@pytest.mark.parametrize("model_spec", NOISELESS_MODEL_SPECS)
def test_plain_pyro_runs_a_model_without_noise_with_its_code(model_spec):
    model = make_model(model_spec, OBS_DIM)
    guide, x = make_guide("exact-code", model), observations(model_spec)
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    before = [p.detach().clone() for p in model.parameters()]
    assert torch.tensor([svi.step(x) for _ in range(3)]).isfinite().all()
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    densities = lvm.log_densities(model, guide, x, num_particles=5)
    assert torch.equal(densities.log_weights, densities.log_weights[:1].expand(5, 6))


@pytest.mark.parametrize("guide_spec", [*GUIDE_SPECS, "layerwise", "ladder", "bottom-up"])
def test_guides_for_latents_refuse_a_model_without_and_name_what_holds_its_code(guide_spec):
    with pytest.raises(IncompatiblePairError, match=r"TriangularMap does not .* ExactCode\."):
        make_guide(guide_spec, make_model("triangular-map", OBS_DIM))


@pytest.mark.parametrize("guide_spec", LAYERED_GUIDE_SPECS)
@pytest.mark.parametrize("model_spec", LAYERED_MODEL_SPECS)
def test_plain_pyro_runs_a_hierarchy_with_each_of_its_guides(model_spec, guide_spec):
    model = make_model(model_spec, OBS_DIM)
    if "optimal" in guide_spec and "linear-gaussian" not in model_spec:
        with pytest.raises(IncompatiblePairError, match="does not offer"):
            make_guide(guide_spec, model)
        return
    runs_in_plain_pyro(model, make_guide(guide_spec, model), observations(model_spec))


@pytest.mark.parametrize("guide_spec", BINARY_GUIDE_SPECS)
@pytest.mark.parametrize("model_spec", BINARY_MODEL_SPECS)
def test_plain_pyro_runs_a_belief_network_with_each_of_its_guides(model_spec, guide_spec):
    model = make_model(model_spec, OBS_DIM)
    runs_in_plain_pyro(model, make_guide(guide_spec, model), observations(model_spec))


def runs_in_plain_pyro(model, guide, x):
    """Train a hierarchy for three steps, draw from its guide, and score it."""
    svi = SVI(model, guide, Adam({"lr": 1e-3}), Trace_ELBO())
    before = [p.detach().clone() for p in model.parameters()]
    assert torch.tensor([svi.step(x) for _ in range(3)]).isfinite().all()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(moved)
    drawn = Predictive(model, guide=guide, num_samples=3, parallel=True)(x)
    for site, width in model.layer_dims.items():
        assert drawn[site].shape == (3, 6, width)
    densities = lvm.log_densities(model, guide, x, num_particles=5)
    assert densities.log_weights.shape == (5, 6)
    assert set(densities.guide) == set(model.latent_sites)


@pytest.mark.parametrize(
    "guide_spec",
    ["bernoulli", "per-datum:bernoulli", "semi-amortized:bernoulli", "iterative:bernoulli"],
)
def test_the_family_of_binary_units_refuses_one_real_vector(guide_spec):
    with pytest.raises(IncompatiblePairError, match="Use the family 'diagonal', 'full'"):
        make_guide(guide_spec, make_model("vae:2", OBS_DIM))


@pytest.mark.parametrize(
    "guide_spec",
    ["diagonal", "flow", "per-datum:full", "semi-amortized:full", "sign-guide", "exact", "ladder"],
)
def test_guides_for_real_latents_refuse_a_belief_network_and_name_what_would_do(guide_spec):
    with pytest.raises(IncompatiblePairError, match=r"HelmholtzCoupled|family 'bernoulli'"):
        make_guide(guide_spec, make_model("sigmoid-belief-network:3x2", OBS_DIM))


@pytest.mark.parametrize("guide_spec", GUIDE_SPECS)
def test_guides_for_one_vector_refuse_a_hierarchy_and_name_those_that_serve_it(guide_spec):
    with pytest.raises(IncompatiblePairError, match="BottomUp, Ladder, Layerwise"):
        make_guide(guide_spec, make_model("hierarchical-vae:latent_dims=3x2", OBS_DIM))


@pytest.mark.parametrize("guide_spec", ["layerwise", "ladder", "bottom-up", "helmholtz-coupled"])
def test_guides_for_hierarchies_refuse_one_vector(guide_spec):
    with pytest.raises(IncompatiblePairError, match=r"needs .* Layered, which VAE"):
        make_guide(guide_spec, make_model("vae:2", OBS_DIM))


@pytest.mark.parametrize("autoguide", [AutoNormal, AutoDiagonalNormal, AutoMultivariateNormal])
@pytest.mark.parametrize("model_spec", ["linear-gaussian:2", "cpa-generator:2:6", "vae:2:8"])
def test_autoguides_train_under_zoo_models(model_spec, autoguide):
    model = make_model(model_spec, OBS_DIM)
    x = observations(model_spec)
    fitted = lvm.fit(model, autoguide(model), x, steps=20, progress=False)
    assert fitted.losses.isfinite().all()
    assert lvm.log_densities(model, fitted.guide, x, num_particles=4).log_weights.isfinite().all()


def test_a_zoo_guide_serves_a_hand_written_model_of_the_same_sites():
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", pyro.distributions.Normal(torch.zeros(2), 1.0).to_event(1))
            mean = torch.cat([z, z.square()], -1)
            pyro.sample("x", pyro.distributions.Normal(mean, 0.5).to_event(1), obs=x)

    guide = make_guide("full:16", make_model("vae:2", OBS_DIM))
    x = torch.randn(64, OBS_DIM)
    fitted = lvm.fit(model, guide, x, steps=100, progress=False)
    assert fitted.losses[-10:].mean() < fitted.losses[:10].mean()
    report = lvm.diagnose(
        model, guide, x, num_particles=100, effort="quick", progress=False
    )  # fmt: skip
    assert len(report.per_datum) == 64
