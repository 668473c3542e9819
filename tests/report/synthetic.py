"""A made-up comparison: a bump in an image whose place folds z_1; posteriors have two modes."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

SIDE, NOISE, DATA, DRAWS, GRID, PICTURES = 8, 0.35, 60, 25, 61, 4

GUIDES = {
    #                 type, family, parameters, approximation, amortization, k-hat, ms
    "amortized:diagonal": ("Amortized", "diagonal", 4546, 1.62, 0.31, 0.72, 0.021),
    "full": ("Amortized", "full", 4610, 0.93, 0.42, 0.55, 0.023),
    "mixture": ("Amortized", "mixture", 6150, 0.18, 0.29, 0.34, 0.031),
    "flow": ("Amortized", "flow", 12322, 0.16, 0.30, 0.36, 0.22),
    "per-datum": ("PerDatum", "full", 300, np.nan, np.nan, 0.41, 0.02),
    "exact-cpa": ("ExactCPA", "polygons", 0, 0.0, 0.0, -np.inf, 0.41),
}


def bump(z):
    """Mean image for latents of shape (..., 2), flat."""
    z = np.asarray(z, dtype=float)
    row, column = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    across = 1.5 + 2.6 * np.abs(z[..., 0])[..., None, None]
    down = 3.5 + 1.9 * z[..., 1][..., None, None] - 0.7 * (across - 3)
    return np.exp(-((row - down) ** 2 + (column - across) ** 2) / 3.5).reshape(*z.shape[:-1], -1)


def _normalised(log_density, cell):
    peak = log_density.max()
    return log_density - peak - np.log(np.exp(log_density - peak).sum() * cell)


def _gaussian(points, density, cell, *, kind):
    """Moment-matched guides on the grid: of one mode, or a mixture of both."""
    mass = np.exp(density) * cell
    right = points[..., 0] > 0
    parts = []
    for half in (right, ~right):
        weight = (mass * half).sum()
        mean = np.einsum("ij,ijk->k", mass * half, points) / weight
        centred = points - mean
        cov = np.einsum("ij,ijk,ijl->kl", mass * half, centred, centred) / weight
        if kind == "diagonal":
            cov = np.diag(1 / np.diag(np.linalg.inv(cov)))
        form = np.einsum("ijk,kl,ijl->ij", centred, np.linalg.inv(cov), centred)
        log_q = -0.5 * form - 0.5 * np.log(np.linalg.det(2 * np.pi * cov))
        parts.append((weight, log_q))
    if kind == "mixture":
        return np.logaddexp(*[np.log(weight + 1e-300) + log_q for weight, log_q in parts])
    return max(parts, key=lambda part: part[0])[1]


def _picture(x):
    z_1, z_2, exact = [], [], []
    guides: dict[str, list] = {name: [] for name in GUIDES}
    for datum in x:
        axes = np.linspace(-2.4, 2.4, GRID), np.linspace(-2.4, 2.4, GRID)
        points = np.stack(np.meshgrid(*axes), axis=-1)
        cell = (axes[0][1] - axes[0][0]) ** 2
        log_joint = -0.5 * (points**2).sum(-1)
        log_joint -= 0.5 * ((bump(points) - datum) ** 2).sum(-1) / NOISE**2
        posterior = _normalised(log_joint, cell)
        z_1.append(axes[0])
        z_2.append(axes[1])
        exact.append(posterior)
        for name, row in GUIDES.items():
            kind = {"diagonal": "diagonal", "full": "full"}.get(row[1], "mixture")
            log_q = _gaussian(points, posterior, cell, kind=kind)
            if row[1] == "flow":
                log_q = _normalised(0.6 * posterior + 0.4 * log_q, cell)
            guides[name].append(posterior if row[0] == "ExactCPA" else log_q)
    return np.stack(z_1), np.stack(z_2), np.stack(exact), guides


def _table(is_bound):
    rng = np.random.default_rng(1)
    names = list(GUIDES)
    log_evidence = -14.27
    columns: dict[str, list] = {}
    per_datum = {}
    for name, (_, _, _, approximation, amortization, khat, _) in GUIDES.items():
        is_exact = khat == -np.inf
        split = np.isfinite(approximation)
        first = rng.gamma(1.2, (approximation if split else 1.2) / 1.2, DATA)
        second = rng.gamma(0.8, amortization / 0.8, DATA) if split else np.full(DATA, np.nan)
        if is_exact:
            first, second = rng.normal(0, 1e-12, (2, DATA))
        gap = first + second if split else first
        evidence = log_evidence + rng.normal(0, 0, DATA) + np.linspace(-3, 3, DATA)
        khats = np.full(DATA, -np.inf) if is_exact else rng.normal(khat, 0.2, DATA)
        per_datum[name] = {
            "elbo": evidence - gap,
            "log_evidence": evidence,
            "gap": gap,
            "approximation_gap": first if split else np.full(DATA, np.nan),
            "amortization_gap": second,
            "khat": khats,
            "ess": np.full(DATA, 1000.0) if is_exact else 1000 * np.exp(-gap),
            "bc2": np.exp(-0.6 * np.abs(gap)),
        }
        for key in ("elbo", "log_evidence", "gap", "approximation_gap", "amortization_gap", "bc2"):
            values = per_datum[name][key]
            columns.setdefault(key, []).append(values.mean())
            columns.setdefault(f"{key}_se", []).append(values.std() / np.sqrt(DATA))
        columns.setdefault("sqrt_weight_ess", []).append(np.exp(-0.4 * np.abs(gap)).mean())
        columns.setdefault("khat_median", []).append(float(np.sort(khats)[DATA // 2]))
        columns.setdefault("khat_share_above", []).append((khats > 0.67).mean())
        columns.setdefault("ess", []).append(per_datum[name]["ess"].mean())
        columns.setdefault("train_seconds", []).append(0.0 if is_exact else rng.uniform(8, 40))
    if is_bound:
        columns["bc2"] = columns["bc2_se"] = [np.nan] * len(names)
    rows = list(GUIDES.values())
    variables = {key: ("guide", np.array(values)) for key, values in columns.items()}
    variables["type"] = ("guide", np.array([row[0] for row in rows]))
    variables["family"] = ("guide", np.array([row[1] for row in rows]))
    variables["parameters"] = ("guide", np.array([row[2] for row in rows]))
    variables["ms_per_datum"] = ("guide", np.array([row[6] for row in rows]))
    return xr.Dataset(variables, coords={"guide": names}), per_datum


def comparison_tree(*, is_bound=False):
    """The whole tree, with every optional group."""
    rng = np.random.default_rng(0)
    x = bump(rng.normal(size=(DATA, 2))) + NOISE * 0.4 * rng.normal(size=(DATA, SIDE**2))
    z_1, z_2, exact, guides = _picture(x[:PICTURES])
    table, per_datum = _table(is_bound)
    prior = bump(rng.normal(size=(40, 2)))
    pixels = ("sample", "x_dim")
    groups = {
        "/table": table,
        "/picture": xr.Dataset(
            {
                "datum": ("picture", np.arange(PICTURES) * 7),
                "z_1": (("picture", "grid_1"), z_1),
                "z_2": (("picture", "grid_2"), z_2),
                "log_density": (("picture", "grid_2", "grid_1"), exact),
                "x": (("picture", "x_dim"), x[:PICTURES]),
                "prior_x": (pixels, prior),
            },
            attrs={"units": "nats"},
        ),
        "/prior_predictive": xr.Dataset(
            {"x": (pixels, prior + NOISE * rng.normal(size=prior.shape))}
        ),
    }
    for number, (name, row) in enumerate(GUIDES.items()):
        z = rng.normal(size=(2, DRAWS, DATA, 2))
        chain = ("chain", "draw", "datum")
        groups[f"/{name}/posterior"] = xr.Dataset({"z": ((*chain, "z_dim"), z)})
        groups[f"/{name}/posterior_predictive"] = xr.Dataset({"x": ((*chain, "x_dim"), bump(z))})
        groups[f"/{name}/sample_stats"] = xr.Dataset(
            {
                "log_weight": (chain, rng.normal(size=(2, DRAWS, DATA))),
                "khat": ("datum", per_datum[name]["khat"]),
            }
        )
        groups[f"/{name}/per_datum"] = xr.Dataset(
            {key: ("datum", values) for key, values in per_datum[name].items()}
        )
        groups[f"/{name}/observed_data"] = xr.Dataset({"x": (("datum", "x_dim"), x)})
        groups[f"/{name}/picture"] = xr.Dataset(
            {
                "log_density": (("picture", "grid_2", "grid_1"), np.stack(guides[name])),
                "reconstruction": (
                    ("picture", "x_dim"),
                    0.9 * x[:PICTURES] + 0.02 * number * rng.normal(size=(PICTURES, SIDE**2)),
                ),
            }
        )
        if row[0] == "Amortized":
            step = np.arange(2000)
            loss = 15.5 - 0.2 * number + 40 * np.exp(-step / 60) + 0.8 * rng.normal(size=step.size)
            groups[f"/{name}/training"] = xr.Dataset({"loss": ("step", loss)})
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {
        "title": "How far is each guide from the exact posterior?",
        "model": "CPAGenerator(latent_dim=2, obs_dim=64, hidden=(16,))",
        "data": "digits",
        "scored": f"digits, held-out 20 % ({DATA} rows)",
        "created": "2026-05-04T12:30:00+00:00",
        "versions": json.dumps({"pyrolvm": "0.1.0", "torch": "2.13.0", "pyro-ppl": "1.9.2"}),
        "config": json.dumps({"model": "cpa", "guides": list(GUIDES), "steps": 2000, "seed": 0}),
        "seed": 0,
        "num_particles": 1000,
        "image_shape": json.dumps([SIDE, SIDE]),
        "evidence_method": "iwae (K=1000)" if is_bound else "exact",
        "evidence_is_bound": int(is_bound),
        "khat_threshold": 0.67,
        "source_note": "Synthetic numbers, made up for the tests.",
    }
    return tree
