"""Exact sums for belief networks whose layers are small: evidence, coupled bound, overlap, Z.

A guide that infers each layer from the one below is summed layer by layer, whatever the depth; any
other guide over the same layers is scored at every joint state of them all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pyrolvm.core import BinaryLayers, BinaryRecognition, Data, EvidenceError, Guide, evaluating
from pyrolvm.core.copying import copied
from pyrolvm.core.errors import IncompatiblePairError
from pyrolvm.core.pairing import offers
from pyrolvm.core.tracing import log_density_at
from pyrolvm.exact.binary import (
    Coupling,
    LayerSums,
    all_states,
    log_normaliser,
    log_probabilities,
    message_down,
    recognition,
)

MOST_CELLS = 2**26
"""Cells of all transfer matrices together; beyond, sums take minutes."""

MOST_BOTTOM_UNITS = 16
"""Units of the layer next to x: all of its states are weighed for each datum."""

MOST_JOINT_UNITS = 16
"""Units of all layers, where a guide is no chain and every joint state is visited."""

_JOINT_ELEMENTS = 2**21


def can_enumerate(model: Any, guide: Any = None) -> bool:
    """Whether :func:`layer_sums` can be had: binary layers, few units in each.

    Args:
        model: Any object.
        guide: A guide of it; None for the evidence alone.
    """
    return _obstacle(model, guide) is None


def layer_sums(model: Any, guide: Any = None) -> LayerSums:
    """Return exact sums over the latents of a belief network, in double precision.

    The sums keep the parameters as they are now; later training does not change them.

    Args:
        model: Offers :class:`pyrolvm.core.BinaryLayers`, with few units in each layer.
        guide: Offers :class:`pyrolvm.core.BinaryRecognition`, or is any guide of PyroLVM over the
            same layers, as long as they have up to 16 units together. None gives the evidence
            alone.

    Returns:
        ``log_evidence(x)``, and with a guide ``log_bound(x)``, ``overlap(x)`` and ``log_z2``.

    Raises:
        IncompatiblePairError: If the model has no binary layers, or the guide no density at given
            latents.
        EvidenceError: If a layer is too wide.

    >>> from pyrolvm import guides, models
    >>> model = models.SigmoidBeliefNetwork(layers=(3, 2), obs_dim=5)
    >>> sums = layer_sums(model, guides.HelmholtzCoupled(model))
    >>> 0 < sums.overlap(model(size=4)).min().item() <= 1, sums.log_z2 <= 0
    (True, True)
    """
    obstacle = _obstacle(model, guide)
    if obstacle is not None:
        raise obstacle
    twin, its_guide = _twins(model, guide)
    with evaluating(twin, its_guide):
        return _sums(_InDouble(twin), None if guide is None else _InDouble(its_guide))


def live_sums(model: BinaryLayers) -> LayerSums:
    """Return sums over a model's latents in its own type, with gradients in its parameters.

    Args:
        model: A model for which :func:`can_enumerate` holds.
    """
    return _sums(model, None)


class _InDouble:
    """A program of the sums' own, run in double precision whenever it is asked."""

    def __init__(self, program: Any) -> None:
        self.program = program
        self.latent_sites = getattr(program, "latent_sites", ())
        self.layer_dims = getattr(program, "layer_dims", {})

    def layer_logits(self, site: str, value: Tensor | None) -> Tensor:
        with evaluating(self.program):
            return self.program.layer_logits(site, value)

    def log_density(self, x: Tensor, values: dict[str, Tensor]) -> Tensor:
        """Log q of values of every layer, ``(K, N, width)`` each, shape ``(K, N)``."""
        with evaluating(self.program):
            found = log_density_at(self.program, Data.of(x), values, -2)
        if found.keys() != values.keys():
            raise _no_density(self.program)
        return torch.stack(torch.broadcast_tensors(*found.values())).sum(0)


def _twins(model: Any, guide: Any) -> tuple[Any, Any]:
    """Copies of both that share nothing with the originals."""
    if isinstance(model, nn.Module) and isinstance(guide, nn.Module):
        twin, its_guide = copied(model, guide)
        return twin, its_guide
    return copy.deepcopy((model, guide))


def _sums(model: Any, guide: Any) -> LayerSums:
    if guide is not None and not offers(guide.program, BinaryRecognition):
        return _joint_sums(model, guide)
    sites = tuple(reversed(model.latent_sites))
    widths = model.layer_dims
    top = model.layer_logits(sites[-1], None)
    kind = {"dtype": top.dtype, "device": top.device}
    message = log_probabilities(top[None], all_states(widths[sites[-1]], **kind))[0]
    half = message / 2
    for lower, upper in reversed(list(pairwise(sites))):
        down = partial(model.layer_logits, lower)
        message = message_down(message, widths[lower], down)
        if guide is not None:
            up = partial(guide.layer_logits, upper)
            half = message_down(half, widths[lower], down, up)
    logits = model.layer_logits("x", all_states(widths[sites[0]], **kind))
    if guide is None:
        return LayerSums(logits, message)
    log_guide = recognition(partial(guide.layer_logits, sites[0]), widths[sites[0]])
    return LayerSums(logits, message, Coupling(half, log_guide))


def _joint_sums(model: Any, guide: Any) -> LayerSums:
    """Sums over every joint state of all layers, as if they were one."""
    widths: list[int] = [model.layer_dims[site] for site in model.latent_sites]
    device = model.layer_logits(model.latent_sites[0], None).device
    values = all_states(sum(widths), device=device).split(widths, dim=-1)
    states = dict(zip(model.latent_sites, values, strict=True))
    log_prior = _log_prior(model, states)
    logits = model.layer_logits("x", states[model.latent_sites[-1]])
    return LayerSums(logits, log_prior, Coupling(log_prior / 2, _guide_at(guide, states)))


def _log_prior(model: Any, states: dict[str, Tensor]) -> Tensor:
    """Log p of joint states, shape ``(S,)``."""
    above: Tensor | None = None
    total = next(iter(states.values())).new_zeros(())
    for site, value in states.items():
        logits = model.layer_logits(site, above)
        total = total + (value * logits).sum(-1) - log_normaliser(logits)
        above = value
    return total


def _guide_at(guide: _InDouble, states: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    def log_guide(x: Tensor) -> Tensor:
        size = max(1, _JOINT_ELEMENTS // sum(value.numel() for value in states.values()))
        parts = []
        for part in x.split(size):
            values = {
                site: value[:, None].expand(-1, len(part), -1) for site, value in states.items()
            }
            parts.append(guide.log_density(part, values).mT)
        return torch.cat(parts)

    return log_guide


def _obstacle(model: Any, guide: Any) -> Exception | None:
    """What stands in the way of sums, as the error to be raised; None for nothing."""
    name = getattr(model, "__name__", type(model).__name__)
    if not offers(model, BinaryLayers):
        return IncompatiblePairError(
            f"Exact sums need a model with layers of zeros and ones (the capability "
            f"BinaryLayers), which {name} does not offer. Bound its evidence with a guide: "
            "diagnose(model, guide, x)."
        )
    widths: Sequence[int] = [model.layer_dims[site] for site in reversed(model.latent_sites)]
    cells = sum(2 ** (a + b) for a, b in pairwise(widths)) + 2 ** widths[0] * model.obs_dim
    if cells > MOST_CELLS or widths[0] > MOST_BOTTOM_UNITS:
        return EvidenceError(
            f"Exact sums hold every state of two neighbouring layers of {name}, but layers of "
            f"{tuple(widths)} units over {model.obs_dim} observed ones are too wide for that. "
            "Estimate instead: PStar(model, guide) samples, diagnose(model, guide, x) bounds."
        )
    if guide is None or offers(guide, BinaryRecognition):
        return None
    if not isinstance(guide, Guide) or guide.extended_space or not guide.has_density:
        return _no_density(guide)
    if sum(widths) > MOST_JOINT_UNITS:
        return EvidenceError(
            f"{type(guide).__name__} is no chain of layers (BinaryRecognition), so that exact "
            f"sums visit every joint state, but {sum(widths)} units have 2^{sum(widths)} of them; "
            f"up to {MOST_JOINT_UNITS} units do. Estimate instead: PStar(model, guide)."
        )
    return None


def _no_density(guide: Any) -> IncompatiblePairError:
    return IncompatiblePairError(
        "Exact sums need log q at given latents, from a guide of PyroLVM over the model's own "
        f"sites, which {getattr(guide, '__name__', type(guide).__name__)} does not give. Use "
        "HelmholtzCoupled, or estimate: PStar(model, guide)."
    )
