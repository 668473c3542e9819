r"""What is identified where every environment has a latent prior of its own.

Fixed priors leave the maps that carry all of them into themselves. Learned ones, of exponential
families with sufficient statistics T, leave

.. math:: T(A(z)) = L \, T(z) + c

where the natural parameters :math:`\lambda(u) - \lambda(u_0)` span all of T; priors fixed in some
environments alone anchor the code if these suffice.

References:
    Khemakhem, Kingma, Monti & Hyvärinen (2020), Variational Autoencoders and Nonlinear ICA
    (learned priors).
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability (fixed priors).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyrolvm.identifiability import groups
from pyrolvm.identifiability.gaussian_symmetries import GaussianSymmetries
from pyrolvm.identifiability.groups import SymmetryGroup
from pyrolvm.identifiability.injective_generator import is_flat
from pyrolvm.identifiability.prior_law import EnvironmentLaws, as_latents, environment_laws
from pyrolvm.identifiability.report import IdentifiabilityReport
from pyrolvm.identifiability.surviving import surviving

STATISTICS = {
    (True, True): "z and z²",
    (True, False): "z",
    (False, True): "z²",
    (False, False): "none",
}
"""Sufficient statistics of Gaussians by whether means and scales vary."""

TRIED = 8
"""Points at which the decoder's rank is looked at."""
ONE_TO_ONE = "the decoder is taken to be one to one"


def check_environments(model: Any) -> IdentifiabilityReport:
    """Check a model that offers :class:`pyrolvm.core.ConditionalPrior`."""
    laws = environment_laws(model)
    name = type(model).__name__
    if laws.family != "gaussian":
        return IdentifiabilityReport(
            name,
            "the priors of the environments are no diagonal Gaussians, whose symmetries alone are "
            "known here",
            groups.anything(("maps that carry every prior into itself, not worked out",)),
        )
    if model.obs_dim < model.latent_dim:
        sentence = "any map along directions of z that x does not show"
        return IdentifiabilityReport(
            name,
            f"the decoder must be one to one, but maps {model.latent_dim} latents to "
            f"{model.obs_dim} outputs",
            groups.anything((sentence,)),
        )
    if _is_flat(model, laws):
        return IdentifiabilityReport(
            name,
            "the decoder must be one to one, but at its present weights it is flat along some "
            "direction of z wherever it was tried",
            groups.anything(("any map along directions of z that x does not show",)),
        )
    learned = _learned(name, laws)
    if all(laws.learned):
        return learned
    fixed = _fixed(name, laws)
    # Too few anchors do not take away what learned priors identify.
    is_better = any(laws.learned) and fixed.level == "none" != learned.level
    return learned if is_better else fixed


def _is_flat(model: Any, laws: EnvironmentLaws) -> bool:
    """Whether the decoder has no full rank at any of a few points, one in each environment."""
    generate = getattr(model, "generate", None)
    if not callable(generate):
        return False
    loc, scale = laws.loc[:TRIED], laws.scale[:TRIED]
    points = loc + scale * np.random.default_rng(0).standard_normal(loc.shape)
    return is_flat(generate, as_latents(model, points))


def _fixed(name: str, laws: EnvironmentLaws) -> IdentifiabilityReport:
    kept = np.flatnonzero(~np.array(laws.learned))
    found = GaussianSymmetries(laws.loc[kept], laws.scale[kept])
    group, needed = surviving(found), found.needed_rank
    anchors = ""
    if len(kept) < len(laws.learned):
        anchors = f" (fixed in {len(kept)} of {len(laws.learned)} environments, which anchor it)"
    statistics = STATISTICS[found.means_vary, found.scales_vary]
    reason = _reason(found, group, statistics)
    return IdentifiabilityReport(
        name,
        f"{ONE_TO_ONE}; the priors are fixed{anchors}; {reason}",
        group,
        found.rank,
        needed,
        len(kept),
        needed + 1,
        tuple(_warnings(found, group)),
    )


def _reason(found: GaussianSymmetries, group: SymmetryGroup, statistics: str) -> str:
    if statistics == "none":
        return "all environments have the same prior, so that they tell no two points apart"
    if found.rank == found.needed_rank and statistics != "z²":
        return f"their natural parameters span {statistics}, which tells all points apart"
    if statistics == "z²":
        return "only their scales vary, so that they tell z² apart at most, and not z from −z"
    if group.is_trivial:
        return (
            f"their natural parameters do not span {statistics}, but no map but the identity "
            "carries all of them into themselves"
        )
    return f"their natural parameters do not span {statistics}"


def _warnings(found: GaussianSymmetries, group: SymmetryGroup) -> list[str]:
    said = []
    environments, dim = found.loc.shape
    needed = found.needed_rank + 1
    if environments < needed:
        effect = "still, only the identity survives" if group.is_trivial else "what survives: "
        said.append(
            f"There are {environments} environments with a fixed prior, and the rank condition "
            f"needs {needed}; {effect}{'; '.join(group.symmetries)}."
        )
    elif found.rank < found.needed_rank:
        said.append(
            f"The {environments} environments give rank {found.rank} of {found.needed_rank}: some "
            "of them repeat what others say."
        )
    if found.scales_vary and not found.means_vary and not group.is_trivial:
        said.append(
            "The means do not vary (as in time-contrastive data): sign flips survive although the "
            f"prior is fixed. Give {dim + 1} environments affinely independent means."
        )
    return said


def _learned(name: str, laws: EnvironmentLaws) -> IdentifiabilityReport:
    found = GaussianSymmetries(laws.loc, laws.scale)
    environments, dim = laws.loc.shape
    means, scales = laws.learns_loc or found.means_vary, laws.learns_scale or found.scales_vary
    needed = dim * (int(means) + int(scales))
    statistics = STATISTICS[means, scales]
    enough = environments > needed
    if not enough:
        group = groups.anything(("nonlinear maps that the learned priors can follow",))
    elif scales:
        own = "a sign, a scale and a shift" if means else "a sign and a scale"
        group = SymmetryGroup(
            "up to permutation, sign and scale",
            (f"permutations of coordinates, and {own} of each",),
            affine=True,
            coordinatewise=True,
        )
    else:
        group = groups.affine(("affine maps of z",))
    said = []
    if not enough:
        said.append(
            f"There are {environments} environments, and the rank condition needs {needed + 1}."
        )
    elif found.rank < needed:
        said.append(
            f"At the present parameters the rank is {found.rank} of {needed}; the condition is on "
            "the parameters that made the data."
        )
    said.append("The priors are learned; fix enough of them to identify the code itself.")
    return IdentifiabilityReport(
        name,
        f"{ONE_TO_ONE}; {_which_learn(laws)}; with natural parameters that span "
        f"{statistics}, codes of two runs have {statistics} in common up to an affine map",
        group,
        found.rank,
        needed,
        environments,
        needed + 1,
        tuple(said),
    )


def _which_learn(laws: EnvironmentLaws) -> str:
    fixed, count = laws.learned.count(False), len(laws.learned)
    if not fixed:
        return "the priors are learned"
    return f"the priors are fixed in {fixed} of {count} environments, too few to anchor the code"
