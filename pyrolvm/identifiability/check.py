r"""What a model identifies, read off from what it offers.

.. math:: A(\mathcal M) = A(\mathcal F) \cap A(\mathcal P)

Two models with the same law of x differ by a map A of the latent space, which leads from one
generator of the class F to another, and from one prior of the class P to another. Strongly
identified is the code where only the identity does both.

References:
    Xi & Bloem-Reddy (2023), Indeterminacy in Generative Models: Characterization and Strong
    Identifiability.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from pyrolvm.core.capabilities import (
    BiLipschitz,
    ConditionalPrior,
    ConvexGradient,
    HasCode,
    PiecewiseAffine,
    TriangularMonotone,
)
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.pairing import offers
from pyrolvm.identifiability import groups
from pyrolvm.identifiability.conditional import check_environments
from pyrolvm.identifiability.groups import SymmetryGroup
from pyrolvm.identifiability.injective_generator import is_injective
from pyrolvm.identifiability.prior_law import HasPrior, PriorLaw, noise_of, prior_law
from pyrolvm.identifiability.report import IdentifiabilityReport
from pyrolvm.identifiability.tasks import verdict

ANY = "all invertible maps of z that keep its prior"


def check(model: Any, task: str | None = None) -> IdentifiabilityReport:
    """Say which maps of the latent space a model leaves open.

    The model is judged by the capabilities that it offers (a conditional prior, a triangular
    monotone or piecewise-affine generator, the gradient of a convex function), and by which of its
    distributions learn. A network that is not known to be restricted counts as any map.

    Args:
        model: A model with a single latent vector.
        task: A key of :data:`pyrolvm.identifiability.TASKS` to judge besides, for example
            ``"clustering"``.

    Returns:
        Level, condition, rank and the symmetries that survive.

    Raises:
        IncompatiblePairError: If the model has no single latent vector.
        UnknownNameError: If there is no such task.

    >>> from types import SimpleNamespace
    >>> facts = {"latent_dim": 2, "obs_dim": 2, "prior_is_fixed": True}
    >>> triangular = SimpleNamespace(**facts, signature=(1, 1))
    >>> check(triangular).level, check(triangular, "clustering").task.is_invariant
    ('strong', True)
    """
    if not isinstance(getattr(model, "latent_dim", None), int):
        raise IncompatiblePairError(
            f"check needs a model with a single latent vector (latent_dim, obs_dim), but "
            f"{getattr(model, '__name__', type(model).__name__)} does not say that it has one. "
            "Check the layers of a hierarchy one by one."
        )
    report = _with_noise(model, _without_task(model))
    if task is not None:
        report = dataclasses.replace(report, task=verdict(task, report.group))
    return report


def _with_noise(model: Any, report: IdentifiabilityReport) -> IdentifiabilityReport:
    """Take learned noise into account: it may trade against the generator.

    A generator from fewer latents than outputs fills no volume. If two of them explained x with
    unequal noise of one scale, the noiseless outputs of one would be those of the other with noise
    added, which does fill it. So such a scale is identified, and others need not be.
    """
    noise, group = noise_of(model), report.group
    if noise == "known":
        return report
    if noise == "one scale" and model.obs_dim > model.latent_dim:
        warning = (
            "The noise is learned. As one scale for more outputs than latents it is identified "
            "too, but only as far as data show that g(z) fills no volume: pin it if you can."
        )
    else:
        warning = "The noise is learned, and the argument takes it as known: pin it."
        if report.level != "none":
            trade = "maps between generators that leave unequal parts of x to the noise"
            group = groups.anything((*report.symmetries, trade))
    return dataclasses.replace(report, group=group, warnings=(*report.warnings, warning))


def _without_task(model: Any) -> IdentifiabilityReport:
    if offers(model, ConditionalPrior):
        return check_environments(model)
    if offers(model, TriangularMonotone):
        return _triangular(model)
    if offers(model, ConvexGradient):
        return _convex_gradient(model)
    if not offers(model, HasPrior):
        return _report(model, "nothing is known that restricts the generator or fixes the prior",
                       groups.anything(("all invertible maps of z",)))  # fmt: skip
    law = prior_law(model)
    if offers(model, PiecewiseAffine):
        return _piecewise_affine(model, law)
    return _any_generator(model, law)


def _triangular(model: Any) -> IdentifiabilityReport:
    directions = "increasing" if all(s > 0 for s in model.signature) else "of given direction"
    anchors = getattr(model, "anchors", None)
    which = f"the first {model.latent_dim} outputs" if anchors is None else _outputs(anchors)
    head = f"{which} are a triangular map, each {directions} in its z"
    if _has_fixed_prior(model):
        condition = f"{head}, and the prior is fixed: such a map between two laws is unique"
        return _report(model, condition, groups.identity())
    sentence = "increasing maps of each coordinate, which a learned independent prior can follow"
    return _report(
        model,
        f"{head}, but the prior is learned",
        SymmetryGroup(
            "up to increasing maps of each coordinate",
            (sentence,),
            coordinatewise=True,
            increasing=True,
        ),
    )


def _outputs(anchors: Sequence[int]) -> str:
    """Name outputs in their order, counted from 1 as the coordinates of z are."""
    names = ", ".join(f"x_{anchor + 1}" for anchor in anchors)
    return f"the anchor outputs {names} (anchors={tuple(anchors)})"


def _has_fixed_prior(model: Any) -> bool:
    """Whether a model says that its prior is given, and no gradient says otherwise."""
    learns = offers(model, HasPrior) and prior_law(model).learns
    return bool(model.prior_is_fixed) and not learns


def _convex_gradient(model: Any) -> IdentifiabilityReport:
    head = "the generator is the gradient of a convex function"
    if _has_fixed_prior(model):
        condition = f"{head}, and the prior is fixed: the optimal transport map is unique"
        return _report(model, condition, groups.identity())
    return _report(
        model,
        f"{head}, but the prior is learned",
        groups.anything(("maps that the learned prior can follow",)),
    )


def _piecewise_affine(model: Any, law: PriorLaw) -> IdentifiabilityReport:
    stack, dim = model.affine_stack, model.latent_dim
    injective, linear = is_injective(stack), len(stack.weights) == 1
    kind = "affine" if linear else "piecewise affine"
    rank = int(torch.linalg.matrix_rank(stack.weights[0].detach())) if linear else None
    ranks = {"rank": rank, "needed_rank": dim} if linear else {}
    if injective is False:
        return _report(
            model,
            f"the {kind} generator must be one to one, but at its present weights it is not",
            groups.anything(("any map that the generator does not tell apart",)),
            **ranks,
        )
    if injective is None:
        return _report(
            model,
            "the piecewise-affine generator must be one to one, which could not be proven",
            groups.anything((f"{_affine_symmetries(dim, law).symmetries[0]} if it is, "
                             f"{ANY} if it is not",)),
            warnings=("Positive slopes (leaky ReLU) and layers that never get narrower, up to the "
                      "output, prove that a generator is one to one.",),
        )  # fmt: skip
    condition = f"the generator is {kind} and one to one, the prior "
    condition += "learned" if law.learns else "fixed"
    group = _affine_symmetries(dim, law)
    if group.level == "up to signs" and law.is_centred:
        condition += " (fix_sign_by(x, z), or a first output that increases in z, fixes the sign)"
    return _report(model, condition, group, **ranks)


def _affine_symmetries(dim: int, law: PriorLaw) -> SymmetryGroup:
    """Maps that keep the law of z and lead from one piecewise-affine model to another.

    Gaussian densities are analytic: a piecewise-affine map that carries a Gaussian, or a mixture
    of them, into another one is affine. Densities with kinks allow more.
    """
    if law.family == "another":
        sentence = "piecewise-affine maps that carry the prior into itself, not worked out"
        return groups.anything((sentence,))
    if law.learns:
        return groups.affine(("affine maps of z, which the learned prior can follow",))
    if law.family == "mixture":
        return groups.affine(("affine maps that carry the prior into itself, not worked out",))
    if dim == 1:
        return groups.signs((_mirror(law),))
    about = "" if law.is_centred else " about its mean"
    if law.is_isotropic:
        return groups.orthogonal((f"rotations and mirrors of z{about}, the group O({dim})",))
    sentence = f"rotations and mirrors of z{about} after it is whitened, a group O({dim})"
    return groups.affine((sentence,))


def _mirror(law: PriorLaw) -> str:
    """The reflection that keeps the Gaussian law of a single latent."""
    if law.is_centred:
        return "sign flip in z_1"
    return f"reflection of z_1 about its mean {float(law.loc[0]):.3g}"


def _any_generator(model: Any, law: PriorLaw) -> IdentifiabilityReport:
    head = "nothing restricts the generator but that it is one to one, and the prior is "
    if law.learns:
        return _report(model, f"{head}learned", groups.anything(("all invertible maps of z",)))
    proven = offers(model, HasCode) or (
        offers(model, BiLipschitz) and model.certified_constants[0] > 0
    )
    if model.latent_dim == 1 and law.family == "gaussian":
        flip = _mirror(law)
        if proven:
            condition = "the generator is continuous and one to one, the fixed prior that of one z"
            return _report(model, condition, groups.signs((flip,)))
        condition = "the generator must be continuous and one to one, which was not proven"
        return _report(model, condition, groups.anything((f"{flip} if it is, more if not",)))
    return _report(model, f"{head}one fixed law", groups.anything((f"{ANY}",)))


def _report(
    model: Any, condition: str, group: SymmetryGroup, **facts: Any
) -> IdentifiabilityReport:
    return IdentifiabilityReport(type(model).__name__, condition, group, **facts)
