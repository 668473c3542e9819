"""Mean-field guides of two classics, judged against NUTS as the literature judges them.

Independent normals fail on the centred forms of eight schools and of Neal's funnel, whose scale is
a latent of its own, and do well on the non-centred ones.

References:
    Yao, Vehtari, Simpson & Gelman (2018), Yes, but Did It Work?: Evaluating Variational Inference,
    section 4.3: the k-hat of eight schools is above 0.7 centred and below it non-centred.
"""

from __future__ import annotations

import json

import pyro
import pytest
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam  # type: ignore[attr-defined]

import pyrolvm as lvm
from pyrolvm.diagnosis.effort import Effort
from tests.pairs.collection import PAIRS

pytestmark = pytest.mark.slow

STEPS = 3000
AGAINST_NUTS = Effort(
    num_annealed=0, num_reference=1, reference_seconds=1200.0, num_gap=1, num_simulations=0,
    num_refits=0,
)  # fmt: skip


@pytest.fixture(scope="module")
def report():
    """The diagnosis of a pair of the collection, trained until its ELBO stands still."""
    made = {}

    def of(name):
        if name not in made:
            pyro.clear_param_store()
            pyro.set_rng_seed(0)
            pair = PAIRS[name]()
            args, named = pair.arguments()
            optimizer = ClippedAdam({"lr": 0.05, "lrd": 0.01 ** (1 / STEPS)})
            bound = Trace_ELBO(num_particles=10, vectorize_particles=True, max_plate_nesting=1)
            svi = SVI(pair.model, pair.guide, optimizer, bound)
            for _ in range(STEPS):
                svi.step(*args, **named)
            made[name] = lvm.diagnose(
                pair.model, pair.guide, pair.data, effort=AGAINST_NUTS, progress=False
            )
        return made[name]

    return of


def levels(report, diagnostic):
    return {each.level for each in report.findings if each.diagnostic == diagnostic}


CENTRED = ("eight-schools-centred", "funnel-centred")
NON_CENTRED = ("eight-schools-non-centred", "funnel-non-centred")


@pytest.mark.parametrize("name", CENTRED + NON_CENTRED)
def test_the_reference_has_converged(report, name):
    reference = report(name).tree["reference"]
    assert reference.attrs["method"] == "NUTS"
    assert reference.attrs["rhat"] < 1.01
    assert reference.attrs["ess"] > 400
    assert json.loads(report(name).tree.attrs["global_sites"])


@pytest.mark.parametrize("name", CENTRED)
def test_independent_normals_are_not_trusted_in_the_centred_form(report, name):
    verdict = report(name).verdict
    assert verdict.answer == "not trusted"
    assert "bad" in levels(report(name), "moments")
    assert len(verdict.reasons) <= 6
    assert 1 <= len(verdict.advice) <= 4


@pytest.mark.parametrize("name", NON_CENTRED)
def test_they_do_well_in_the_non_centred_form(report, name):
    assert report(name).verdict.answer != "not trusted"
    assert "bad" not in levels(report(name), "moments") | levels(report(name), "two_sample")


def test_khat_of_eight_schools_falls_as_published(report):
    centred, non_centred = (
        report(name).per_datum.khat.item()
        for name in ("eight-schools-centred", "eight-schools-non-centred")
    )
    assert centred > 0.7 > non_centred


def test_the_guide_of_the_non_centred_funnel_is_the_posterior(report):
    """What asks for care there is the program alone: nothing is observed."""
    found = report("funnel-non-centred")
    assert levels(found, "moments") == {"good"}
    wanting = [each for each in found.findings if each.level in ("care", "bad")]
    assert all(
        "its posterior, as this program states it, is its prior" in f.sentence for f in wanting
    )
