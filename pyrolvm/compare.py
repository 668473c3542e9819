r"""Compare guides of one model: how far is each from the posterior, and what does another buy?

Guides are trained where they need it, then scored on data that they were not trained on:

.. math:: \underbrace{\log p(x) - \mathcal L(q)}_{\text{gap}} =
          \underbrace{\log p(x) - \mathcal L(q^*)}_{\text{approximation}} +
          \underbrace{\mathcal L(q^*) - \mathcal L(q)}_{\text{amortization}}

with q* the best member of the same family for each datum alone, fitted by :class:`PerDatum`.

References:
    Cremer, Li & Duvenaud (2018), Inference Suboptimality in Variational Autoencoders.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from pyrolvm.core import Data, DataError, Guide, Model, predictive, prior_predictive
from pyrolvm.diagnostics import bhattacharyya_squared, khat_threshold, sqrt_weight_ess
from pyrolvm.diagnostics.comparison_tree import Measured, comparison_tree, kept_draws
from pyrolvm.fit import fit
from pyrolvm.guides import PerDatum
from pyrolvm.inference.evidence import Evidence, exact_evidence, iwae_evidence
from pyrolvm.inference.oracle import Oracles, OracleSettings, fit_to_each, same_family
from pyrolvm.inference.pictures import can_draw, choose_data, draw_pictures
from pyrolvm.inference.scoring import num_parameters, score

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Training = Literal["guides", "together", "nothing"]
TEST_FRACTION = 0.2
PREDICTIVE_DRAWS = 20
PRIOR_DRAWS = 64
NUM_PICTURES = 4


@dataclass(frozen=True)
class Comparison:
    """Guides of one model, side by side.

    Args:
        tree: Every figure and draw, as an ArviZ tree: ``/table`` has one row a guide, a child for each
            guide holds its draws, log weights and per-datum figures.
        pairs: Model and guide of each row, as they were scored.
    """

    tree: xr.DataTree
    pairs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a guide; nats per datum, ``_se`` columns are standard errors over data."""
        return self.tree["table"].to_dataset().to_dataframe()

    def to_datatree(self, guide: str | None = None) -> xr.DataTree:
        """Return the whole tree, or that of one guide, which ArviZ reads."""
        return self.tree if guide is None else self.tree[guide]

    def to_html(self, path: str | Path) -> Path:
        """Write the page with the pictures: one file that needs no network."""
        from pyrolvm.report import write

        return Path(write(self.tree, Path(path)))

    def __str__(self) -> str:
        from pyrolvm.report import format_cells

        headers, rows = format_cells(self.tree)
        widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [headers, *rows]]
        return "\n".join([f"Scored: {self.tree.attrs['scored']}", *lines])

    def _repr_html_(self) -> str:
        return self.frame.to_html()


@dataclass(frozen=True)
class _Settings:
    train: Training
    steps: int
    batch_size: int | None
    learning_rate: float
    num_particles: int
    seed: int
    oracle: OracleSettings


@dataclass(frozen=True)
class _Trained:
    losses: Tensor
    seconds: float


def compare(
    model: Callable[..., Any],
    guides: Mapping[str, Callable[..., Any]],
    data: Any,
    test: Any = None,
    *,
    train: Training = "guides",
    steps: int = 2000,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    oracle_steps: int = 800,
    num_particles: int = 1000,
    num_pictures: int = NUM_PICTURES,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
) -> Comparison:
    """Train guides of a model where they need it, and score each against the posterior.

    Args:
        model: A Pyro program, trained before (or see ``train``).
        guides: Pyro programs by the name of their row.
        data: Training data: a tensor, or a mapping from argument name to tensor.
        test: Data that is scored; where it is None, 20 % of the rows are held out.
        train: ``"guides"`` freezes the model and trains every guide that has parameters;
            ``"together"`` trains a copy of the model with each guide; ``"nothing"`` scores as is.
        steps: Training steps of each guide.
        batch_size: Rows in a minibatch; see :func:`pyrolvm.fit`.
        learning_rate: Step size at the start.
        oracle_steps: Steps in which the best member of each amortized guide's family is fitted to each
            scored datum alone; 0 leaves the gap unsplit.
        num_particles: Draws of each guide for each datum.
        num_pictures: Data for which posterior densities are kept as pictures (1 or 2 latents).
        seed: The same seed gives the same comparison.
        folder: Run folder for checkpoints, from which an interrupted comparison goes on.
        progress: Whether to show progress bars.
        facts: Further attributes of the tree (``title``, ``data``, ``image_shape``, …).

    Returns:
        The comparison: a table, a tree, a page.

    Raises:
        DataError: If the data is empty, not finite or of the wrong shape.
        SiteError: If a guide does not fit the model's sites.
    """
    if not guides:
        raise ValueError("compare needs at least one guide, but the mapping is empty.")
    if train not in ("guides", "together", "nothing"):
        raise ValueError(f"train should be 'guides', 'together' or 'nothing', but it is {train!r}.")
    if test is None:
        rows, scored, scored_name = hold_out(data, seed)
    else:
        rows, scored = Data.of(data), Data.of(test)
        scored_name = f"the given test data ({scored.num_rows} rows)"
    for each in (rows, scored):
        _check(model, each)
    checkpoints = None if folder is None else Path(folder) / "checkpoints"
    oracle = OracleSettings(oracle_steps, num_particles, seed, checkpoints, progress)
    settings = _Settings(train, steps, batch_size, learning_rate, num_particles, seed, oracle)
    pairs = {
        name: copy.deepcopy((model, guide)) if train == "together" else (model, guide)
        for name, guide in guides.items()
    }
    trained = _train(pairs, rows, scored, settings)
    return _score(pairs, trained, scored, settings, num_pictures, scored_name, facts or {})


def diagnose(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_particles: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Measure one guide as it is: any Pyro pair, trained by whatever means.

    The evidence is exact where the model offers it, and the IWAE bound elsewhere; gaps are then lower bounds.
    With a latent site outside the plate ``"data"`` the whole data set is one datum.

    Args:
        model: A Pyro program.
        guide: A Pyro program with the same arguments.
        data: A tensor, or a mapping from argument name to tensor, rows first.
        num_particles: Draws of the guide.
        seed: The same seed gives the same figures.
        progress: Whether to show progress bars.

    Returns:
        A comparison with a single row.
    """
    return compare(
        model,
        {getattr(guide, "__name__", type(guide).__name__): guide},
        data,
        test=data,
        train="nothing",
        oracle_steps=0,
        num_particles=num_particles,
        seed=seed,
        progress=progress,
    )


def _check(model: Any, rows: Data) -> None:
    if isinstance(model, Model):
        rows.check_finite()
        if rows.positional is not None:
            model.batch_size(rows.positional, None)


def hold_out(data: Any, seed: int) -> tuple[Data, Data, str]:
    """Split data at random into 80 % for training and 20 % that is scored.

    Args:
        data: A tensor, or a mapping from argument name to tensor.
        seed: The same seed gives the same split.

    Returns:
        Training rows, held-out rows, and a name for the latter.
    """
    rows = Data.of(data)
    if rows.num_rows < 2:
        raise DataError(
            f"Holding out {TEST_FRACTION:.0%} needs at least 2 rows, but there is 1; "
            "pass test= to score it."
        )
    order = torch.randperm(rows.num_rows, generator=torch.Generator().manual_seed(seed))
    size = max(1, round(TEST_FRACTION * rows.num_rows))
    name = f"held-out {100 * TEST_FRACTION:.0f} % ({size} of {rows.num_rows} rows)"
    return rows.rows(order[size:]), rows.rows(order[:size]), name


def _train(
    pairs: Mapping[str, tuple[Any, Any]], rows: Data, scored: Data, settings: _Settings
) -> dict[str, _Trained]:
    """Train what needs it, guides with an encoder first: they start the per-datum ones."""
    done = {name: _Trained(torch.empty(0), 0.0) for name in pairs}
    if settings.train == "nothing":
        return done
    for name in sorted(pairs, key=lambda name: _is_per_datum(pairs[name][1])):
        model, guide = pairs[name]
        together = settings.train == "together"
        if _is_per_datum(guide):
            start = next((a for _, a in pairs.values() if same_family(a, guide)), None)
            if isinstance(guide, PerDatum) and scored.positional is not None:
                x = scored.positional
                guide.initialise(x, None if start is None else start.parameters_for(x))
            result = fit_to_each(name, model, guide, scored, settings.oracle)
            done[name] = _Trained(result.losses, result.seconds)
        elif together or num_parameters(guide, rows.rows(slice(0, 2))):
            result = fit(
                model,
                guide,
                rows,
                steps=settings.steps,
                batch_size=settings.batch_size,
                learning_rate=settings.learning_rate,
                train="both" if together else "guide",
                seed=settings.seed,
                checkpoint=settings.oracle.checkpoint(name),
                progress=settings.oracle.bar(f"train {name}"),
            )
            done[name] = _Trained(result.losses, result.seconds)
    return done


def _has_no_encoder(guide: Any, scored: Data) -> bool:
    """Whether nothing is amortized: parameters of each datum's own, or no parameters at all."""
    return _is_per_datum(guide) or num_parameters(guide, scored) == 0


def _is_per_datum(guide: Any) -> bool:
    return isinstance(guide, Guide) and guide.per_datum


def _score(
    pairs: Mapping[str, tuple[Any, Any]],
    trained: Mapping[str, _Trained],
    scored: Data,
    settings: _Settings,
    num_pictures: int,
    scored_name: str,
    facts: Mapping[str, Any],
) -> Comparison:
    oracles = Oracles(pairs, scored, settings.oracle)
    measured, bounds = {}, {}
    for name in pairs:
        measured[name], bounds[name] = _measure(name, pairs, trained[name], oracles, scored, settings)
    measured, methods, is_bound = _with_evidence(pairs, measured, bounds, settings.train == "together")
    shown, per_guide = {}, {}
    if num_pictures and can_draw(pairs):
        gap = next(iter(measured.values()))
        chosen = choose_data(gap.log_evidence - gap.elbo, num_pictures)
        shown, per_guide = draw_pictures(pairs, scored, chosen, measured)
    model = next(iter(pairs.values()))[0]
    tree = comparison_tree(
        {n: dataclasses.replace(m, picture=per_guide.get(n, {})) for n, m in measured.items()},
        observed=dict(scored.items()),
        prior=_prior(model, settings.seed),
        picture=shown,
        attrs={
            "title": "How far is each guide from the posterior?",
            "model": describe(model),
            "data": "the given data",
            "scored": scored_name,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": json.dumps({n: version(n) for n in ("pyrolvm", "torch", "pyro-ppl")}),
            "config": json.dumps({"seed": settings.seed, "steps": settings.steps}),
            "seed": settings.seed,
            "num_particles": settings.num_particles,
            "image_shape": "null",
            "evidence_method": methods,
            "evidence_is_bound": int(is_bound),
            "khat_threshold": khat_threshold(settings.num_particles),
            "source_note": "",
            **facts,
        },
    )
    return Comparison(tree, pairs)


def _measure(
    name: str,
    pairs: Mapping[str, tuple[Any, Any]],
    trained: _Trained,
    oracles: Oracles,
    scored: Data,
    settings: _Settings,
) -> tuple[Measured, Evidence]:
    """Score one guide and keep what the tree needs; the draws beyond that are let go."""
    model, guide = pairs[name]
    found = score(model, guide, scored, num_particles=settings.num_particles, seed=settings.seed)
    weights, densities = found.log_weights, found.densities
    exact = exact_evidence(model, scored)
    evidence = exact or iwae_evidence(weights, name)
    kept = kept_draws(len(weights), weights.shape[1])
    family = getattr(guide, "family", None)
    cost = 1000 * trained.seconds / scored.num_rows if _is_per_datum(guide) else 0.0
    predicted = _predict(model, guide, scored, settings.seed) if densities.factorises else {}
    return Measured(
        kind=getattr(guide, "__name__", type(guide).__name__),
        family=getattr(family, "name", ""),
        parameters=num_parameters(guide, scored),
        elbo=found.elbo,
        oracle_elbo=found.elbo if _has_no_encoder(guide, scored) else oracles.elbo(name),
        log_evidence=evidence.value,
        log_evidence_error=evidence.standard_error,
        khat=found.khat,
        ess=found.ess,
        bc2=None if exact is None else bhattacharyya_squared(weights, exact.value)[0],
        sqrt_weight_ess=sqrt_weight_ess(weights),
        ms_per_datum=found.ms_per_datum + cost,
        train_seconds=trained.seconds,
        num_particles=settings.num_particles,
        posterior={site: value[:kept].cpu() for site, value in densities.values.items()},
        log_weights=weights[:kept].cpu(),
        log_likelihood={s: value[:kept].cpu() for s, value in densities.likelihood.items()},
        predictive=predicted,
        losses=trained.losses,
        factorises=densities.factorises,
    ), evidence


def _with_evidence(
    pairs: Mapping[str, tuple[Any, Any]],
    measured: Mapping[str, Measured],
    evidence: Mapping[str, Evidence],
    together: bool,
) -> tuple[dict[str, Measured], str, bool]:
    """Give every row of one model the same evidence: the tightest bound where it is not exact."""
    is_bound = any(each.is_bound for each in evidence.values())
    if together or not is_bound:
        methods = dict.fromkeys(each.method for each in evidence.values())
        return dict(measured), ", ".join(methods), is_bound
    best = max(evidence.values(), key=lambda each: each.value.mean().item())
    shared = {
        name: dataclasses.replace(
            each, log_evidence=best.value, log_evidence_error=best.standard_error
        )
        for name, each in measured.items()
    }
    return shared, best.method, True


def _predict(model: Any, guide: Any, scored: Data, seed: int) -> dict[str, Tensor]:
    cells = sum(tensor.numel() for _, tensor in scored.items())
    number = max(4, min(PREDICTIVE_DRAWS, 2**22 // cells // 4 * 4))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return predictive(model, guide, scored, number).observations


def _prior(model: Any, seed: int) -> dict[str, dict[str, Tensor]]:
    if not isinstance(model, Model):
        return {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        draws = prior_predictive(model, PRIOR_DRAWS)
    return {"prior": draws.latents, "prior_predictive": draws.observations | draws.means}


def describe(model: Any) -> str:
    """Name a model with its dimensions."""
    if not isinstance(model, Model):
        return getattr(model, "__name__", type(model).__name__)
    hidden = [p.shape[0] for n, p in model.named_parameters() if n.startswith("decoder") and p.dim() == 2]
    layers = f", hidden={tuple(hidden[:-1])}" if hidden else ""
    return f"{type(model).__name__}(latent_dim={model.latent_dim}, obs_dim={model.obs_dim}{layers})"
