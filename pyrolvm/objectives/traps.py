"""Combinations of pair and objective that train something else without a word: refused."""

from __future__ import annotations

from typing import Any

from pyro.infer import (
    ELBO,
    RenyiELBO,
    ReweightedWakeSleep,
    TraceMeanField_ELBO,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
)

from pyrolvm.core.data import Data
from pyrolvm.core.errors import SettingError
from pyrolvm.core.tracing import PairTrace
from pyrolvm.objectives.layerwise_elbo import LayerwiseELBO
from pyrolvm.objectives.particle_objective import ParticleObjective
from pyrolvm.objectives.rate_weights import number, unequal_to_one
from pyrolvm.objectives.site_rates import refuse_one_sided_scales, site_weight
from pyrolvm.objectives.top_down import require_top_down, split_obstacle

IMPORTANCE_WEIGHTED = (
    RenyiELBO,
    ReweightedWakeSleep,
    TraceTailAdaptive_ELBO,
    TraceTMC_ELBO,
    ParticleObjective,
)
"""Objectives that average, order or compare importance weights; the first four are Pyro's."""


def refuse_traps(model: Any, guide: Any, loss: Any, pair: PairTrace, batch: Data) -> None:
    """Refuse an objective that is wrong for a pair.

    Args:
        model: A Pyro program.
        guide: A Pyro program.
        loss: What is to be minimised; None for the negative ELBO.
        pair: One run of both.
        batch: What they ran on.

    Raises:
        SiteError: If a latent site is scaled in one of the two programs only.
        IncompatiblePairError: If the objective takes closed-form KLs, or weighs layers, and the
            guide is not drawn from the top down.
        SettingError: If it is no objective, or takes importance weights under weights of rates.
    """
    _refuse_no_objective(loss)
    refuse_one_sided_scales(pair)
    if isinstance(loss, IMPORTANCE_WEIGHTED):
        _refuse_weights(guide, loss, pair)
    if not isinstance(loss, (TraceMeanField_ELBO, LayerwiseELBO)):
        return
    obstacle = split_obstacle(model, guide, pair, batch.args, dict(batch.named))
    if not _only_auxiliary(loss, pair):
        require_top_down(type(loss).__name__, obstacle)


def _refuse_no_objective(loss: Any) -> None:
    if isinstance(loss, type):
        raise SettingError(
            f"loss should be an objective, but it is the class {loss.__name__}. Make one of it: "
            f"loss={loss.__name__}()."
        )
    if not (loss is None or callable(loss) or isinstance(loss, ELBO)):
        raise SettingError(
            f"loss should be an objective such as CoupledELBO(num_particles=10), but it is "
            f"{loss!r}."
        )


def _only_auxiliary(loss: Any, pair: PairTrace) -> bool:
    """Whether Pyro's mean-field objective meets a guide that it takes: one of its autoguides."""
    auxiliary = pair.guide_sites().keys() - pair.latents().keys()
    return isinstance(loss, TraceMeanField_ELBO) and bool(auxiliary)


def _refuse_weights(guide: Any, loss: Any, pair: PairTrace) -> None:
    weights = unequal_to_one(guide) or {
        name: number(site_weight(site))
        for name, site in pair.latents().items()
        if not _plain(site)
    }
    if weights:
        raise SettingError(
            f"{type(loss).__name__} takes importance weights, and is a bound of nothing once "
            f"rates are weighed, but here they are: {weights}. Train with LayerwiseELBO, or with "
            "all rate_weights 1."
        )


def draws_discrete(pair: PairTrace) -> bool:
    """Whether a guide draws discrete latents, whose gradient is a score function's alone.

    Args:
        pair: One run of both programs.

    Returns:
        False also where a latent site is scaled, as objectives that compare draws refuse that.
    """
    drawn, latents = pair.guide_sites(), pair.latents()
    laws = [drawn[name]["fn"] for name in latents if name in drawn]
    discrete = any(not law.has_rsample and law.support.is_discrete for law in laws)
    return discrete and all(map(_plain, latents.values()))


def refuse_tempered(pair: PairTrace) -> None:
    """Refuse to measure against the posterior a pair whose latent sites are scaled.

    Args:
        pair: One run of both programs.

    Raises:
        SettingError: Naming the first site that is scaled, by more than its plates' subsampling.
    """
    drawn = pair.guide_sites()
    for name, site in pair.latents().items():
        for program, each in (("model", site), ("guide", drawn.get(name))):
            if each is not None and not _plain(each):
                raise SettingError(
                    f"The latent site {name!r} has the scale {number(site_weight(each)):.3g} in "
                    f"the {program}, so that log p(x, z) - log q(z | x) is no importance weight, "
                    "and gap and k-hat would mean nothing. Measure the programs without the "
                    "scale; rates are measured by layer_rates(model, guide, data)."
                )


def _plain(site: dict[str, Any]) -> bool:
    return abs(number(site_weight(site)) - 1) <= 1e-6
