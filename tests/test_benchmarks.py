"""The rivals of the benchmarks do the same work: equal draws give equal losses and weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from torch.testing import assert_close

from benchmarks.__main__ import main
from benchmarks.growth import exponent
from benchmarks.interleaved import Timed, in_turns, ratios
from benchmarks.svi_steps.belief_net import BeliefNet
from benchmarks.svi_steps.cases import CASES
from benchmarks.svi_steps.hierarchy import Hierarchy
from benchmarks.svi_steps.numpyro_ways import numpyro_svi
from benchmarks.svi_steps.vae import VAE
from benchmarks.svi_steps.ways import ByHand, ByHandCompiled, Compiled, PyroSVI, Uncompiled

SMALL = {
    "tiny-vae": (2, lambda: VAE(2, (5, 4), 2, is_gaussian=True)),
    "vae-128": (6, lambda: VAE(6, (5,), 3, is_gaussian=False)),
    "hierarchical-vae": (6, lambda: Hierarchy(6, (4, 3, 2), (5, 4, 3))),
    "belief-net": (6, lambda: BeliefNet((6, 5, 4), 3)),
}


def small(name):
    """A benchmark's case, but for its sizes."""
    obs_dim, networks = SMALL[name]
    num_particles = min(3, CASES[name].num_particles)
    return dataclasses.replace(
        CASES[name], networks=networks, obs_dim=obs_dim, batch_size=7, num_particles=num_particles
    )


@pytest.fixture(params=SMALL)
def case(request):
    return small(request.param)


@pytest.fixture(autouse=True)
def own_store():
    with pyro.get_param_store().scope():
        yield


def trained(way, case):
    """Losses and weights of five steps, from the same weights and draws for every way."""
    torch.manual_seed(0)
    taken = way(case)
    losses = []
    for step in range(5):
        torch.manual_seed(1 + step)
        losses.append(taken.take(1))
    weights = getattr(taken, "parameters", None) or dict(taken.networks.named_parameters())
    return losses, {name: weight.detach() for name, weight in weights.items()}


def assert_same_steps(way, case):
    expected_losses, expected = trained(ByHand, case)
    losses, weights = trained(way, case)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    assert_close(weights, expected, rtol=1e-3, atol=1e-5)


def test_our_steps_are_those_by_hand(case):
    assert_same_steps(Uncompiled, case)


@pytest.mark.parametrize("name", ["tiny-vae", "vae-128", "hierarchical-vae"])
def test_pyros_steps_are_those_by_hand(name):
    assert_same_steps(PyroSVI, small(name))


@pytest.mark.slow
@pytest.mark.parametrize("way", [ByHandCompiled, Compiled])
def test_compiled_steps_are_those_by_hand(way, case):
    assert_same_steps(way, case)


@pytest.mark.parametrize("name", ["tiny-vae", "vae-128", "hierarchical-vae"])
def test_numpyros_loss_is_that_by_hand_in_the_mean(name):
    jax = pytest.importorskip("jax")
    pytest.importorskip("numpyro")
    case = small(name)
    networks, x = case.networks(), case.batch()
    svi = numpyro_svi(networks)
    rows = jax.numpy.asarray(x.numpy())
    state = svi.init(jax.random.PRNGKey(0), rows)
    keys = jax.random.split(jax.random.PRNGKey(1), 2000)
    theirs = np.asarray(
        jax.vmap(lambda key: svi.evaluate(state._replace(rng_key=key), rows))(keys)
    )
    with torch.no_grad():
        ours = np.array([networks(x).item() for _ in range(2000)])
    error = np.sqrt((theirs.var() + ours.var()) / 2000)
    assert abs(theirs.mean() - ours.mean()) < 5 * error


def test_ratios_are_taken_within_a_round():
    rounds = pd.DataFrame(
        {"round": [0, 0, 1, 1], "way": ["a", "b"] * 2, "cpu_us": [1.0, 3.0, 10.0, 20.0]}
    )
    found = ratios(rounds, "a").loc["b"]
    assert (found["ratio"], found["low"], found["high"]) == (2.5, 2.0, 3.0)


def test_every_way_is_timed_in_every_round():
    taken = {"one": 0, "ten": 0}

    def take(name):
        def steps(number):
            taken[name] += number
            sum(range(20_000))

        return steps

    ways = {"one": Timed(take("one")), "ten": Timed(take("ten"), at_once=10)}
    found = in_turns(ways, rounds=2, seconds=1e-3)
    assert set(found.groupby("way").size()) == {2}
    assert (found[found["way"] == "ten"]["steps"] % 10 == 0).all()
    assert (found["cpu_us"] > 0).all()


def test_the_exponent_of_a_power_is_found():
    sizes = np.array([10.0, 30.0, 100.0])
    assert exponent(sizes, 3 * sizes**1.7) == pytest.approx(1.7)


def test_an_unknown_part_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "tiny"])
    assert "no such part: tiny; choose from tiny-vae, vae-128" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_writes_tables_rounds_and_figures(tmp_path):
    main(["--quick", "--only", "tiny-vae,many-fits,growth,memory", "--out", str(tmp_path)])
    page = (tmp_path / "speed.md").read_text()
    for part in ("Steps", "Starts", "Many fits", "Growth", "Memory"):
        assert f"## {part}" in page
    assert "threads of torch | 1" in page
    for figure in ("speed.svg", "cost.svg"):
        assert (tmp_path / figure).read_text().endswith("</svg>\n")
    rounds = pd.read_csv(tmp_path / "steps.csv")
    assert {"by hand, eager", "Pyro SVI", "PyroLVM, compiled"} <= set(rounds["way"])
    assert set(rounds["round"]) == {0, 1}
