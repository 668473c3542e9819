import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.ops.indexing import Vindex
from torch.distributions import Normal

from pyrolvm.core import log_densities
from pyrolvm.core.errors import SiteError
from pyrolvm.inference.replaying import replaying

X = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 1.1]])


def local(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("x", dist.Normal(z[..., None], torch.tensor([1.0, 2.0])).to_event(1), obs=x)


def local_guide(x):
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(x.mean(-1), 0.5))


def two_plates(x):
    loc = pyro.sample("loc", dist.Normal(0.0, 3.0))
    with pyro.plate("column", 2, dim=-1):
        scale = pyro.sample("scale", dist.LogNormal(0.0, 0.3))
        with pyro.plate("data", len(x), dim=-2):
            pyro.sample("x", dist.Normal(loc, scale), obs=x)


def two_plates_guide(x):
    pyro.sample("loc", dist.Normal(x.mean(), 0.5))
    with pyro.plate("column", 2, dim=-1):
        pyro.sample("scale", dist.LogNormal(0.0, 0.1))


@config_enumerate
def mixture(x):
    with pyro.plate("component", 2):
        loc = pyro.sample("loc", dist.Normal(0.0, 5.0))
    with pyro.plate("data", len(x)):
        label = pyro.sample("label", dist.Categorical(torch.tensor([0.3, 0.7])))
        pyro.sample("x", dist.Normal(Vindex(loc.unsqueeze(-2))[..., label], 1.0), obs=x)


def mixture_guide(x):
    with pyro.plate("component", 2):
        pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 0.3))


def with_draws(model, guide, data, number=5):
    densities = log_densities(model, guide, data, num_particles=number, keep_values=True)
    return densities, densities.values


class TestLogLikelihood:
    def test_rows_sum_to_the_likelihood_that_the_weights_have(self):
        for model, guide in ((local, local_guide), (two_plates, two_plates_guide)):
            densities, values = with_draws(model, guide, X)
            with replaying(model, X, guide=guide) as replay:
                rows = replay.log_likelihood(replay.in_trace_layout(values))["x"]
            assert rows.shape == (5, 3)
            total = densities.likelihood["x"]
            torch.testing.assert_close(
                rows.sum(-1, keepdim=True) if total.shape[1] == 1 else rows, total
            )

    def test_plates_that_are_no_data_plate_keep_their_entries(self):
        def model(x):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
            with pyro.plate("school", len(x)):
                pyro.sample("x", dist.Normal(loc, 2.0), obs=x)

        x = X[:, 0]
        with replaying(model, x, drawn=("loc",)) as replay:
            loc = torch.tensor([0.5, -0.5], dtype=torch.float64)
            found = replay.log_likelihood(replay.from_runs({"loc": loc}))["x"]
            assert replay.observed["x"].plates == ("school",)
        torch.testing.assert_close(found, Normal(loc[:, None], 2.0).log_prob(x.double()))

    def test_discrete_sites_are_summed_out_row_by_row(self):
        _, values = with_draws(mixture, mixture_guide, X[:, 0])
        with replaying(mixture, X[:, 0], guide=mixture_guide) as replay:
            found = replay.log_likelihood(replay.in_trace_layout(values))["x"]
        each = Normal(values["loc"][:, None], 1.0).log_prob(X[:, :1].double())
        weights = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
        torch.testing.assert_close(found, (each + weights).logsumexp(-1))

    def test_program_with_fixed_shapes_runs_one_draw_after_another(self):
        def fixed(x):
            loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
            with pyro.plate("data", len(x)):
                pyro.sample("x", dist.Normal(loc.expand(3).clone().reshape(3), 1.0), obs=x)

        x, loc = X[:, 0], torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        with replaying(fixed, x, drawn=("loc",)) as replay:
            held = replay.from_runs({"loc": loc})
            found = replay.log_likelihood(held)["x"]
            new = torch.cat([part["x"] for part in replay.replicates(held, 4)])
        torch.testing.assert_close(found, Normal(loc[:, None], 1.0).log_prob(x.double()))
        assert new.shape == (4, 3)


class TestPredictions:
    def test_new_data_follow_the_draws_and_not_the_observations(self):
        values = {"z": torch.tensor([[50.0, -50.0, 0.0]]).double().repeat(2000, 1)}
        with replaying(local, X, guide=local_guide) as replay:
            held = replay.in_trace_layout(values)
            new = torch.cat([part["x"] for part in replay.replicates(held, 2000)])
        assert new.shape == (2000, 3, 2)
        error = 2.0 / math.sqrt(2000)
        expected = torch.tensor([50.0, -50.0, 0.0]).double()[:, None].expand(3, 2)
        assert ((new.mean(0) - expected).abs() < 5 * error).all()
        assert new.std(0).mean(0).tolist() == pytest.approx([1.0, 2.0], rel=0.05)

    def test_prior_draws_are_those_of_the_model(self):
        with replaying(two_plates, X, guide=two_plates_guide) as replay:
            latents, observed = replay.prior(4000)
        assert latents["scale"].shape == (4000, 2)
        assert observed["x"].shape == (4000, 3, 2)
        assert abs(latents["loc"].mean().item()) < 5 * 3 / math.sqrt(4000)
        assert latents["loc"].std().item() == pytest.approx(3.0, rel=0.06)

    def test_observed_sites_that_depend_on_one_another_are_all_drawn_anew(self):
        def chain(x):
            scale = pyro.sample("scale", dist.LogNormal(0.0, 0.1))
            first = pyro.sample("first", dist.Normal(0.0, scale), obs=x[0])
            pyro.sample("second", dist.Normal(first, 0.01), obs=x[1])

        with replaying(chain, torch.tensor([100.0, 100.0]), drawn=("scale",)) as replay:
            held = replay.from_runs({"scale": torch.ones(200).double()})
            new = next(iter(replay.replicates(held, 200)))
        assert new["first"].abs().max() < 10
        assert (new["second"] - new["first"]).abs().max() < 0.1


def test_values_come_back_as_they_went_in():
    for model, guide in ((local, local_guide), (two_plates, two_plates_guide)):
        _, values = with_draws(model, guide, X)
        with replaying(model, X, guide=guide) as replay:
            back = replay.values(replay.in_trace_layout(values))
        for name, value in values.items():
            torch.testing.assert_close(back[name], value)


def test_masked_entries_are_marked():
    keeps = torch.tensor([[True, False], [True, True], [False, True]])

    def masked(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            law = dist.Normal(z[..., None], torch.ones(2)).mask(keeps).to_event(1)
            pyro.sample("x", law, obs=x)

    def by_rows(x):
        with pyro.plate("data", len(x)), poutine.mask(mask=keeps[:, 0]):
            pyro.sample("x", dist.Normal(x.new_zeros(2), 1.0).to_event(1), obs=x)

    with replaying(masked, X, guide=local_guide) as replay:
        assert torch.equal(replay.observed["x"].keeps, keeps)
    with replaying(by_rows, X, guide=lambda x: None) as replay:
        assert torch.equal(replay.observed["x"].keeps, keeps[:, :1].expand(3, 2))


def test_draws_of_another_model_are_refused():
    with replaying(two_plates, X, drawn=("loc", "scale")) as replay:
        with pytest.raises(SiteError, match=r"'scale' should have the shape \(2,\).*\(5,\)"):
            replay.from_runs({"loc": torch.zeros(4), "scale": torch.zeros(4, 5)})
        with pytest.raises(SiteError, match=r"'scale'.*there are none"):
            replay.from_runs({"loc": torch.zeros(4)})
