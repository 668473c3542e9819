"""What a measured guide keeps."""

from __future__ import annotations

import pytest
import torch
from pyro.infer.autoguide import AutoMultivariateNormal

import pyrolvm as lvm
from pyrolvm import guides, models
from pyrolvm.core import Data, log_densities
from pyrolvm.inference import Oracles, OracleSettings, iwae_evidence
from pyrolvm.inference.enumeration import layer_sums
from pyrolvm.inference.importance_evidence import many_particles_evidence
from pyrolvm.inference.measuring import Training, measure
from tests.inference.pstar.nets import random_pair


def test_kept_draws_do_not_hold_the_others_in_memory(monkeypatch):
    monkeypatch.setattr("pyrolvm.inference.measuring.kept_draws", lambda *sizes: 8)
    model = models.LinearGaussian(2, 4)
    settings = OracleSettings(0, 50, 0, None, progress=False)
    oracles = Oracles({"q": (model, guides.Exact(model))}, Data.of(torch.randn(5, 4)), settings)
    found, _ = measure("q", Training(torch.empty(0), 0.0), oracles)
    kept = [found.log_weights, *found.posterior.values(), *found.log_likelihood.values()]
    assert [len(each) for each in kept] == [8, 8, 8]
    assert all(each.untyped_storage().nbytes() == 8 * each.numel() for each in kept)


def test_what_is_predicted_in_parts_belongs_to_its_rows(monkeypatch):
    monkeypatch.setattr("pyrolvm.inference.measuring.PREDICTED_CELLS", 100)  # six rows at once
    model = models.LinearGaussian(2, 4, noise_scale=1e-3, learn_noise=False)
    z = torch.randn(20, 2)
    x = model.decoder(z).detach()  # far above the noise: the posterior predicts it again
    settings = OracleSettings(0, 10, 0, None, progress=False)
    oracles = Oracles({"q": (model, guides.Exact(model))}, Data.of(x), settings)
    found, _ = measure("q", Training(torch.empty(0), 0.0), oracles)
    predicted = found.predictive["x"]
    assert predicted.shape == (4, 20, 4)
    assert (predicted - x).abs().max() < 0.02


@pytest.mark.parametrize(
    "model", [models.LinearGaussian(1, 2), models.VAE(1, 2, activation="tanh")]
)
def test_a_guide_over_the_whole_data_set_meets_the_evidence_of_all_data(model):
    x = torch.randn(3, 2)
    found = lvm.score(model, AutoMultivariateNormal(model), x).frame.iloc[0]
    each = lvm.score(model, guides.Amortized(model), x).frame.iloc[0]
    assert found.log_evidence == pytest.approx(3 * each.log_evidence, abs=1e-6)
    assert found.gap > 0


class TestBinaryLayers:
    """BC² is exact where sums are, and rests on fresh draws elsewhere."""

    @pytest.fixture
    def pair(self):
        return random_pair((3, 2), 4)

    def test_small_nets_have_the_overlap_of_sums(self, pair):
        model, guide = pair
        x = model(size=20).detach()
        found = lvm.score(model, guide, x, num_particles=10)
        frame = found.frame.iloc[0]
        overlap = layer_sums(model, guide).overlap(x)
        assert frame.evidence_method == "enumerated"
        assert frame.bc2 == pytest.approx(overlap.mean().item(), abs=1e-12)
        assert frame.bc2_se == pytest.approx(overlap.std().item() / 20**0.5, abs=1e-12)

    def test_others_rest_on_the_tightest_bound(self, pair, monkeypatch):
        model, good = pair
        weak = guides.HelmholtzCoupled(model).double()
        x = model(size=30).detach()
        exact = {n: layer_sums(model, g).overlap(x) for n, g in (("good", good), ("weak", weak))}
        for module in ("measuring", "evidence"):
            name = f"pyrolvm.inference.{module}.can_enumerate"
            monkeypatch.setattr(name, lambda model, guide=None: False)
        found = lvm.compare(
            model, {"good": good, "weak": weak}, x, test=x, train="nothing", num_particles=2000,
            oracle_steps=0, progress=False,
        )  # fmt: skip
        assert found.tree.attrs["evidence_is_bound"] == 1
        assert set(found.frame.evidence_method) <= {"iwae (K=10000, good)", "iwae (K=10000, weak)"}
        for name, overlap in exact.items():
            assert found.frame.loc[name].bc2 == pytest.approx(overlap.mean().item(), rel=0.05)
        assert "≤" in str(found)

    def test_an_overlap_over_a_loose_bound_stays_below_one(self):
        """Of few draws of poor guides; the tightest bound of all is not that of every datum."""
        model, guide = random_pair((40, 20), 30, reach=1.0)
        pairs = {"a": guide, "b": guides.HelmholtzCoupled(model).double()}
        found = lvm.compare(
            model, pairs, model(size=60).detach(), train="nothing", num_particles=20,
            oracle_steps=0, progress=False,
        )  # fmt: skip
        overlap = found.tree["b/per_datum"].bc2.values
        assert overlap.max() == 1.0
        assert overlap.min() < 1.0

    def test_many_particles_in_parts_are_one_bound(self, pair, monkeypatch):
        model, guide = pair
        x = model(size=5).detach()
        monkeypatch.setattr("pyrolvm.inference.importance_evidence.PARTICLES_TIMES_DATA", 5 * 300)
        found = many_particles_evidence(model, guide, x, 20_000, "mine")
        truth = layer_sums(model).log_evidence(x)
        assert found.method == "iwae (K=20000, mine)"
        assert found.is_bound
        assert ((found.value - truth).abs() < 5 * found.standard_error).all()
        weights = log_densities(model, guide, x, num_particles=20_000).log_weights
        at_once = iwae_evidence(weights, "mine")
        torch.testing.assert_close(
            found.standard_error, at_once.standard_error, rtol=0.5, atol=1e-3
        )
