"""Reference draws against closed forms, and the refusals."""

from __future__ import annotations

import math

import pyro
import pytest
import torch
from pyro.distributions import Gamma, Normal, Poisson
from scipy import stats

from pyrolvm.core import DataError
from pyrolvm.core.errors import SettingError
from pyrolvm.inference.reference import reference_draws

COUNTS = torch.tensor([0.0, 3.0, 1.0, 12.0, 40.0])


def gamma_poisson(x):
    with pyro.plate("data", len(x)):
        rate = pyro.sample("rate", Gamma(2.0, 0.5))
        pyro.sample("x", Poisson(rate), obs=x)


def two_sided(x):
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", Normal(0.0, 2.0))
        pyro.sample("x", Normal(z.square(), 0.3), obs=x)


def neal(x):
    v = pyro.sample("v", Normal(0.0, 3.0))
    with pyro.plate("dims", 4):
        pyro.sample("z", Normal(0.0, (v / 2).exp()))
    pyro.sample("x", Normal(v * 0.0, 1.0).expand([1]).to_event(1), obs=x)


def hidden_funnel(x):
    """The same funnel, written so that no other form of it is at hand."""
    v = pyro.sample("v", Normal(0.0, 3.0))
    with pyro.plate("dims", 4):
        z = pyro.sample("z", Normal(0.0, 30.0))
        pyro.factor("prior", Normal(0.0, (v / 2).exp()).log_prob(z))
    pyro.sample("x", Normal(v * 0.0, 1.0).expand([1]).to_event(1), obs=x)


@pytest.fixture(scope="module")
def counted():
    """Chains over two of five data at once."""
    return reference_draws(
        gamma_poisson, COUNTS, rows=[3, 0], num_draws=800, num_warmup=60, seed=1
    )


def test_exact_draws_have_the_moments_of_the_posterior(linear):
    model, x = linear
    found = reference_draws(model, x, rows=[7, 2], num_draws=4000)
    posterior = model.posterior(x[[7, 2]].double())
    sd = posterior.variance.sqrt()
    assert found.method == "exact"
    assert found.is_usable
    assert found.draws.shape == (4000, 2, 2)
    assert ((found.draws.mean(0) - posterior.mean).abs() < 5 * sd / math.sqrt(4000)).all()
    assert found.draws.std(0).sub(sd).abs().max() < 5 * (sd / math.sqrt(8000)).max()


def test_chains_over_several_data_agree_with_each_posterior(counted):
    assert counted.is_usable, counted.reason
    assert counted.method == "NUTS"
    assert counted.rows == (3, 0)
    draws = counted.independent().exp()  # the rate is positive: its coordinate is the logarithm
    assert len(draws) > 300
    for datum, x in enumerate(COUNTS[[3, 0]].tolist()):
        known = stats.gamma(2.0 + x, scale=1 / 1.5)
        assert stats.kstest(draws[:, datum, 0].numpy(), known.cdf).pvalue > 1e-4


def test_data_in_one_chain_are_independent(counted):
    draws = counted.draws[..., 0]
    correlation = torch.corrcoef(draws.mT) - torch.eye(2)
    assert correlation.abs().max() < 5 / math.sqrt(counted.ess.min())


@pytest.mark.slow
def test_chains_agree_with_the_exact_posterior(linear):
    model, x = linear
    found = reference_draws(
        model, x, rows=range(4), method="NUTS", num_draws=600, num_warmup=100, seed=2
    )
    posterior = model.posterior(x[:4].double())
    error = (found.draws.mean(0) - posterior.mean) / posterior.variance.sqrt()
    assert found.is_usable, found.reason
    assert (error.abs() < 5 / found.ess.sqrt()).all()
    spread = found.draws.var(0) / posterior.variance
    assert ((spread - 1).abs() < 5 * (2 / found.ess).sqrt()).all()


def test_modes_far_apart_are_refused_by_name():
    found = reference_draws(
        two_sided, torch.tensor([4.0, 9.0]), rows=[1], num_draws=200, num_warmup=30, seed=3
    )
    assert not found.is_usable
    assert "'z'" in found.reason
    assert "R-hat" in found.reason
    assert found.findings()[0].level == "unknown"
    assert not found.converged.any()


@pytest.mark.slow
def test_a_funnel_is_sampled_in_its_other_form():
    found = reference_draws(neal, torch.zeros(1), num_draws=1000, num_warmup=100, seed=4)
    assert found.is_usable, found.reason
    assert found.form == "non-centred"
    v = found.draws[:, 0, 0]
    assert v.mean().abs() < 5 * 3 / found.ess[0, 0].sqrt()
    assert abs(v.std() - 3) < 5 * 3 / (2 * found.ess[0, 0]).sqrt()
    scaled = found.draws[:, 0, 1:] / (v[:, None] / 2).exp()
    assert stats.kstest(scaled[::2, 0].numpy(), "norm").pvalue > 1e-4


@pytest.mark.slow
def test_a_funnel_without_another_form_is_refused():
    found = reference_draws(
        hidden_funnel, torch.zeros(1), num_draws=200, max_draws=200, num_warmup=20,
        max_seconds=60.0, seed=5,
    )  # fmt: skip
    assert not found.is_usable
    assert "refused" in found.reason or "no reference" in found.reason
    assert not found.converged.any()


def test_a_limit_that_passes_during_warm_up_leaves_no_draws():
    found = reference_draws(gamma_poisson, COUNTS, max_seconds=0.0)
    assert len(found.draws) == 0
    assert "not warm" in found.reason
    assert found.dataset().sizes["draw"] == 0


def test_the_data_set_holds_draws_of_reference_and_guide(counted):
    data = counted.dataset(counted.draws[:10] + 1)
    assert data["reference"].sizes == {"draw": 800, "datum": 2, "coordinate": 1}
    assert data["guide"].sizes["guide_draw"] == 10
    assert data.attrs["method"] == "NUTS"
    assert list(data["datum"].values) == [3, 0]


def test_exact_draws_of_an_unknown_posterior_are_refused():
    with pytest.raises(SettingError, match="gamma_poisson"):
        reference_draws(gamma_poisson, COUNTS, method="exact")


@pytest.mark.parametrize("rows", [[5], [-1], [0, 0], []])
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(DataError, match="rows"):
        reference_draws(gamma_poisson, COUNTS, rows=rows)
