"""Many fits at once: ``lvm.fit``, one after another, is the reference."""

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroParam
from torch import nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import Data, IncompatiblePairError, UnknownNameError
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives import LayerwiseELBO, linear_warm_up
from pyrolvm.objectives.ensemble_loss import EnsembleLoss

WEIGHTS = [{"rate_weights": {"z_1": 0.5}}, {"rate_weights": {"z_1": 2.0, "z_2": 0.0}}]


@pytest.fixture(scope="module")
def images():
    return torch.rand(70, 6, generator=torch.Generator().manual_seed(0))


def hierarchy(**settings):
    return models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=6, hidden=(5,), **settings)


def layerwise(model):
    return guides.Layerwise(model, hidden=(5,))


def vae(**settings):
    return models.VAE(latent_dim=2, obs_dim=6, hidden=(5,), **settings)


def amortized(model):
    return guides.Amortized(model, hidden=(5,))


def ensemble(model_factory, guide_factory, data, **settings):
    defaults = {"steps": 12, "batch_size": 32, "progress": False}
    return lvm.fit_ensemble(model_factory, guide_factory, data, **(defaults | settings))


def alone(member, model_factory, guide_factory, data, **settings):
    """The same fit by ``lvm.fit``."""
    with own_randomness(member.seed):
        model = model_factory()
        guide = guide_factory(model)
    settings = {"steps": 12, "batch_size": 32, "progress": False} | settings
    return lvm.fit(model, guide, data, seed=member.seed, **settings)


@pytest.fixture(scope="module")
def plain_elbo(images):
    return ensemble(vae, amortized, images, seeds=(0, 1, 2), steps=40)


@pytest.fixture(scope="module")
def weighted_rates(images):
    settings = {"grid": WEIGHTS, "seeds": (0, 1), "warm_up": linear_warm_up(6)}
    return ensemble(hierarchy, layerwise, images, **settings)


def require_equal_fits(member, reference):
    scale = reference.losses.abs().mean()
    torch.testing.assert_close(member.losses / scale, reference.losses / scale, atol=1e-4, rtol=0)
    for mine, theirs in ((member.model, reference.model), (member.guide, reference.guide)):
        expected = theirs.state_dict()
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(value, expected[name], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("model_factory", "guide_factory"),
    [
        (partial(vae, learn_noise=False), partial(guides.Amortized, family="full", hidden=(5,))),
        (lambda: models.CPAGenerator(latent_dim=2, obs_dim=6, hidden=(5,)), amortized),
        (hierarchy, partial(guides.Ladder, hidden=(5,))),
        (hierarchy, partial(guides.BottomUp, hidden=(5,))),
        (partial(hierarchy, top="categorical"), layerwise),
    ],
)
def test_each_member_is_trained_as_it_is_alone(images, model_factory, guide_factory):
    result = ensemble(model_factory, guide_factory, images, seeds=(3, 4))
    for member in result.members:
        require_equal_fits(member, alone(member, model_factory, guide_factory, images))


def test_each_member_of_the_plain_elbo_is_trained_as_it_is_alone(images, plain_elbo):
    for member in plain_elbo.members[:2]:
        require_equal_fits(member, alone(member, vae, amortized, images, steps=40))


def test_weights_of_the_grid_weigh_the_rates(images, weighted_rates):
    for member in weighted_rates.members:
        loss = LayerwiseELBO(member.point["rate_weights"], warm_up=linear_warm_up(6))
        require_equal_fits(member, alone(member, hierarchy, layerwise, images, loss=loss))
    assert not torch.allclose(weighted_rates.losses[0], weighted_rates.losses[2])


def test_weights_that_the_guides_carry_are_used(images):
    factory = partial(guides.Layerwise, rate_weights={"z_2": 0.3}, hidden=(5,))
    (member,) = ensemble(hierarchy, factory, images).members
    require_equal_fits(member, alone(member, hierarchy, factory, images))


@pytest.mark.parametrize(
    "loss",
    [
        LayerwiseELBO({"z_2": 0.3}, analytic=False),
        Trace_ELBO(num_particles=3, vectorize_particles=True),
        TraceMeanField_ELBO(),
    ],
)
def test_objectives_that_are_given_are_minimised(images, loss):
    (member,) = ensemble(hierarchy, layerwise, images, loss=loss).members
    require_equal_fits(member, alone(member, hierarchy, layerwise, images, loss=loss))


def test_all_rows_at_once_and_several_particles(images):
    options = {"batch_size": None, "num_particles": 3, "decay": False}
    result = ensemble(vae, amortized, images, seeds=(0, 1), **options)
    for member in result.members:
        require_equal_fits(member, alone(member, vae, amortized, images, **options))


def test_data_of_zeros_and_ones_pass_the_check_of_a_bernoulli_model(images):
    binary = images.round()
    factory = partial(hierarchy, likelihood="bernoulli")
    (member,) = ensemble(factory, layerwise, binary).members
    require_equal_fits(member, alone(member, factory, layerwise, binary))


class PlainModel(PyroModule):
    """A linear model with a constrained parameter, written as any user would."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 6)
        self.noise = PyroParam(torch.tensor(0.7), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("rows", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), self.noise).to_event(1), obs=x)


class PlainGuide(PyroModule):
    """A linear encoder with a constrained parameter."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(6, 2)
        self.scale = PyroParam(torch.ones(2), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(self.encoder(x), self.scale).to_event(1))


def plain_model():
    return PlainModel()


def plain_guide(model):
    return PlainGuide()


def test_plain_pyro_modules_with_constrained_parameters_are_trained(images):
    settings = {"batch_size": None}
    result = ensemble(plain_model, plain_guide, images, seeds=(0, 5), **settings)
    for member in result.members:
        reference = alone(member, plain_model, plain_guide, images, **settings)
        require_equal_fits(member, reference)
    assert not pyro.get_param_store().keys()


def test_gradients_are_those_of_pyro(images):
    model = hierarchy()
    guide = layerwise(model)
    parameters = [*model.parameters(), *guide.parameters()]
    weights = {"z_2": 0.2, "z_1": 3.0}
    with own_randomness(7):
        value = LayerwiseELBO(weights).loss_and_grads(model, guide, images)
    with own_randomness(7):
        ours = EnsembleLoss(("z_2", "z_1"), analytic=True)(
            model, guide, Data.of(images), torch.tensor([0.2, 3.0])
        )
    assert math.isclose(ours.item(), value, rel_tol=1e-5)
    for mine, parameter in zip(torch.autograd.grad(ours, parameters), parameters, strict=True):
        torch.testing.assert_close(mine, parameter.grad, rtol=1e-4, atol=1e-3)


def test_a_member_does_not_depend_on_those_beside_it(images, weighted_rates):
    other = [{"rate_weights": {"z_2": 9.0}}, WEIGHTS[1], WEIGHTS[0]]
    settings = {"grid": other, "seeds": (1,), "warm_up": linear_warm_up(6)}
    beside = ensemble(hierarchy, layerwise, images, **settings)
    same = weighted_rates.losses[[3, 1]]
    torch.testing.assert_close(beside.losses[1:], same, rtol=1e-4, atol=1e-4)


def test_the_same_seeds_give_the_same_result_and_leave_others_random_numbers(images, plain_elbo):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    again = ensemble(vae, amortized, images, seeds=(0, 1, 2), steps=40)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(again.losses, plain_elbo.losses)


def test_chunks_change_no_result(images, plain_elbo):
    parts = ensemble(vae, amortized, images, seeds=(0, 1, 2), steps=40, chunk=2)
    torch.testing.assert_close(parts.losses, plain_elbo.losses, rtol=1e-4, atol=1e-4)


def test_training_lowers_the_loss_of_every_member(plain_elbo):
    losses = plain_elbo.losses
    assert losses.shape == (3, 40)
    assert (losses[:, -10:].mean(1) < losses[:, :10].mean(1) - 0.2).all()


def test_the_frame_has_a_row_for_each_member(weighted_rates):
    frame = weighted_rates.frame
    assert frame["seed"].tolist() == [0, 1, 0, 1]
    assert frame["rate_weights.z_1"].tolist() == [0.5, 0.5, 2.0, 2.0]
    assert frame["steps"].tolist() == [12] * 4
    assert frame["loss"].tolist() == pytest.approx(weighted_rates.losses.mean(1).tolist())
    assert not frame["diverged"].any()


def test_a_member_that_diverges_stops_alone(images):
    class Fragile(PlainModel):
        """Its weight falls, and its loss is not finite from where it falls below a threshold."""

        def __init__(self, threshold):
            super().__init__()
            self.register_buffer("threshold", torch.tensor(threshold))
            self.weight = nn.Parameter(torch.tensor(0.0))

        def forward(self, x):
            super().forward(x)
            pyro.factor("pull", -100.0 * self.weight)
            pyro.factor("edge", (self.weight - self.threshold).log() * 0.0)

    grid = [{"threshold": -9.0}, {"threshold": -0.0105}, {"threshold": -8.0}]
    settings = {"batch_size": None, "decay": False, "steps": 15}
    with pytest.warns(UserWarning, match="1 of 3 members met .* last good state: 1"):
        result = ensemble(Fragile, plain_guide, images, grid=grid, **settings)
    good, bad, other = result.members
    assert (good.diverged, bad.diverged, other.diverged) == (False, True, False)
    assert bad.steps == 4
    assert bad.losses.isfinite().all()
    assert result.losses[1, 4:].isnan().all()
    assert all(value.isfinite().all() for value in bad.model.state_dict().values())
    assert result.losses[[0, 2]].isfinite().all()
    assert good.model.weight < -0.04
    (lonely,) = ensemble(Fragile, plain_guide, images, grid=grid[2:], **settings).members
    torch.testing.assert_close(other.losses, lonely.losses, rtol=1e-4, atol=1e-4)


def test_an_ensemble_that_diverges_at_once_is_left_as_it_was_made(images):
    with pytest.warns(UserWarning, match="2 of 2"):
        result = ensemble(plain_model, plain_guide, images * 1e30, batch_size=None, seeds=(0, 1))
    with own_randomness(1):
        fresh = plain_model()
    assert [member.steps for member in result.members] == [0, 0]
    assert torch.equal(result.members[1].model.decoder.weight, fresh.decoder.weight)


def test_guides_that_set_themselves_up_in_their_first_run_are_trained(images):
    (member,) = ensemble(plain_model, AutoNormal, images, batch_size=None).members
    require_equal_fits(member, alone(member, plain_model, AutoNormal, images, batch_size=None))


def test_members_of_other_shapes_are_refused_by_name(images):
    def factory(width):
        return models.VAE(latent_dim=2, obs_dim=6, hidden=(width,))

    with pytest.raises(IncompatiblePairError, match=r"'model\.decoder\.0\.weight' is .*\(5, 2\)"):
        ensemble(factory, amortized, images, grid=[{"width": 5}, {"width": 7}])


def test_members_that_compute_something_else_are_refused(images):
    grid = [{"activation": "relu"}, {"activation": "tanh"}]
    with pytest.raises(IncompatiblePairError, match="Member 1 computes something else"):
        ensemble(lambda activation: vae(activation=activation), amortized, images, grid=grid)


def test_values_of_buffers_may_differ(images):
    factory = partial(vae, learn_noise=False)
    grid = [{"noise_scale": 0.5}, {"noise_scale": 0.9}]
    wide = ensemble(
        lambda noise_scale: factory(noise_scale=noise_scale), amortized, images, grid=grid
    )
    reference = alone(wide.members[1], partial(factory, noise_scale=0.9), amortized, images)
    require_equal_fits(wide.members[1], reference)


def test_guides_without_reparameterised_draws_are_refused(images):
    def model(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
            pyro.sample("x", dist.Normal(z[:, None], 1.0).expand([len(x), 6]).to_event(1), obs=x)

    class Guide(PyroModule):
        def __init__(self):
            super().__init__()
            self.logit = nn.Parameter(torch.tensor(0.0))

        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Bernoulli(logits=self.logit))

    with pytest.raises(IncompatiblePairError, match="draws 'z' from a Bernoulli"):
        ensemble(lambda: model, lambda model: Guide(), images)


def test_parameters_in_the_store_alone_are_refused(images):
    def guide(x):
        loc = pyro.param("loc", lambda: torch.zeros(2))
        with pyro.plate("rows", len(x)):
            pyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    with pytest.raises(IncompatiblePairError, match="'loc' lives in Pyro's store"):
        ensemble(plain_model, lambda model: guide, images, batch_size=None)
    pyro.get_param_store().clear()


def test_programs_that_look_at_values_are_refused(images):
    class Looking(PlainModel):
        def forward(self, x):
            if x.sum() > 0:
                super().forward(x)

    with pytest.raises(IncompatiblePairError, match="for all members at once"):
        ensemble(Looking, plain_guide, images, batch_size=None)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"grid": [{"rate_weights": {"z_9": 1.0}}]}, UnknownNameError, "z_9"),
        ({"grid": [{"rate_weights": {"z_1": -1.0}}]}, SettingError, "0 or more"),
        ({"grid": ()}, SettingError, "points should be at least 1"),
        ({"seeds": ()}, SettingError, "num_seeds should be at least 1"),
        ({"seeds": (-1,)}, SettingError, "seed should be"),
        ({"seeds": 3}, SettingError, r"for example range\(3\)"),
        ({"grid": {"rate_weights": [1.0]}}, SettingError, "list of points"),
        ({"chunk": 0}, SettingError, "chunk should be at least 1"),
        ({"batch_size": 0}, SettingError, "batch_size should be at least 1"),
        ({"loss": RenyiELBO(alpha=0.5)}, SettingError, "loss is a RenyiELBO"),
        ({"loss": LayerwiseELBO(targets={"z_1": 2.0})}, SettingError, "not targets"),
        ({"loss": Trace_ELBO(), "grid": WEIGHTS}, SettingError, "takes no rate_weights"),
    ],
)
def test_settings_that_make_no_sense_are_refused(images, settings, error, match):
    with pytest.raises(error, match=match):
        ensemble(hierarchy, layerwise, images, **settings)


def test_a_setting_that_no_factory_takes_is_refused(images):
    with pytest.raises(SettingError, match="'depth', which neither"):
        ensemble(plain_model, plain_guide, images, grid=[{"depth": 3}])


def test_weights_for_a_guide_that_is_drawn_from_the_bottom_up_are_refused(images):
    def bottom_up(model):
        return guides.BottomUp(model, hidden=(5,))

    with pytest.raises(IncompatiblePairError, match="top down"):
        ensemble(hierarchy, bottom_up, images, grid=WEIGHTS)


def test_no_steps_leave_the_members_as_they_were_made(images):
    (member,) = ensemble(vae, amortized, images, steps=0).members
    with own_randomness(0):
        fresh = vae()
    assert member.losses.shape == (0,)
    assert torch.equal(member.model.decoder[0].weight, fresh.decoder[0].weight)
