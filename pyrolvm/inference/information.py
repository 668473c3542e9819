r"""How much an observation says about its latents, and the noise at which it says so much.

.. math:: I(Z; X) = E_{p(x, z)}[\log p(x \mid z) - \log p(x)]

Generators can only be compared fairly at equal information: where a map contracts and the noise
stays, x says less about z, the posterior falls back to the prior, and inference gets easier in
nats although the map is harder to invert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from scipy.optimize import brentq
from torch import Tensor

from pyrolvm.core import Estimate, EvidenceError, evaluating, mean_over_data, prior_predictive
from pyrolvm.core.errors import SettingError
from pyrolvm.core.randomness import own_randomness
from pyrolvm.inference.evidence import exact_evidence

NUM_PAIRS = 256
NOISE_RANGE = (1e-2, 1e1)
FIRST_NOISE = 0.2
TOLERANCE = 1e-2
"""Of the logarithm of the noise."""


def mutual_information(model: Any, *, num_pairs: int = NUM_PAIRS, seed: int = 0) -> Estimate:
    """Mutual information of latents and observations, in nats.

    Args:
        model: A model with prior and likelihood at hand, and an evidence that rests on no guide.
        num_pairs: Simulated pairs.
        seed: Of the pairs.

    Raises:
        EvidenceError: If there is no such evidence.
    """
    with own_randomness(seed):
        drawn = prior_predictive(model, num_pairs)
    x = drawn.observations["x"].double()
    evidence = exact_evidence(model, x)
    if evidence is None:
        raise EvidenceError(
            f"The information in observations of {type(model).__name__} needs its evidence, which "
            "is neither exact nor in reach of quadrature. Take a model with 1 or 2 latents."
        )
    with evaluating(model):
        likelihood = model.likelihood(drawn.latents[model.latent_sites[0]].double())
        found: Tensor = likelihood.log_prob(x).detach()
    return mean_over_data(found - evidence.value, evidence.method)


def noise_for_information(
    make: Callable[[float], Any], nats: float, *, num_pairs: int = NUM_PAIRS, seed: int = 0
) -> float:
    """Find the noise scale at which a generator's observations hold so much information.

    Args:
        make: Builds the generator, the same but for its noise scale.
        nats: Mutual information that is wanted.
        num_pairs: Simulated pairs, from the same random numbers for every noise scale.
        seed: Of the pairs.

    Returns:
        A noise scale between 0.01 and 10.

    Raises:
        SettingError: If the generator has more or less information at every such noise scale.
        EvidenceError: If its evidence is not known without a guide.
    """

    def surplus(log_noise: float) -> float:
        model = make(math.exp(log_noise))
        return mutual_information(model, num_pairs=num_pairs, seed=seed).value - nats

    start = math.log(FIRST_NOISE)
    too_little = surplus(start) < 0
    reached = _first_beyond(surplus, start, -math.log(2) if too_little else math.log(2))
    if reached is None:
        raise SettingError(
            f"No noise scale between {NOISE_RANGE[0]} and {NOISE_RANGE[1]} gives an information "
            f"of {nats} nats; at {FIRST_NOISE} it is {surplus(start) + nats:.2f} nats."
        )
    low, high = sorted((start, reached))
    return math.exp(brentq(surplus, low, high, xtol=TOLERANCE))


def _first_beyond(surplus: Callable[[float], float], start: float, step: float) -> float | None:
    """Walk until the sign changes; None where the range ends before."""
    sign, place = surplus(start) < 0, start
    while math.log(NOISE_RANGE[0]) <= place + step <= math.log(NOISE_RANGE[1]):
        place += step
        if (surplus(place) < 0) != sign:
            return place
    return None
