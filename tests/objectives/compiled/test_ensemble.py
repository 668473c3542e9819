"""Compiled ensembles: ``lvm.fit``, one after another with plain steps, is the reference."""

from __future__ import annotations

import math
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.nn import PyroModule, PyroParam
from torch import nn

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import Data
from pyrolvm.core.randomness import own_randomness
from pyrolvm.objectives import LayerwiseELBO, linear_warm_up
from pyrolvm.objectives.compiled import ensemble as program
from pyrolvm.objectives.compiled.backend import has_compiler
from pyrolvm.objectives.ensemble_batches import MemberBatches
from pyrolvm.objectives.row_order import RowOrder

COMPILED = "the whole step of all members is compiled"
STEPS = 40
"""More than a block, and more than an epoch."""


@pytest.fixture
def as_graph(monkeypatch):
    """Run the program of a whole step as a graph, which needs no compiler."""
    monkeypatch.setattr(program, "compiled", lambda graph, _: lambda given: graph(*given))
    monkeypatch.setattr(program, "has_compiler", lambda: True)


@pytest.fixture(scope="module")
def images():
    return torch.rand(70, 6, generator=torch.Generator().manual_seed(0))


def vae(**settings):
    return models.VAE(latent_dim=2, obs_dim=6, hidden=(5,), **settings)


def hierarchy():
    return models.HierarchicalVAE(latent_dims=(3, 2), obs_dim=6, hidden=(5,))


def amortized(model):
    return guides.Amortized(model, hidden=(5,))


def layerwise(model):
    return guides.Layerwise(model, hidden=(5,))


def ensemble(model_factory, guide_factory, data, **settings):
    defaults = {"steps": STEPS, "batch_size": 32, "compile": True, "progress": False}
    return lvm.fit_ensemble(model_factory, guide_factory, data, **(defaults | settings))


def require_equal_fits(member, model_factory, guide_factory, data, **settings):
    with own_randomness(member.seed):
        model = model_factory()
        guide = guide_factory(model)
    defaults = {"steps": STEPS, "batch_size": 32, "compile": False, "progress": False}
    reference = lvm.fit(model, guide, data, seed=member.seed, **(defaults | settings))
    torch.testing.assert_close(member.losses, reference.losses, rtol=1e-5, atol=1e-5)
    for mine, theirs in ((member.model, model), (member.guide, guide)):
        expected = theirs.state_dict()
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


class LaplaceGuide(PyroModule):
    """A linear encoder with dropout, whose draws are made from uniform random numbers."""

    def __init__(self, model):
        super().__init__()
        self.encoder = nn.Linear(6, 2)
        self.dropout = nn.Dropout(0.2)
        self.scale = PyroParam(torch.ones(2), dist.constraints.positive)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            loc = self.dropout(self.encoder(x))
            pyro.sample("z", dist.Laplace(loc, self.scale).to_event(1))


class PlainModel(PyroModule):
    """A linear model, as any user would write it."""

    def __init__(self):
        super().__init__()
        self.decoder = nn.Linear(2, 6)

    def forward(self, x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)


@pytest.mark.parametrize(
    ("model_factory", "guide_factory", "settings"),
    [
        (vae, amortized, {}),
        (partial(vae, learn_noise=False), partial(guides.Amortized, family="full"), {}),
        (vae, amortized, {"batch_size": None, "num_particles": 3, "decay": False}),
        (hierarchy, partial(guides.Layerwise, rate_weights={"z_2": 0.3}, hidden=(5,)), {}),
        (PlainModel, LaplaceGuide, {"batch_size": None}),
    ],
)
@pytest.mark.usefixtures("as_graph")
def test_each_member_is_trained_as_it_is_alone(images, model_factory, guide_factory, settings):
    result = ensemble(model_factory, guide_factory, images, seeds=(3, 4), **settings)
    assert result.compilation == COMPILED
    for member in result.members:
        require_equal_fits(member, model_factory, guide_factory, images, **settings)


@pytest.mark.usefixtures("as_graph")
def test_weights_of_the_grid_and_a_warm_up_weigh_the_rates(images):
    grid = [{"rate_weights": {"z_1": 0.5}}, {"rate_weights": {"z_1": 2.0, "z_2": 0.0}}]
    result = ensemble(hierarchy, layerwise, images, grid=grid, warm_up=linear_warm_up(6))
    for member in result.members:
        loss = LayerwiseELBO(member.point["rate_weights"], warm_up=linear_warm_up(6))
        require_equal_fits(member, hierarchy, layerwise, images, loss=loss)


@pytest.mark.usefixtures("as_graph")
def test_a_frozen_model_stays_as_it_was(images):
    (member,) = ensemble(vae, amortized, images, train="guide").members
    require_equal_fits(member, vae, amortized, images, train="guide")
    with own_randomness(0):
        fresh = vae()
    for mine, theirs in zip(member.model.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.requires_grad


@pytest.mark.usefixtures("as_graph")
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
    settings = {"batch_size": None, "decay": False}
    with pytest.warns(UserWarning, match="1 of 3 members met .* last good state: 1"):
        result = ensemble(Fragile, LaplaceGuide, images, grid=grid, **settings)
    good, bad, other = result.members
    assert (good.steps, bad.steps, other.steps) == (STEPS, 4, STEPS)
    assert math.isclose(bad.model.weight.item(), -0.012, rel_tol=1e-3)  # four steps of Adam
    assert result.losses[1, 4:].isnan().all()
    for member, point in ((good, grid[0]), (other, grid[2])):
        require_equal_fits(
            member, partial(Fragile, **point), LaplaceGuide, images, **settings
        )  # fmt: skip


@pytest.mark.usefixtures("as_graph")
def test_draws_that_depend_on_tensors_leave_the_steps_batched(images):
    class GammaGuide(LaplaceGuide):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Gamma(self.encoder(x).exp(), self.scale).to_event(1))

    class Positive(PlainModel):
        def forward(self, x):
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Gamma(torch.ones(2), 1.0).to_event(1))
                pyro.sample("x", dist.Normal(self.decoder(z), 0.5).to_event(1), obs=x)

    with pytest.warns(UserWarning, match="batched steps: the random numbers of .* depend on"):
        result = ensemble(Positive, GammaGuide, images, batch_size=None, steps=3)
    assert result.losses.isfinite().all()


def test_without_a_compiler_the_steps_are_batched(images, monkeypatch):
    monkeypatch.setattr(program, "has_compiler", lambda: False)
    with pytest.warns(UserWarning, match=r"batched steps: there is no C\+\+ compiler"):
        ensemble(vae, amortized, images, steps=3)


def test_few_steps_are_not_compiled_unless_asked_for(images):
    result = ensemble(vae, amortized, images, steps=3, compile="auto")
    assert "does not pay" in result.compilation


@pytest.mark.usefixtures("as_graph")
def test_the_same_seeds_give_the_same_result_and_leave_others_random_numbers(images):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, again = (ensemble(vae, amortized, images, seeds=(0, 7)) for _ in range(2))
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(again.losses, first.losses)


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler")
@pytest.mark.usefixtures("compiling")
def test_compiled_members_are_trained_as_they_are_alone(images, compile_cache):
    factory = partial(models.LinearGaussian, 1, 6)
    result = ensemble(factory, amortized, images, seeds=(3, 4))
    assert result.compilation == COMPILED
    assert list(compile_cache.glob("*.pt2"))
    for member in result.members:
        require_equal_fits(member, factory, amortized, images)


def test_members_with_rows_of_their_own_take_them_in_their_own_order():
    rows = [Data.of(torch.arange(7.0)[:, None] + 100 * member) for member in range(3)]
    batches = MemberBatches.of_members(rows, 3, (5, 6, 8))
    chosen = batches.block(1, 4)
    assert chosen.shape == (4, 3, 3)
    for member, seed in enumerate((5, 6, 8)):
        order = RowOrder(7, 3, seed)
        for place in range(4):
            expected = rows[member].rows(order.chosen(1 + place)).positional
            assert torch.equal(batches.rows.positional[chosen[place, member]], expected)


def test_members_with_equal_rows_share_them():
    rows = [Data.of(torch.arange(7.0)[:, None]) for _ in range(3)]
    batches = MemberBatches.of_members(rows, 7, (5, 6, 8))
    assert batches.shared
    assert batches.rows.num_rows == 7
