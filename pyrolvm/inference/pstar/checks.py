"""What p* cannot be asked, and of which pairs; each refusal says what would do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyrolvm.core import (
    BinaryLayers,
    BinaryRecognition,
    DataError,
    Guide,
    IncompatiblePairError,
)
from pyrolvm.core.pairing import offers


def refuse_chain_densities(guide: Any) -> None:
    """Refuse a guide whose density is over a chain that ends at z."""
    if isinstance(guide, Guide) and guide.extended_space:
        raise IncompatiblePairError(
            f"PStar needs log q(z | x) at given latents, but {type(guide).__name__} has the "
            "density of a whole chain that ends at z. Use a guide with a density of z."
        )


def refuse_per_datum(guide: Any, what: str) -> None:
    """Refuse a guide that knows its own data alone, where the model draws new ones."""
    if isinstance(guide, Guide) and guide.per_datum:
        raise IncompatiblePairError(
            f"{what} needs a guide for every x that the model may draw, but "
            f"{type(guide).__name__} has parameters for its own data alone. Use an "
            "amortized guide, such as HelmholtzCoupled."
        )


def refuse_other_layers(model: Any, guide: Any) -> None:
    """Refuse a guide that was made for another model's layers."""
    theirs, own = (
        (dict(getattr(program, "layer_dims", {})), getattr(program, "obs_dim", None))
        for program in (guide, model)
    )
    if theirs[0] and own[0] and theirs != own:
        raise IncompatiblePairError(
            f"PStar couples a model with its own guide, but the guide is made for layers "
            f"{theirs[0]} over {theirs[1]} observed units, and the model has {own[0]} over "
            f"{own[1]}. Make the guide of this model: {type(guide).__name__}(model)."
        )


def require_binary(model: Any, guide: Any, what: str) -> torch.dtype:
    """Refuse a pair that is not two stacks of binary layers.

    Returns:
        The floating type of the model.
    """
    for program, capability in ((model, BinaryLayers), (guide, BinaryRecognition)):
        if not offers(program, capability):
            raise IncompatiblePairError(
                f"{what} runs chains over layers of zeros and ones and needs the capability "
                f"{capability.__name__}, which "
                f"{getattr(program, '__name__', type(program).__name__)} does not offer; "
                "sample_by_importance serves any pair."
            )
    return model.layer_logits(model.latent_sites[0], None).dtype


def observed_places(x: Any, mask: Any, obs_dim: int) -> tuple[Tensor, Tensor]:
    """Check observations and the mask of their observed places.

    Returns:
        x with 0 in hidden places, and the mask, shape ``(N, obs_dim)`` each.

    Raises:
        DataError: If a shape or a type is wrong, or an observed value is neither 0 nor 1.
    """
    x = torch.as_tensor(x)
    if x.dim() != 2 or x.shape[1] != obs_dim or not len(x):
        raise DataError(
            f"inpaint needs x of shape (N, {obs_dim}), but got {tuple(x.shape)}. "
            "Put one observation in a row."
        )
    mask = torch.as_tensor(mask, device=x.device)
    if mask.dtype != torch.bool or mask.shape not in (x.shape, x.shape[1:]):
        raise DataError(
            f"inpaint needs a mask of booleans, True where x is observed, of shape "
            f"{tuple(x.shape)} or {tuple(x.shape[1:])}, but got {mask.dtype} of shape "
            f"{tuple(mask.shape)}."
        )
    mask = mask.expand(x.shape)
    bad = mask & (x != 0) & (x != 1)
    if bool(bad.any()):
        row, place = (int(index) for index in bad.nonzero()[0])
        raise DataError(
            f"inpaint needs zeros and ones where x is observed, but row {row}, place {place} "
            f"is {x[row, place].item():.3g}. Hide it (mask False), or binarise the data."
        )
    return torch.where(mask, x, torch.zeros_like(x)), mask
