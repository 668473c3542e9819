r"""Gradient ascent on each datum's ELBO, as layers of a guide.

.. math:: \lambda_{k+1} = \lambda_k + \rho_n \, e^{r} \odot \nabla \mathrm{ELBO}_n(\lambda_k)

with learned rates r. A step that raises a datum's bound lengthens its :math:`\rho_n` by half; one
that would lower the bound is not taken, and halves it: more steps never lower the bound that they
climb.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pyrolvm.amortization.local_elbo import LocalElbo
from pyrolvm.amortization.log_joint import value_and_slope

GROWTH, SHRINKAGE = 1.5, 0.5
"""What a step that was taken, and one that was not, does to the length of a datum's next one."""


class ElboAscent(nn.Module):
    """A number of ascent steps with one rate for each of the family's parameters.

    Args:
        num_steps: Number of steps.
        num_parameters: Number P of parameters of a datum.
        rate: All rates before training.
        first_order: Whether training takes the gradients as they come, without differentiating
            them once more: cheaper, and not the whole gradient.
    """

    def __init__(
        self, num_steps: int, num_parameters: int, rate: float, *, first_order: bool = False
    ) -> None:
        super().__init__()
        self.num_steps, self.first_order = num_steps, first_order
        self.log_rate = nn.Parameter(torch.full((num_parameters,), rate).log())

    def forward(
        self, elbo: LocalElbo, parameters: Float[Tensor, "data P"]
    ) -> Float[Tensor, "data P"]:
        """Return the refined λ of each datum, shape ``(N, P)``."""
        value, gradient = value_and_slope(elbo, parameters, create_graph=not self.first_order)
        length = torch.ones_like(value).unsqueeze(-1)
        for _ in range(self.num_steps):
            proposal = parameters + length * self.log_rate.exp() * gradient
            new_value, new_gradient = value_and_slope(
                elbo, proposal, create_graph=not self.first_order
            )
            better = new_value >= value
            value = torch.where(better, new_value, value)
            taken = better.unsqueeze(-1)
            parameters = torch.where(taken, proposal, parameters)
            gradient = torch.where(taken, new_gradient, gradient)
            length = length * torch.where(taken, GROWTH, SHRINKAGE)
        return parameters
