"""The answer follows from the numbers, and claims no more than they hold."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from pyrolvm.plots.comparison import read_comparison
from pyrolvm.report.answer import answer
from pyrolvm.report.differences import difference


def small(gaps, *, attrs=None, **columns):
    """A tree with per-datum gaps, shape (guides, data)."""
    gaps = np.asarray(gaps, dtype=float)
    names = [f"g{index}" for index in range(len(gaps))]
    error = gaps.std(axis=1, ddof=1) / np.sqrt(gaps.shape[1])
    evidence = np.full(len(gaps), -5.0)
    table = {
        "elbo": evidence - gaps.mean(axis=1),
        "log_evidence": evidence,
        "gap": gaps.mean(axis=1),
        "gap_se": error,
        **columns,
    }
    groups = {
        "/table": xr.Dataset(
            {key: ("guide", np.asarray(value)) for key, value in table.items()},
            coords={"guide": names},
        )
    }
    for name, gap in zip(names, gaps, strict=True):
        groups[f"/{name}/per_datum"] = xr.Dataset({"gap": ("datum", gap)})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = attrs or {}
    return tree


def whole(gaps, **options):
    """A tree whose only datum is the data set as a whole."""
    tree = small([[gap, gap] for gap in gaps], **options)
    tree["table"]["gap_se"][:] = np.inf
    for name, gap in zip(tree["table"]["guide"].values, gaps, strict=True):
        tree[f"{name}/per_datum"] = xr.DataTree(xr.Dataset({"gap": ((), gap)}))
    return tree


NOISE = np.random.default_rng(0).normal(size=50)


class TestHeadline:
    def test_names_the_nearest_that_is_not_exact(self, tree):
        text = "".join(answer(tree).headline)
        assert text.startswith("Of the guides that are not exact, flow comes nearest")

    def test_a_bound_says_at_least(self):
        tree = small([2 + 0.1 * NOISE, 1 + 0.1 * NOISE], attrs={"evidence_is_bound": 1})
        assert "at least 1.0" in "".join(answer(tree).headline)

    def test_a_gap_within_two_errors_is_not_distinguishable(self):
        tree = small([0.01 + NOISE])
        assert "not distinguishable from the exact posterior" in "".join(answer(tree).headline)

    def test_a_bound_never_shows_exactness(self):
        tree = small([0.01 + NOISE], attrs={"evidence_is_bound": 1})
        assert "a bound cannot show that it is exact" in "".join(answer(tree).headline)

    def test_only_exact_guides(self):
        tree = small([np.zeros(5)], khat_median=[-np.inf])
        assert "".join(answer(tree).headline) == "g0 is the exact posterior: its gap is 0."


class TestOneDatum:
    def test_an_unknown_error_is_not_read_as_a_large_one(self):
        text = "".join(answer(whole([3.25])).headline)
        assert text == "g0 is 3.250 nats away from the exact posterior of the whole data set."

    @pytest.mark.parametrize("gap", [1e-9, -0.01])
    def test_no_gap_is_not_distinguishable(self, gap):
        assert "not distinguishable" in "".join(answer(whole([gap])).headline)

    def test_nothing_is_said_per_datum(self):
        columns = {"khat_share_above": [1.0, 1.0], "khat_median": [0.9, 1.2]}
        tree = whole([3.0, 1.0], ms_per_datum=[1.0, 2.0], parameters=[3, 4], **columns)
        text = str(answer(tree))
        assert "a datum" not in text
        assert "ms" not in text
        assert "%" not in text
        assert "±" not in text
        assert "buys, in nats for the data set as a whole: 2.000 from g0" in text
        assert "g0 (0.90), g1 (1.2)" in text
        assert "no standard error" in text

    def test_a_single_row_has_no_errors_either(self):
        tree = small([[1.5, 1.5]])
        tree["table"]["gap_se"][:] = np.inf
        assert "A single datum was scored" in answer(tree).caveat


class TestDifferences:
    def test_are_paired(self):
        """Gaps that vary by 10 nats over data differ clearly by 0.1 if they do so everywhere."""
        tree = small([10 * NOISE + 20.1 + 0.01 * NOISE[::-1], 10 * NOISE + 20])
        gain = difference(read_comparison(tree), "g0", "g1")
        assert gain.is_clear
        assert gain.value == pytest.approx(0.1, abs=0.02)

    def test_without_per_datum_gaps_errors_add(self):
        tree = small([2 + NOISE, 1 + NOISE])
        for name in ("g0", "g1"):
            del tree.children[name].children["per_datum"]["gap"]
        gain = difference(read_comparison(tree), "g0", "g1")
        error = float(tree["table"]["gap_se"][0])
        assert gain.standard_error == pytest.approx(np.sqrt(2) * error)

    def test_a_tie_is_called_not_distinguishable(self):
        tree = small([1 + NOISE, 1.01 + NOISE[::-1]])
        assert any("Not distinguishable from" in "".join(one) for one in answer(tree).statements)


class TestLoss:
    def parts(self, approximation, amortization, error=0.01, **attrs):
        total = approximation + amortization
        columns = {
            "approximation_gap": [approximation],
            "approximation_gap_se": [error],
            "amortization_gap": [amortization],
            "amortization_gap_se": [error],
        }
        return str(answer(small([total + 0.01 * NOISE], attrs=attrs, **columns)))

    def test_approximation(self):
        assert "g0 loses mostly by approximation" in self.parts(1.0, 0.1)

    def test_amortization(self):
        assert "g0 loses mostly by amortization" in self.parts(0.1, 1.0)

    def test_equal_parts(self):
        assert "about equally" in self.parts(0.50, 0.51)

    def test_no_part(self):
        assert "no part of the gap" in self.parts(0.01, 0.01)

    def test_a_bound_does_not_blame_the_encoder(self):
        text = self.parts(0.1, 1.0, evidence_is_bound=1)
        assert "may lose by either" in text
        assert "loses mostly by amortization" not in text


class TestWarnings:
    def test_untrusted_weights_are_named(self, tree):
        assert "amortized:diagonal (58 %)" in str(answer(tree))

    def test_different_models_are_named(self):
        tree = small([1 + NOISE, 2 + NOISE])
        tree["table"]["log_evidence"][1] = -4.0
        assert "do not serve the same model" in str(answer(tree))

    def test_bounds_of_different_tightness_are_ranked_by_elbo(self):
        tree = small([1 + NOISE, 2 + NOISE], attrs={"evidence_is_bound": 1})
        tree["table"]["log_evidence"][1] = -4.0
        assert "ranked by their ELBO" in str(answer(tree))

    def test_one_training_run_is_admitted(self, tree):
        assert "another seed" in answer(tree).caveat
