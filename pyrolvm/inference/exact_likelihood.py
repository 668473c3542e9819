"""The exact likelihood of a model as a function of one flat vector, for optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from pyrolvm.core.errors import PyroLVMError, SettingError
from pyrolvm.exact.folding import Array, to_numpy
from pyrolvm.inference.evidence import exact_log_evidence


@dataclass(frozen=True)
class ExactLikelihood:
    """Mean negative log likelihood in the parameters that learn.

    Args:
        model: A module whose evidence is known exactly; in double precision.
        x: Observations, ``(N, obs_dim)``, where the model lies.
    """

    model: Any
    x: Tensor

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name.

        Raises:
            SettingError: If there is none.
        """
        found = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        if not found:
            raise SettingError(
                f"fit_exact has nothing to learn: no parameter of {type(self.model).__name__} "
                "carries a gradient. Call model.requires_grad_(True)."
            )
        return found

    @property
    def flat(self) -> Array:
        """All parameters in one vector."""
        return to_numpy(torch.cat([p.detach().reshape(-1) for p in self.parameters.values()]))

    @torch.no_grad()
    def assign(self, flat: Array) -> None:
        """Set all parameters from one vector."""
        rest = torch.tensor(flat, dtype=torch.float64)
        for parameter in self.parameters.values():
            part, rest = rest[: parameter.numel()], rest[parameter.numel() :]
            parameter.copy_(part.view(parameter.shape))

    def nll(self, x: Tensor | None = None) -> float:
        """Negative log likelihood, by default of the data themselves, in nats per datum."""
        with torch.no_grad():
            return -float(exact_log_evidence(self.model, self.x if x is None else x).mean())

    def differentiate(self, x: Tensor | None = None) -> float:
        """The same, with its gradient left in the parameters' ``grad``."""
        loss = -exact_log_evidence(self.model, self.x if x is None else x).mean()
        parameters = list(self.parameters.values())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        return float(loss.detach())

    def at(self, flat: Array) -> tuple[float, Array] | None:
        """Value and gradient at a point, or None where the likelihood cannot be evaluated."""
        self.assign(flat)
        try:
            value = self.differentiate()
        except PyroLVMError:
            return None
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        gradient = torch.cat([each.reshape(-1) for each in gradients])
        if not bool(torch.isfinite(gradient).all()) or not abs(value) < float("inf"):
            return None
        return value, to_numpy(gradient)


@contextmanager
def in_double_precision(model: nn.Module) -> Iterator[None]:
    """Let a module compute in float64; afterwards its numbers are rounded to their own types."""
    tensors = [*model.parameters(), *model.buffers()]
    before = [(tensor, tensor.dtype) for tensor in tensors if tensor.is_floating_point()]
    try:
        for tensor, _ in before:
            tensor.data = tensor.data.double()
        yield
    finally:
        model.zero_grad(set_to_none=True)
        for tensor, dtype in before:
            tensor.data = tensor.data.to(dtype)
