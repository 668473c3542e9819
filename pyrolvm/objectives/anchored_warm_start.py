r"""A warm start that puts each environment where its prior says.

.. math:: \min \; E \sum_i \frac{(m_i(x) - \mu_{ui})^2}{\sigma_{ui}^2}
          + E_{z \sim p(z \mid u)} \|g(z) - x\|^2

The encoder's mean m learns to tell the environments by their means, the decoder g what each of
them looks like: both start in the arrangement of the prior. Training alone may start in another
one, such as a mirror image, and stay there at a far lower ELBO.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyrolvm.core import ConditionalPrior, Data, IncompatiblePairError, NonFiniteLossError
from pyrolvm.core.errors import SettingError, require_at_least
from pyrolvm.core.pairing import offers


@runtime_checkable
class Decodes(Protocol):
    """A model whose mean of x given z is a map."""

    def generate(self, z: Tensor) -> Tensor:
        """Return the mean of x, shape ``(N, obs_dim)``."""
        ...


@runtime_checkable
class ReadsEvidence(Protocol):
    """A guide that tells what x alone says about z from what its environment says."""

    def evidence(self, x: Tensor) -> TorchDistribution:
        """Return the encoder's distribution: batch shape ``(N,)``, event shape ``(D,)``."""
        ...


@dataclass(frozen=True)
class AnchoredWarmStart:
    """Regress the encoder's mean on the prior's means, and the decoder on draws of the prior.

    Pass it to :func:`pyrolvm.fit` as ``warm_start``. The prior itself stays as it is, and so does
    what does not learn.

    Args:
        steps: Number of steps.
        learning_rate: Step size of Adam.
        batch_size: Rows in a minibatch.

    Raises:
        SettingError: If a number makes no sense.
    """

    steps: int = 400
    learning_rate: float = 1e-2
    batch_size: int = 256

    def __post_init__(self) -> None:
        require_at_least(0, steps=self.steps)
        require_at_least(1, batch_size=self.batch_size)
        if not 0 < self.learning_rate < float("inf"):
            raise SettingError(
                f"learning_rate should be positive and finite, but it is {self.learning_rate}."
            )

    def __call__(self, model: Any, guide: Any, rows: Data) -> None:
        """Change model and guide in place.

        Raises:
            IncompatiblePairError: If the model has no conditional prior, or the guide has no
                encoder of x alone.
            NonFiniteLossError: If the loss is not finite; the state before that step is kept.
        """
        _require(model, guide)
        given = dict(rows.items())
        x, u = given["x"], given["u"]
        weights = [p for p in (*model.parameters(), *guide.parameters()) if p.requires_grad]
        if not weights:
            return
        optimizer = torch.optim.Adam(weights, lr=self.learning_rate)
        for step in range(self.steps):
            index = torch.randint(rows.num_rows, (self.batch_size,)).to(x.device)
            loss = _loss(model, guide, x[index], u[index])
            if not loss.isfinite():
                raise NonFiniteLossError(
                    f"The warm start met a loss that is not finite at step {step}. Scale the "
                    "data, or lower its learning_rate."
                )
            optimizer.zero_grad()
            if loss.requires_grad:
                loss.backward()
            optimizer.step()
        optimizer.zero_grad()


def _loss(
    model: Any, guide: Any, x: Float[Tensor, "data obs_dim"], u: Int[Tensor, " data"]
) -> Tensor:
    """Mean over data of both regressions; no gradient reaches the prior."""
    prior = model.conditional_prior(u)
    distance = (guide.evidence(x).mean - prior.mean.detach()).square()
    residual = model.generate(prior.sample()) - x
    return (distance / prior.variance.detach()).sum(-1).mean() + residual.square().sum(-1).mean()


def _require(model: Any, guide: Any) -> None:
    lacking = [
        f"{role} with {what}, which {type(program).__name__} does not offer"
        for role, program, capability, what in (
            ("a model", model, ConditionalPrior, "a conditional prior"),
            ("a model", model, Decodes, "generate(z)"),
            ("a guide", guide, ReadsEvidence, "an encoder of x alone, evidence(x)"),
        )
        if not offers(program, capability)
    ]
    if lacking:
        raise IncompatiblePairError(
            f"AnchoredWarmStart needs {lacking[0]}. Pair an AnchoredIVAE with ConditionalProduct."
        )
