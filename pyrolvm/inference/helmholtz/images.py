"""What a trained pair paints: draws of p and of p*, and completions of half-hidden images."""

from __future__ import annotations

import torch
from torch import Tensor

from pyrolvm.core import evaluating
from pyrolvm.core.randomness import own_randomness
from pyrolvm.guides import HelmholtzCoupled
from pyrolvm.inference.pstar import PStar
from pyrolvm.models import SigmoidBeliefNetwork

NUM_DRAWS, NUM_COMPLETED, NUM_COMPLETIONS = 24, 6, 3


def painted(
    model: SigmoidBeliefNetwork,
    guide: HelmholtzCoupled,
    x: Tensor,
    sweeps: int,
    *,
    progress: bool = False,
) -> dict[str, Tensor]:
    """Draw images from p and from p*, and complete test images whose lower half is hidden.

    Args:
        model: The belief network.
        guide: Its guide.
        x: Images of the test set, shape ``(N, D)``, row by row from the top; a few are taken at
            random.
        sweeps: Of the chains that draw from p*.
        progress: Whether to show a bar.

    Returns:
        ``p`` and ``pstar``, shape ``(draws, D)``; ``x`` and ``mask`` (True where a place was
        shown), shape ``(images, D)``; ``completed``, shape ``(completions, images, D)``.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    rows = x[order[:NUM_COMPLETED]].to(model.device)
    mask = torch.zeros_like(rows, dtype=torch.bool)
    mask[:, : rows.shape[1] // 2] = True
    pstar = PStar(model, guide, progress=progress)
    with own_randomness(0):
        with evaluating(model):
            draws = model(size=NUM_DRAWS)
        coupled = pstar.sample(NUM_DRAWS, sweeps=sweeps)
        completed = pstar.inpaint(rows, mask, num_chains=NUM_COMPLETIONS, sweeps=sweeps)
    found = {"p": draws, "pstar": coupled, "x": rows, "mask": mask, "completed": completed}
    return {name: value.detach().float().cpu() for name, value in found.items()}
