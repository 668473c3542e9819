"""The scale of Gaussian noise, learned with a floor or fixed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pyrolvm.core.errors import SettingError


class LearnedScale(nn.Module):
    r"""A positive scale :math:`\sigma = f + \exp(s)` with a floor f.

    The likelihood of a flexible generator grows without bound as the noise goes to 0 (Mattei &
    Frellsen 2018); the floor keeps training away from there.

    Args:
        scale: Value at the start, more than the floor.
        size: Number of scales.
        floor: Smallest value that training can reach; a fixed scale has none.
        learn: Whether the scale is trained.

    Raises:
        SettingError: If the scale is not finite, or not larger than its floor.
    """

    raw: Tensor

    def __init__(
        self, scale: float, size: int = 1, *, floor: float = 1e-3, learn: bool = True
    ) -> None:
        super().__init__()
        floor = floor if learn else 0.0
        if not math.isfinite(scale) or scale <= floor:
            raise SettingError(
                f"A noise scale must be finite and larger than its floor {floor:g}, but it is "
                f"{scale}. Raise it, or fix it with learn_noise=False."
            )
        self.floor = floor
        raw = torch.full((size,), math.log(scale - floor))
        if learn:
            self.raw = nn.Parameter(raw)
        else:
            self.register_buffer("raw", raw)

    def forward(self) -> Tensor:
        """Return the scale, shape ``(size,)``."""
        return self.floor + self.raw.exp()

    @property
    def learns(self) -> bool:
        """Whether the scale is trained."""
        return isinstance(self.raw, nn.Parameter)

    @torch.no_grad()
    def assign(self, scale: Tensor) -> None:
        """Set the scale, no lower than its floor; one scale takes the mean of several.

        Args:
            scale: Shape ``(size,)``, or any shape if there is one scale.
        """
        values = scale if scale.numel() == len(self.raw) else scale.mean()
        above = (values.to(self.raw) - self.floor).clamp(min=torch.finfo(self.raw.dtype).tiny)
        self.raw.copy_(above.log().expand_as(self.raw))
