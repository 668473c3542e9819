"""Simulated data: the observed argument is found, replaced by draws, and nothing else changes."""

from __future__ import annotations

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine

from pyrolvm import models
from pyrolvm.core import SiteError, log_densities
from pyrolvm.inference.simulation import simulate


def plain(x, scale):
    """Observe x, a copy of it in another shape, under a prior; scale is a covariate."""
    with pyro.plate("data", len(x), dim=-1):
        z = pyro.sample("z", dist.Normal(0.0, 2.0))
        pyro.sample("x", dist.Normal(z, scale), obs=x[:, 0].double())


def test_observations_are_drawn_anew_and_covariates_stay():
    scale = torch.linspace(0.1, 0.9, 5)
    made = simulate(plain, {"x": torch.zeros(5, 1), "scale": scale}, seed=3)
    x, z = made.data.named["x"], made.values["z"]
    assert x.shape == (5, 1)
    assert z.shape == (1, 5)
    assert torch.equal(made.data.named["scale"], scale.double())
    assert ((x[:, 0] - z[0]).abs() < 5 * scale).all()
    assert not torch.equal(x[:, 0], z[0])


def test_the_same_seed_gives_the_same_data_and_leaves_the_user_s_randomness():
    x = torch.randn(4, 1)
    before = torch.random.get_rng_state()
    one, two, other = (simulate(plain, {"x": x, "scale": x[:, 0].abs()}, s) for s in (1, 1, 2))
    assert torch.equal(one.data.named["x"], two.data.named["x"])
    assert not torch.equal(one.data.named["x"], other.data.named["x"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_it_follows_the_law_of_a_model_of_the_zoo():
    torch.manual_seed(0)
    model = models.LinearGaussian(2, 3, noise_scale=0.5)
    made = simulate(model, torch.zeros(20_000, 3), seed=0)
    assert made.values["z"].shape == (1, 20_000, 2)
    x, weight = made.data.positional, model.decoder[0].weight.double()
    covariance = weight @ weight.mT + 0.25 * torch.eye(3)
    assert torch.allclose(x.T.cov(), covariance.detach(), atol=0.15)


def series(x):
    """Sample a chain whose entries are slices of one argument."""
    last = pyro.sample("a", dist.Normal(0.0, 1.0))
    for t in range(len(x)):
        last = pyro.sample(f"x_{t}", dist.Normal(last, 0.1), obs=x[t])


def test_parts_of_an_argument_are_put_together():
    made = simulate(series, torch.zeros(6), seed=1)
    assert made.values["a"].shape == (1,)
    steps = torch.cat([made.values["a"], made.data.positional]).diff()
    assert (steps.abs() < 0.6).all()
    assert steps.unique().numel() == 6


def test_masked_entries_stay_and_discrete_sites_that_are_summed_out_are_dropped():
    def program(x):
        with pyro.plate("data", len(x)):
            k = pyro.sample("k", dist.Bernoulli(0.5), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(10.0 * k, 1.0))
            pyro.sample("x", dist.Normal(z, 1.0).mask(x != 0), obs=x)

    x = torch.tensor([1.0, 0.0, 2.0])
    made = simulate(program, x, seed=0)
    assert list(made.values) == ["z"]
    assert made.data.positional[1] == 0
    assert (made.data.positional != x.double())[[0, 2]].all()


def test_values_have_the_layout_of_log_densities():
    def eight(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("schools", 8):
            theta = pyro.sample("theta", dist.Normal(mu, 1.0))
            pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    def guide(y):
        pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("schools", 8):
            pyro.sample("theta", dist.Normal(0.0, 1.0))

    y = torch.randn(8)
    kept = log_densities(eight, guide, y, num_particles=1, keep_values=True).values
    made = simulate(eight, y, seed=0).values
    assert {n: v.shape for n, v in made.items()} == {n: v.shape for n, v in kept.items()}


def observes_a_transform(x):
    pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(0.0, 1.0).expand(x.shape).to_event(1), obs=x.log())


def adds_a_factor(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.factor("bound", -z)
    pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(1), obs=x)


def takes_a_subsample(x):
    with pyro.plate("data", len(x), subsample_size=2) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x[rows])


def is_scaled(x):
    with poutine.scale(scale=0.5):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    pyro.sample("x", dist.Normal(z, 1.0).expand(x.shape).to_event(1), obs=x)


def masks_a_latent(x):
    with pyro.plate("data", len(x)), poutine.mask(mask=x > 1.5):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z, 1.0), obs=x)


def reads_what_it_observes(x):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    for t in range(1, len(x)):
        pyro.sample(f"x_{t}", dist.Normal(z * x[t - 1], 1.0), obs=x[t])


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (observes_a_transform, "'x' observes, but its value is none of the arguments 'x'"),
        (adds_a_factor, "'bound' is a factor"),
        (takes_a_subsample, "the plate 'data', which takes a part"),
        (is_scaled, "'z' is scaled"),
        (masks_a_latent, "'z' is masked"),
        (reads_what_it_observes, "'x_2' changes when the draws come in"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_the_way_out(program, reason):
    with pytest.raises(SiteError, match="simulate=") as error:
        simulate(program, torch.tensor([1.0, 2.0, 3.0]), seed=0)
    assert reason in str(error.value)
