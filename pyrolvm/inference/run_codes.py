"""The latent codes of one trained run: posterior means, and how good its bound is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from pyrolvm.core import Data, IncompatiblePairError, SiteError, evaluating, log_densities
from pyrolvm.core.capabilities import HasCode
from pyrolvm.core.errors import DataError
from pyrolvm.core.pairing import offers
from pyrolvm.core.randomness import own_randomness
from pyrolvm.identifiability import pullback_distances


@runtime_checkable
class TrainedPair(Protocol):
    """What training leaves: :class:`pyrolvm.Fit`, or a member of an ensemble."""

    @property
    def model(self) -> Any:
        """The trained model."""
        ...

    @property
    def guide(self) -> Any:
        """The trained guide."""
        ...


@runtime_checkable
class Generates(Protocol):
    """A model whose mean of x given z can be had."""

    def generate(self, z: Tensor) -> Tensor:
        """Return the mean of x: ``(..., latent_dim)`` to ``(..., obs_dim)``."""
        ...


@dataclass(frozen=True)
class RunCodes:
    """What one run says about each datum.

    Args:
        model: The model of the run.
        z: Posterior means, or exact codes, shape ``(N, D)``, double precision.
        elbo: Evidence lower bound in nats, shape ``(N,)``; of exact codes the log evidence.
        draws: Draws of the guide, shape ``(K, N, D)``; None where codes are exact.
    """

    model: Any
    z: Float[Tensor, "data D"]
    elbo: Float[Tensor, " data"]
    draws: Float[Tensor, "draw data D"] | None


def run_codes(run: Any, data: Any, *, num_draws: int, seed: int, site: str | None) -> RunCodes:
    """Encode data by one run.

    Args:
        run: A fit, a pair (model, guide), or a model with exact codes.
        data: What the model observes.
        num_draws: Draws of the guide that a posterior mean is taken over.
        seed: Of the draws.
        site: Name of the latent site, where there are several.

    Raises:
        IncompatiblePairError: If the run is none of these.
        SiteError: If the latent site is not named and not the only one, or its values are no
            vectors.
        FactorisationError: If the posterior does not factorise over data.
    """
    rows = Data.of(data)
    model, guide = _parts(run)
    if offers(model, HasCode):
        x = dict(rows.items()).get("x")
        if x is None:
            raise DataError("A model with exact codes encodes the observations 'x', which lack.")
        with evaluating(model):
            x = x.double()
            z, elbo = model.encode(x), model.log_evidence(x)
        return RunCodes(model, z.detach().double(), elbo.detach().double(), None)
    if guide is None:
        raise IncompatiblePairError(
            f"compare_runs takes fits, pairs (model, guide), or models with an exact code "
            f"(encode, decode, log_evidence), but got {type(run).__name__}."
        )
    with own_randomness(seed):
        found = log_densities(model, guide, rows, num_particles=num_draws, keep_values=True)
    found.require_per_datum("compare_runs")
    draws = found.values[_only_site(list(found.values), site)]
    if draws.dim() != 3:
        raise SiteError(
            "compare_runs needs a latent vector for each datum, but the shape of the draws "
            f"(draw, datum, ...) is {tuple(draws.shape)}."
        )
    return RunCodes(model, draws.mean(0), found.log_weights.mean(0), draws)


def run_distances(
    codes: RunCodes, pairs: Int[Tensor, "pair 2"]
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"] | None]:
    """Distances of the codes of pairs of data.

    Args:
        codes: Of one run.
        pairs: Numbers of the data.

    Returns:
        Euclidean distances, and those on the surface of the generator; None without a generator.
    """
    first, second = codes.z[pairs[:, 0]], codes.z[pairs[:, 1]]
    euclidean = (first - second).norm(dim=-1)
    decode = _decoder(codes.model)
    if decode is None:
        return euclidean, None
    with evaluating(codes.model):
        return euclidean, pullback_distances(decode, first, second)


def _decoder(model: Any) -> Callable[[Tensor], Tensor] | None:
    if offers(model, HasCode):
        return model.decode
    return model.generate if isinstance(model, Generates) else None


def _parts(run: Any) -> tuple[Any, Any]:
    """Model and guide of a run; no guide where the model stands alone."""
    if isinstance(run, TrainedPair):
        return run.model, run.guide
    if isinstance(run, tuple) and len(run) == 2:
        return run
    return run, None


def _only_site(names: list[str], asked: str | None) -> str:
    if asked is not None and asked in names:
        return asked
    if asked is None and len(names) == 1:
        return names[0]
    wanted = "no name was given" if asked is None else f"{asked!r} is none of them"
    raise SiteError(
        f"compare_runs compares one latent site, but there are {', '.join(map(repr, names))}, and "
        f"{wanted}. Pass site=."
    )
