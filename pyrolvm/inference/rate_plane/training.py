"""Train members of a rate plane together, on the distortion plus their weighted rates."""

from __future__ import annotations

from collections.abc import Sequence

from pyrolvm.datasets import Dataset
from pyrolvm.fit_ensemble import EnsembleMember, fit_ensemble
from pyrolvm.guides import Layerwise
from pyrolvm.inference.rate_plane.members import Member, PlaneSettings, make_guide, make_model
from pyrolvm.models import HierarchicalVAE
from pyrolvm.objectives import linear_warm_up

MEMBERS_AT_ONCE = {"mlp": 25, "conv": 1}
"""Members that are trained together before their weights are written, by network.

On a CPU small perceptrons gain much from being batched; convolutions with weights of their own for
each member are several times slower than one after the other.
"""


def trained(
    members: Sequence[Member], dataset: Dataset, settings: PlaneSettings, progress: bool | str
) -> tuple[EnsembleMember, ...]:
    """Return the trained pairs of some members of one seed, in their order.

    Raises:
        SettingError: If a setting makes no sense.
    """

    def guide_for(model: HierarchicalVAE, rate_weights: dict[str, float]) -> Layerwise:
        return make_guide(model, rate_weights, dataset, settings)

    result = fit_ensemble(
        lambda: make_model(dataset, settings),
        guide_for,
        dataset.train,
        seeds=[members[0].seed],
        grid=[{"rate_weights": member.rate_weights} for member in members],
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        warm_up=linear_warm_up(max(1.0, settings.warm_up * settings.steps)),
        progress=progress,
    )
    return result.members
