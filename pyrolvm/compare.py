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

import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from pyrolvm.core import BinaryLayers, Data, DataError, Layered, Model
from pyrolvm.core.copying import copied
from pyrolvm.core.errors import SettingError, require_at_least, require_seed
from pyrolvm.core.pairing import offers
from pyrolvm.core.programs import require_guides, require_pair
from pyrolvm.core.threads import limited_threads
from pyrolvm.diagnostics import khat_threshold
from pyrolvm.diagnostics.comparison_tree import comparison_tree
from pyrolvm.fit import fit
from pyrolvm.guides import PerDatum
from pyrolvm.inference.measuring import (
    Training,
    is_per_datum,
    measure,
    prior_draws,
    with_evidence,
)
from pyrolvm.inference.oracle import Oracles, OracleSettings, fit_to_each, same_family
from pyrolvm.inference.pictures import can_draw, choose_data, draw_pictures
from pyrolvm.inference.scoring import num_parameters
from pyrolvm.objectives import unequal_to_one

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Trained = Literal["guides", "together", "nothing"]
TEST_FRACTION = 0.2
NUM_PICTURES = 4


@dataclass(frozen=True)
class Comparison:
    """Guides of one model, side by side.

    Args:
        tree: Every figure and draw, as an ArviZ tree: ``/table`` has one row a guide, a child for
            each guide holds its draws, log weights and per-datum figures.
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
        return self.tree if guide is None else self.tree.children[guide]

    def to_html(self, path: str | Path) -> Path:
        """Write the page with the pictures: one file that needs no network."""
        from pyrolvm.report import write

        return Path(write(self.tree, Path(path)))

    def __str__(self) -> str:
        from pyrolvm.report import format_cells, unit

        headers, rows = format_cells(self.tree)
        widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [headers, *rows]]
        method = self.tree.attrs["evidence_method"]
        evidence = f"Evidence: {method}. Densities in {unit(self.tree)}."
        return "\n".join([f"Scored: {self.tree.attrs['scored']}", *lines, evidence])

    def _repr_html_(self) -> str:
        return self.frame.to_html()


@dataclass(frozen=True)
class _Schedule:
    """How guides are trained before they are scored."""

    what: Trained
    steps: int
    batch_size: int | None
    learning_rate: float


def compare(
    model: Callable[..., Any],
    guides: Mapping[str, Callable[..., Any]],
    data: Any,
    test: Any = None,
    *,
    train: Trained = "guides",
    steps: int = 2000,
    batch_size: int | None = None,
    learning_rate: float = 3e-3,
    oracle_steps: int = 800,
    num_particles: int = 1000,
    num_pictures: int = NUM_PICTURES,
    seed: int = 0,
    folder: str | Path | None = None,
    num_threads: int | None = 1,
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
        oracle_steps: Steps in which the best member of each amortized guide's family is fitted to
            each scored datum alone; 0 leaves the gap unsplit.
        num_particles: Draws of each guide for each datum.
        num_pictures: Data for which posterior densities are kept as pictures (1 or 2 latents).
        seed: The same seed gives the same comparison.
        folder: Run folder for checkpoints, from which an interrupted comparison goes on.
        num_threads: Threads of torch; None leaves them as they are. On a machine that does other
            work, a second thread makes this several times slower.
        progress: Whether to show progress bars.
        facts: Further attributes of the tree (``title``, ``data``, ``image_shape``, …).

    Returns:
        The comparison: a table, a tree, a page.

    Raises:
        DataError: If the data is empty, not finite or of the wrong shape.
        SiteError: If a guide does not fit the model's sites.
        SettingError: If a guide carries ``rate_weights`` other than 1, or a latent site is scaled:
            the target is then not the posterior.
    """
    require_at_least(0, steps=steps, oracle_steps=oracle_steps, num_pictures=num_pictures)
    require_at_least(2, num_particles=num_particles)
    require_seed(seed)
    require_guides(model, guides)
    refuse_other_targets(guides)
    if train not in ("guides", "together", "nothing"):
        raise SettingError(
            f"train should be 'guides', 'together' or 'nothing', but it is {train!r}."
        )
    if test is None:
        rows, scored, scored_name = hold_out(data, seed)
    else:
        rows, scored = Data.of(data), Data.of(test)
        scored_name = f"the given test data ({scored.num_rows} rows)"
    if isinstance(model, Model):
        model.check_data(rows)
        model.check_data(scored)
        rows, scored = rows.to(model.device), scored.to(model.device)
    checkpoints = None if folder is None else Path(folder) / "checkpoints"
    pairs = {
        name: _own_copy(model, guide) if train == "together" else (model, guide)
        for name, guide in guides.items()
    }
    settings = OracleSettings(oracle_steps, num_particles, seed, checkpoints, progress)
    oracles = Oracles(pairs, scored, settings)
    attributes = {"scored": scored_name, **(facts or {})}
    with limited_threads(num_threads):
        trained = _train(oracles, rows, _Schedule(train, steps, batch_size, learning_rate))
        return _score(oracles, trained, num_pictures, train != "together", attributes)


def refuse_other_targets(guides: Mapping[str, Any]) -> None:
    """Refuse guides whose weights of rates make another law than the posterior their target."""
    for name, guide in guides.items():
        weights = unequal_to_one(guide)
        if weights:
            raise SettingError(
                f"compare, score and diagnose measure how far a guide is from the posterior, but "
                f"the guide {name!r} carries rate_weights {weights}, for which the best guide is "
                "another law: its gap and k-hat would call a good guide bad. Look at its rates "
                "and distortion with layer_rates(model, guide, data), or set all weights to 1."
            )


def _own_copy(model: Any, guide: Any) -> tuple[Any, Any]:
    if isinstance(model, nn.Module) and isinstance(guide, nn.Module):
        model, guide = copied(model, guide)
        return model, guide
    raise SettingError(
        "train='together' trains a copy of the model with each guide, and functions cannot be "
        "copied: pass model and guides as torch modules, or call fit for each pair."
    )


def score(
    model: Callable[..., Any],
    guide: Callable[..., Any],
    data: Any,
    *,
    num_particles: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Measure one guide as it is, quickly: any Pyro pair, trained by whatever means.

    One row of a comparison, from draws of the guide alone; :func:`pyrolvm.diagnose` also looks
    where they do not reach. The evidence is exact where the model offers it, and the IWAE bound
    elsewhere; gaps are then lower bounds. With a latent site outside the plate ``"data"`` the
    whole data set is one datum.

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
    require_pair(model, guide)
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


def _train(oracles: Oracles, rows: Data, schedule: _Schedule) -> dict[str, Training]:
    """Train what needs it, guides with an encoder first: they start the per-datum ones."""
    pairs, scored, settings = oracles.pairs, oracles.scored, oracles.settings
    done = {name: Training(torch.empty(0), 0.0) for name in pairs}
    if schedule.what == "nothing":
        return done
    together = schedule.what == "together"
    for name in sorted(pairs, key=lambda name: is_per_datum(pairs[name][1])):
        model, guide = pairs[name]
        if is_per_datum(guide):
            if isinstance(guide, PerDatum) and scored.only is not None:
                encoders = (g for m, g in pairs.values() if m is model and same_family(g, guide))
                result = oracles.fit(name, model, guide, next(encoders, None))
            else:
                result = fit_to_each(name, model, guide, scored, settings)
        elif together or num_parameters(guide, rows.rows(slice(0, 2))):
            result = fit(
                model,
                guide,
                rows,
                steps=schedule.steps,
                batch_size=schedule.batch_size,
                learning_rate=schedule.learning_rate,
                train="both" if together else "guide",
                seed=settings.seed,
                checkpoint=settings.checkpoint(name),
                progress=settings.bar(f"train {name}"),
            )
        else:
            continue
        done[name] = Training(result.losses, result.seconds)
    return done


def _score(
    oracles: Oracles,
    trained: Mapping[str, Training],
    num_pictures: int,
    one_model: bool,
    attributes: Mapping[str, Any],
) -> Comparison:
    pairs, scored, settings = oracles.pairs, oracles.scored, oracles.settings
    found = {name: measure(name, trained[name], oracles) for name in pairs}
    measured, method, is_bound = with_evidence(
        {name: each for name, (each, _) in found.items()},
        {name: evidence for name, (_, evidence) in found.items()},
        one_model,
    )
    shown: dict[str, Any] = {}
    per_guide: dict[str, dict[str, Tensor]] = {}
    if num_pictures and can_draw(pairs):
        first = next(iter(measured.values()))
        chosen = choose_data(first.log_evidence - first.elbo, num_pictures)
        shown, per_guide = draw_pictures(pairs, scored, chosen, measured, seed=settings.seed)
    model = next(iter(pairs.values()))[0]
    outside = dict.fromkeys(site for each in measured.values() for site in each.global_sites)
    one_datum = f"; one datum as a whole: {', '.join(outside)} outside the data plate"
    tree = comparison_tree(
        {n: dataclasses.replace(m, picture=per_guide.get(n, {})) for n, m in measured.items()},
        observed=dict(scored.items()),
        prior=prior_draws(model, settings.seed, scored),
        picture=shown,
        attrs={
            "title": "How far is each guide from the posterior?",
            "model": describe(model),
            "data": "the given data",
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "versions": json.dumps({n: version(n) for n in ("pyrolvm", "torch", "pyro-ppl")}),
            "config": json.dumps({"seed": settings.seed, "num_particles": settings.num_particles}),
            "seed": settings.seed,
            "num_particles": settings.num_particles,
            "image_shape": "null",
            "evidence_method": method,
            "evidence_is_bound": int(is_bound),
            "khat_threshold": khat_threshold(settings.num_particles),
            "source_note": "",
            **attributes,
            "scored": f"{attributes['scored']}{one_datum if outside else ''}",
        },
    )
    return Comparison(tree, pairs)


def describe(model: Any) -> str:
    """Name a model with its dimensions."""
    if not isinstance(model, Model):
        return getattr(model, "__name__", type(model).__name__)
    hidden = [
        p.shape[0] for n, p in model.named_parameters() if n.startswith("decoder") and p.dim() == 2
    ]
    layers = f", hidden={tuple(hidden[:-1])}" if hidden else ""
    if offers(model, Layered):
        name = "layers" if offers(model, BinaryLayers) else "latent_dims"
        latents = f"{name}={tuple(reversed(model.layer_dims.values()))}"
    else:
        latents = f"latent_dim={model.latent_dim}"
    return f"{type(model).__name__}({latents}, obs_dim={model.obs_dim}{layers})"
