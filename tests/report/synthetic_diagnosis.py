"""A made-up diagnosis with every group: a mean-field guide that is too narrow on four latents."""

from __future__ import annotations

import json

import numpy as np
import torch
import xarray as xr

from pyrolvm.diagnostics.diagnosis_tree import findings_dataset
from pyrolvm.diagnostics.finding import Finding
from pyrolvm.diagnostics.moments import compare_moments
from pyrolvm.diagnostics.prediction import Checks, LeaveOneOut, Prediction
from pyrolvm.diagnostics.two_sample import two_sample_tests
from pyrolvm.inference.calibration.calibration import Calibration
from pyrolvm.inference.reference.result import Reference

SEED = 5
SIMULATIONS, RANK_DRAWS, DRAWS, CHOSEN = 200, 99, 400, 3
EVIL = "<script>alert('name')</script>&amp;</style>"

BAD = (
    Finding("importance", "k-hat, largest", 1.12, 0.17, "", "bad",
            "The importance weights of 23 of 60 data have k-hat above 0.67; the largest is 1.12, "
            "at datum 17.", None, "Do not reweight the draws of this guide."),
    Finding("importance", "ESS, median", 31.0, 4.0, "draws", "care",
            "Of 1,000 draws, 31 count at the median datum."),
    Finding("moments", "log sd ratio, mean", -0.61, 0.02, "", "bad",
            "At z[0] the guide's standard deviation is 0.54 of the posterior's.", "too narrow",
            "Fit a family with a full covariance: AutoMultivariateNormal, or "
            'guides.Amortized(model, family="full").'),
    Finding("moments", "mean error, largest", 0.21, 0.05, "posterior sd", "care",
            "At z[3] of datum 17 the guide's mean is 0.21 posterior standard deviations off.",
            "shifted", "Train longer, with a smaller step at the end."),
    Finding("moments", "correlation error, largest", 0.83, 0.03, "", "bad",
            "The posterior correlates z[0] and z[1] by 0.83, the guide by 0.",
            "ignores correlation",
            "Fit a family with a full covariance: AutoMultivariateNormal, or "
            'guides.Amortized(model, family="full").'),
    Finding("two_sample", "C2ST, mean", 0.71, 0.01, "accuracy", "bad",
            "A classifier tells 71 % of the draws apart; 54 % is what chance allows."),
    Finding("calibration", "SBC, smallest p", 1e-7, np.nan, "", "bad",
            "Ranks of z[0] are not uniform (p = 1e-7): the guide is overconfident.", "too narrow"),
    Finding("calibration", "coverage of 90 % sets", 0.71, 0.03, "share", "bad",
            "Sets that claim 90 % hold 71 % of the true latents.", "too narrow"),
    Finding("gaps", "gap", 1.42, 0.06, "nats", "bad",
            "The guide is 1.42 nats away, 1.10 by its family and 0.32 by its encoder."),
    Finding("gaps", "amortization gap", 0.32, 0.03, "nats", "care",
            "A better encoder would win 0.32 nats.", "encoder", "Widen the encoder."),
    Finding("evidence", "log p(x), mean", -14.27, 0.11, "nats", "good",
            "log p(x) by annealed importance sampling, with a sandwich of 0.04 nats."),
    Finding("prediction", "p of the largest value", 0.002, 0.001, "", "care",
            "The data hold larger values than the model predicts.", "model misfit",
            "Give the likelihood heavier tails."),
    Finding("prediction", "elpd by LOO", -1290.0, 21.0, "nats", "unknown",
            "LOO cannot be trusted: Pareto k is above 0.7 for 9 of 60 data."),
)  # fmt: skip
GOOD = (
    Finding("importance", "k-hat, largest", 0.31, 0.13, "", "good",
            "The importance weights of all 60 data can be averaged (k-hat at most 0.31)."),
    Finding("moments", "log sd ratio, mean", -0.01, 0.02, "", "good",
            "The guide is as wide as the posterior."),
    Finding("calibration", "SBC", np.nan, np.nan, "", "unknown",
            "Calibration was not run: it would need 300 refits (effort=\"full\" runs it)."),
)  # fmt: skip


def diagnosis_tree(findings=BAD, *, num_data=60, names=("z[0]", "z[1]", "z[2]", "z[3]")):
    """The whole tree; ``names`` are the coordinates."""
    rng = np.random.default_rng(SEED)
    data, chosen = num_data, range(0, num_data, max(1, num_data // CHOSEN))
    tree = xr.DataTree.from_dict(
        {
            "/evidence": _evidence(rng, data),
            "/importance": _importance(rng, data),
            "/gaps": _gaps(rng, data),
            "/findings": findings_dataset(findings),
        }
        | _expensive(rng, data, chosen, names)
    )
    tree.attrs = {
        "title": "Can this fit be trusted?",
        "model": "my_module:model",
        "guide": "my_module:guide",
        "data": "data.npz",
        "scored": f"{data} data, {len(chosen)} of them against reference draws",
        "created": "2026-05-04T12:30:00+00:00",
        "versions": json.dumps({"pyrolvm": "0.1.0", "torch": "2.13.0", "pyro-ppl": "1.9.2"}),
        "seed": 0,
        "num_particles": 1000,
        "factorises": int(data > 1),
        "global_sites": json.dumps([] if data > 1 else ["mu", "tau"]),
        "effort": "standard",
        "config": json.dumps({"command": "diagnose", "effort": "standard", "seed": 0}),
    }
    return tree


def small_tree():
    """Findings and importance weights alone: little to draw."""
    whole = diagnosis_tree()
    groups = {f"/{name}": whole[name].to_dataset() for name in ("importance", "findings")}
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = whole.attrs
    return tree


def evil_tree():
    """Every name that a person chooses is an attack."""
    findings = [
        Finding("moments", f"{EVIL} sd", 1.0, 0.1, EVIL, "bad", f"At {EVIL} it is bad.",
                "too narrow", f"Change {EVIL}."),
    ]  # fmt: skip
    tree = diagnosis_tree(findings, names=[f"{EVIL}[{i}]" for i in range(4)])
    for key in ("title", "model", "guide", "data", "scored", "created", "effort", "config"):
        tree.attrs[key] = f"{EVIL} {key}"
    tree.attrs |= {
        "versions": json.dumps({EVIL: EVIL}),
        "global_sites": json.dumps([EVIL]),
        "factorises": 0,
    }
    for group in ("evidence", "reference", "gaps", "prediction"):
        tree[group].attrs = tree[group].attrs | {"method": EVIL, "oracle": EVIL}
    return tree


def _evidence(rng, data):
    value = -14.27 + rng.normal(0, 2.0, data)
    return xr.Dataset(
        {
            "log_evidence": ("datum", value),
            "log_evidence_se": ("datum", rng.uniform(0.01, 0.05, data)),
        },
        attrs={"method": "ais", "is_bound": 0, "unit": "nats"},
    )


def _importance(rng, data):
    khat = rng.normal(0.6, 0.25, data)
    ess = 1000 * np.exp(-3 * np.clip(khat, 0.05, None))
    return xr.Dataset(
        {
            "khat": ("datum", khat),
            "khat_se": ("datum", np.full(data, 0.17)),
            "ess": ("datum", ess),
            "bc2": ("datum", np.exp(-np.abs(khat))),
            "log_weight_variance": ("datum", 2 * np.abs(khat)),
        },
        attrs={"khat_threshold": 0.67, "num_particles": 1000},
    )


def _gaps(rng, data):
    approximation, amortization = rng.gamma(2, 0.55, data), rng.gamma(1, 0.32, data)
    columns = {"approximation": approximation, "amortization": amortization}
    columns["total"] = approximation + amortization
    errors = {f"{name}_se": np.full(data, 0.03) for name in columns}
    return xr.Dataset(
        {name: ("datum", values) for name, values in (columns | errors).items()},
        {"datum": np.arange(data)},
        {"oracle": "diagonal", "shared_part": "amortization", "evidence_is_bound": 0},
    )


def _expensive(rng, data, chosen, names):
    """What draws of guide and reference say at chosen data, and simulations and predictions."""
    size = len(names)
    mixing = np.linalg.cholesky(0.8 ** np.abs(np.subtract.outer(range(size), range(size))))
    draws = torch.tensor(rng.normal(size=(DRAWS, len(chosen), size)) @ mixing.T)
    guide = torch.tensor(0.55 * rng.normal(size=(DRAWS, len(chosen), size)) + 0.1)
    shape = (len(chosen), size)
    reference = Reference(
        draws, "NUTS", tuple(names), tuple(chosen), torch.full(shape, 1.003),
        torch.full(shape, 812.0), num_chains=4, num_made=DRAWS,
    )  # fmt: skip
    labels = {"coordinates": names, "data": chosen}
    tests = two_sample_tests(guide, draws, num_permutations=19, most_draws=60, **labels)
    return {
        "/reference": reference.dataset(guide),
        "/moments": compare_moments(guide, draws, **labels).dataset(),
        "/two_sample": tests.dataset(),
        "/calibration": _calibration(rng, names),
        "/prediction": _prediction(rng, data),
    }


def _calibration(rng, names):
    quantities = len(names) + 1
    ranks = rng.integers(0, RANK_DRAWS + 1, (SIMULATIONS, quantities))
    ends = RANK_DRAWS * rng.integers(0, 2, ranks.shape)
    ranks = np.where(rng.uniform(size=ranks.shape) < 0.2, ends, ranks)
    levels = (RANK_DRAWS * rng.uniform(size=SIMULATIONS) ** 0.6).astype(int)
    return Calibration((*names, "log joint"), ranks, levels, levels, RANK_DRAWS, 1).dataset()


def _prediction(rng, data):
    observed = np.array([0.1, 1.0, 4.5, -2.0])
    replicated = rng.normal([0, 1, 2.5, -2.5], 0.4, (200, 4))
    checks = Checks(observed, replicated, 200.0)
    elpd, pareto_k = rng.normal(-20, 3, data), rng.normal(0.4, 0.2, data)
    loo = LeaveOneOut(elpd, np.full(data, 0.1), pareto_k, elpd + 0.2, pareto_k, "PSIS")
    return Prediction(
        ("mean", "sd", "largest", "smallest"), checks, checks, checks, loo,
        rng.uniform(size=data), (), np.empty((0, data)), data > 1, True, 1000,
    ).dataset()  # fmt: skip
