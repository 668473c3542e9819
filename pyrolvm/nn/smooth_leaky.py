r"""A smooth leaky activation with slopes between a and 1, and its inverse.

.. math:: \phi(t) = a t + (1 - a) \frac{\log(1 + e^{s t})}{s}, \qquad
          \phi'(t) = a + (1 - a) \operatorname{sigmoid}(s t) \in (a, 1)
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from pyrolvm.core.errors import SettingError

MAX_STEPS = 200
"""More than Newton's method needs from here; slopes near 0 take the most."""


class SmoothLeaky(nn.Module):
    """A leaky rectifier with a rounded corner; it acts on each entry.

    Args:
        slope: Slope a far left of 0, above 0 and at most 1.
        sharpness: The corner is about 1/s wide.

    Raises:
        SettingError: If the slope or the sharpness is out of range.
    """

    def __init__(self, slope: float, sharpness: float = 4.0) -> None:
        super().__init__()
        if not 0 < slope <= 1 or not 0 < sharpness < math.inf:
            raise SettingError(
                "A smooth leaky activation needs a slope in (0, 1] and a positive sharpness, but "
                f"they are {slope} and {sharpness}."
            )
        self.slope, self.sharpness = slope, sharpness

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return φ(inputs)."""
        corner = softplus(self.sharpness * inputs) / self.sharpness
        return self.slope * inputs + (1 - self.slope) * corner

    def inverse(self, outputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the inputs of these outputs, to rounding.

        Newton's method from the leaky rectifier's own inverse: that lies right of the solution,
        from where the steps of a convex function never pass it.
        """
        inputs = torch.where(outputs > 0, outputs, outputs / self.slope)
        smallest = 4 * torch.finfo(inputs.dtype).eps
        for _ in range(MAX_STEPS):
            slopes = self.slope + (1 - self.slope) * torch.sigmoid(self.sharpness * inputs)
            step = (self(inputs) - outputs) / slopes
            inputs = inputs - step
            if bool((step.abs() <= smallest * inputs.abs().clamp_min(1.0)).all()):
                break
        return inputs
