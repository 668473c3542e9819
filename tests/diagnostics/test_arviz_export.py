import ast
from pathlib import Path

import arviz_plots
import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from arviz_stats import loo, summary  # type: ignore[attr-defined]

import pyrolvm.diagnostics
from pyrolvm.core.errors import DataError
from pyrolvm.diagnostics import arviz_export, elbo, pareto_khat, to_datatree

K, N, D, M = 400, 5, 3, 60


@pytest.fixture(autouse=True)
def quiet_figures():
    mpl.use("Agg")
    yield
    mpl.pyplot.close("all")


@pytest.fixture(scope="module")
def tree():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    log_weights = 0.3 * normal(K, N)
    return to_datatree(
        {"z_1": normal(K, N, 2), "z_2": normal(K, N)},
        log_weights,
        pareto_khat(log_weights),
        observed_data={"x": normal(N, D)},
        log_likelihood={"x": 0.2 * normal(K, N)},
        posterior_predictive={"x": normal(100, N, D)},
        prior={"z_1": normal(M, 2), "z_2": normal(M)},
        prior_predictive={"x": normal(M, D)},
        per_datum={"elbo": elbo(log_weights)},
        attrs={"guide": "full: 64"},
    )


class TestGroups:
    def test_dimensions_are_those_of_arviz(self, tree):
        assert tree["posterior"]["z_1"].dims == ("chain", "draw", "datum", "z_1_dim")
        assert tree["posterior"]["z_2"].dims == ("chain", "draw", "datum")
        assert tree["posterior_predictive"]["x"].dims == ("chain", "draw", "datum", "x_dim")
        assert tree["prior"]["z_1"].dims == ("chain", "draw", "z_1_dim")
        assert tree["log_likelihood"]["x"].dims == ("chain", "draw", "datum")
        assert tree["sample_stats"]["log_weight"].dims == ("chain", "draw", "datum")
        assert tree["sample_stats"]["khat"].dims == ("datum",)
        assert tree["observed_data"]["x"].dims == ("datum", "x_dim")
        assert tree["per_datum"]["elbo"].dims == ("datum",)

    def test_every_dimension_has_a_coordinate(self, tree):
        for group in tree.children.values():
            assert set(group.dims) == set(group.coords)

    def test_draws_are_split_into_chains_that_say_they_are_independent(self, tree):
        assert tree["posterior"].sizes["chain"] == 4
        assert tree["posterior"].sizes["draw"] == K // 4
        assert tree["posterior"].attrs["sampling"] == "iid_guide"
        assert tree["prior"].attrs["sampling"] == "iid_model"
        assert tree["posterior"].attrs["inference_library"] == "pyro-ppl"

    def test_absent_groups_are_absent(self):
        small = to_datatree(
            {"z": torch.zeros(8, 2)}, torch.zeros(8, 2), torch.zeros(2),
            observed_data={"x": torch.zeros(2, 1)},
        )  # fmt: skip
        assert set(small.children) == {"posterior", "sample_stats", "observed_data"}

    def test_data_set_as_one_datum_has_no_datum_dimension(self):
        whole = to_datatree(
            {"w": torch.zeros(8, 3)},
            torch.zeros(8, 1),
            torch.tensor([0.2]),
            observed_data={"x": torch.zeros(6, 2)},
            log_likelihood={"x": torch.zeros(8)},
            factorised=False,
        )
        assert all("datum" not in group.dims for group in whole.children.values())
        assert whole["sample_stats"]["log_weight"].dims == ("chain", "draw")
        assert whole["sample_stats"]["khat"].item() == pytest.approx(0.2)

    @pytest.mark.parametrize(
        ("weights", "khat", "factorised"),
        [((8,), (), True), ((8, 2), (3,), True), ((8, 2), (2,), False), ((0, 2), (2,), True)],
    )
    def test_weights_that_do_not_fit_are_refused(self, weights, khat, factorised):
        with pytest.raises(DataError, match="log weights"):
            to_datatree(
                {"z": torch.zeros(8, 2)}, torch.zeros(weights), torch.zeros(khat),
                observed_data={}, factorised=factorised,
            )  # fmt: skip

    def test_posterior_with_other_draws_than_the_weights_is_refused(self):
        with pytest.raises(DataError, match=r"'z' needs the shape \(8, 2, ...\)"):
            to_datatree(
                {"z": torch.zeros(12, 2)}, torch.zeros(8, 2), torch.zeros(2), observed_data={}
            )


class TestArviz:
    def test_summary_gives_moments(self, tree):
        table = summary(tree, var_names=["z_1"], kind="stats", round_to="none")
        mean = tree["posterior"]["z_1"].mean(("chain", "draw")).values.ravel()
        np.testing.assert_allclose(table["mean"].astype(float), mean)
        assert "r_hat" not in table.columns

    def test_loo_counts_each_datum(self, tree):
        result = loo(tree, var_name="x", pointwise=True)
        assert result.n_data_points == N
        assert result.pareto_k.dims == ("datum",)

    @pytest.mark.parametrize(
        "plot", [arviz_plots.plot_dist, arviz_plots.plot_forest, arviz_plots.plot_rank]
    )
    def test_posterior_plots_run(self, plot, tree):
        plot(tree, var_names=["z_1"], coords={"datum": [0]}, backend="matplotlib")

    def test_predictive_and_prior_plots_run(self, tree):
        arviz_plots.plot_ppc_dist(tree, num_samples=10, backend="matplotlib")
        arviz_plots.plot_prior_posterior(tree, var_names=["z_2"], backend="matplotlib")

    def test_khat_plot_runs(self, tree):
        result = loo(tree, var_name="x", pointwise=True)
        arviz_plots.plot_khat(result, backend="matplotlib")


class TestCombine:
    @pytest.fixture
    def combined(self, tree):
        table = xr.Dataset({"gap": ("guide", [0.1, 0.2])}, {"guide": ["full: 64", "a/b"]})
        return arviz_export.combine(
            {"full: 64": tree, "a/b": tree},
            attrs={"data": "circle"},
            extra_groups={"comparison": table},
        )

    def test_each_guide_is_a_child_beside_the_extra_groups(self, combined):
        assert list(combined.children) == ["full: 64", "a.b", "comparison"]
        assert combined["a.b"].attrs["guide"] == "a/b"
        assert combined.attrs == {"data": "circle"}

    def test_child_is_an_arviz_tree(self, combined):
        child = combined["full: 64"]
        summary(child, var_names=["z_2"], kind="stats")
        arviz_plots.plot_dist(
            child, var_names=["z_2"], coords={"datum": [1]}, backend="matplotlib"
        )

    def test_inputs_are_left_alone(self, combined, tree):
        assert tree.parent is None
        assert tree.attrs["guide"] == "full: 64"

    def test_round_trip_is_lossless(self, combined, tmp_path):
        path = arviz_export.save(combined, tmp_path / "all.nc")
        xr.testing.assert_identical(arviz_export.load(path), combined)

    def test_child_saved_alone_is_a_tree(self, combined, tree, tmp_path):
        path = arviz_export.save(combined["full: 64"], tmp_path / "one.nc")
        xr.testing.assert_identical(arviz_export.load(path)["posterior"], tree["posterior"])

    @pytest.mark.parametrize("names", [("comparison",), ("a/b", "a.b")])
    def test_clashing_names_are_refused(self, names, tree):
        with pytest.raises(DataError, match="one name for each guide"):
            arviz_export.combine(
                dict.fromkeys(names, tree), extra_groups={"comparison": xr.Dataset()}
            )


def test_arviz_is_imported_in_one_module_only():
    folder = Path(pyrolvm.diagnostics.__file__).parent
    users = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith("arviz") for name in names):
                users.add(path.name)
    assert users == {"arviz_export.py"}
