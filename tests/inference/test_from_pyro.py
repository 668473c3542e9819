import arviz_plots
import matplotlib as mpl
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from arviz_stats import loo, loo_pit, summary  # type: ignore[attr-defined]
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch.distributions import Normal

import pyrolvm as lvm
from pyrolvm import guides
from pyrolvm.core.errors import SettingError, SiteError
from pyrolvm.diagnostics import arviz_export
from pyrolvm.diagnostics.labelling import plate_axes

EFFECTS = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERRORS = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
GROUPS = {
    "posterior", "posterior_predictive", "log_likelihood", "prior", "prior_predictive",
    "observed_data", "sample_stats",
}  # fmt: skip


def schools(y):
    mean = pyro.sample("mean", dist.Normal(0.0, 5.0))
    spread = pyro.sample("spread", dist.HalfCauchy(5.0))
    with pyro.plate("school", 8):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(mean + spread * z, ERRORS.to(mean)), obs=y)


@pytest.fixture(autouse=True)
def quiet_figures():
    mpl.use("Agg")
    yield
    mpl.pyplot.close("all")


@pytest.fixture(scope="module")
def autoguides():
    found = []
    for seed in range(2):
        pyro.clear_param_store()
        pyro.set_rng_seed(seed)
        guide = AutoNormal(schools)
        svi = SVI(schools, guide, pyro.optim.Adam({"lr": 0.1}), Trace_ELBO())
        for _ in range(60):
            svi.step(EFFECTS)
        found.append(guide)
    return found


@pytest.fixture(scope="module")
def chains():
    pyro.set_rng_seed(0)
    kernel = NUTS(schools, max_tree_depth=4)
    mcmc = MCMC(kernel, num_samples=120, warmup_steps=50, disable_progbar=True)
    mcmc.run(EFFECTS)
    return mcmc


@pytest.fixture(scope="module")
def from_svi(autoguides):
    return lvm.from_pyro_svi(schools, autoguides[0], EFFECTS, num_draws=400)


@pytest.fixture(scope="module")
def from_mcmc(chains):
    return lvm.from_pyro_mcmc(chains, data=EFFECTS)


@pytest.fixture(params=["svi", "mcmc"])
def tree(request, from_svi, from_mcmc):
    return {"svi": from_svi, "mcmc": from_mcmc}[request.param]


class TestArvizReadsBoth:
    def test_all_groups_are_there_and_axes_are_named_after_plates(self, tree):
        assert set(tree.children) == GROUPS
        assert tree["posterior"]["mean"].dims == ("chain", "draw")
        for group in ("posterior_predictive", "log_likelihood"):
            assert tree[group]["y"].dims == ("chain", "draw", "school")
        assert tree["observed_data"]["y"].dims == ("school",)

    @pytest.mark.filterwarnings("ignore:Estimated shape parameter")
    def test_loo_and_khat_plot(self, tree):
        result = loo(tree, var_name="y", pointwise=True)
        assert result.n_data_points == 8
        assert -33 < result.elpd < -29.5  # the literature's figure is −30.8 ± 1.4
        arviz_plots.plot_khat(result, backend="matplotlib")

    def test_distributions_and_pairs(self, tree):
        arviz_plots.plot_dist(tree, var_names=["mean", "spread"], backend="matplotlib")
        arviz_plots.plot_pair(tree, var_names=["mean", "spread"], backend="matplotlib")

    @pytest.mark.filterwarnings("ignore:Estimated shape parameter")
    def test_predictive_plots(self, tree):
        arviz_plots.plot_ppc_dist(tree, num_samples=5, backend="matplotlib")
        places = xr.DataTree.from_dict({"loo_pit": loo_pit(tree)})
        arviz_plots.plot_ecdf_pit(
            places, group="loo_pit", sample_dims=["school"], backend="matplotlib"
        )

    def test_netcdf_round_trip_is_lossless(self, tree, tmp_path):
        path = arviz_export.save(tree, tmp_path / "tree.nc")
        xr.testing.assert_identical(arviz_export.load(path), tree)


class TestGuides:
    def test_draws_say_that_they_are_independent(self, from_svi):
        assert from_svi["posterior"].sizes["chain"] == 4
        assert from_svi.attrs["sampling"] == from_svi["posterior"].attrs["sampling"] == "iid_guide"
        table = summary(from_svi, var_names=["mean"], kind="stats")
        assert "r_hat" not in table.columns

    def test_log_likelihood_is_that_of_the_draws(self, from_svi):
        draws = {
            name: torch.from_numpy(each.values) for name, each in from_svi["posterior"].items()
        }
        loc = draws["mean"][..., None] + draws["spread"][..., None] * draws["z"]
        expected = Normal(loc, ERRORS.double()).log_prob(EFFECTS.double())
        np.testing.assert_allclose(from_svi["log_likelihood"]["y"], expected)

    def test_weights_are_joint_less_guide(self, from_svi):
        stats = from_svi["sample_stats"]
        assert stats["khat"].dims == ()
        assert stats["lp"].dims == stats["log_weight"].dims == ("chain", "draw")
        assert (stats["log_weight"] - stats["lp"]).std() > 0.5  # −log q, of ten latents

    def test_refits_are_one_chain_each(self, autoguides):
        tree = lvm.from_pyro_svi(
            schools, autoguides, EFFECTS, num_draws=300, prior=False, posterior_predictive=False
        )
        assert dict(tree["posterior"].sizes) == {"chain": 2, "draw": 300, "school": 8}
        assert tree["sample_stats"]["khat"].dims == ("chain",)
        assert tree["observed_data"]["y"].dims == ("school",)
        assert "prior" not in tree.children
        for chain, guide in enumerate(autoguides):
            loc = guide.locs.mean.item()
            error = guide.scales.mean.item() / 300**0.5
            assert abs(float(tree["posterior"]["mean"][chain].mean()) - loc) < 5 * error

    def test_latent_of_each_datum_has_its_own_dimension(self, linear):
        model, data = linear
        tree = lvm.from_pyro_svi(model, guides.ExactCPA(model), data[:6], num_draws=40)
        assert set(tree.children) == GROUPS
        assert tree["posterior"]["z"].dims == ("chain", "draw", "datum", "z_dim")
        assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "datum", "x_dim")
        assert tree["log_likelihood"]["x"].dims == ("chain", "draw", "datum")
        assert tree["sample_stats"]["khat"].dims == ("datum",)
        assert np.isneginf(tree["sample_stats"]["khat"]).all()

    def test_draws_that_do_not_split_are_refused(self, linear):
        model, data = linear
        with pytest.raises(SettingError, match="50 draws do not split into 4 chains"):
            lvm.from_pyro_svi(model, guides.ExactCPA(model), data, num_draws=50)


class TestChains:
    def test_draws_are_those_of_the_run(self, chains, from_mcmc):
        assert from_mcmc.attrs["sampling"] == from_mcmc["posterior"].attrs["sampling"] == "chains"
        expected = chains.get_samples(group_by_chain=True)["z"]
        np.testing.assert_allclose(from_mcmc["posterior"]["z"], expected, rtol=1e-6)

    def test_divergences_are_marked(self, chains, from_mcmc, monkeypatch):
        assert from_mcmc["sample_stats"]["diverging"].shape == (1, 120)
        monkeypatch.setattr(chains, "diagnostics", lambda: {"divergences": {"chain 0": [3, 119]}})
        found = lvm.from_pyro_mcmc(chains)["sample_stats"]["diverging"].values
        assert np.flatnonzero(found).tolist() == [3, 119]

    def test_without_data_the_draws_alone_come(self, chains):
        tree = lvm.from_pyro_mcmc(chains)
        assert set(tree.children) == {"posterior", "sample_stats"}
        assert tree["posterior"]["z"].dims == ("chain", "draw", "z_dim")

    def test_run_without_draws_is_refused(self):
        mcmc = MCMC(NUTS(schools), num_samples=5, disable_progbar=True)
        with pytest.raises(SiteError, match=r"mcmc\.run"):
            lvm.from_pyro_mcmc(mcmc)


class TestPlateAxes:
    def test_name_that_is_taken_counts_as_an_event(self):
        arrays = {"school": np.zeros((2, 8)), "x": np.zeros((2, 8, 3))}
        plates = {"school": ("school",), "x": ("school",)}
        found = plate_axes(arrays, plates, ("draw",))
        assert found["school"][0] == ("draw", "school_dim")
        assert found["x"][0] == ("draw", "x_dim_0", "x_dim_1")

    def test_plate_of_two_sizes_is_named_once(self):
        arrays = {"a": np.zeros(3), "b": np.zeros(4)}
        found = plate_axes(arrays, {"a": ("data",), "b": ("data",)}, ())
        assert (found["a"][0], found["b"][0]) == (("datum",), ("b_dim",))
