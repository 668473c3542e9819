r"""What an exact generator answers: entries that are hidden, and rows that do not belong.

Hidden entries are imputed by their exact mean given those observed; the error is that of all
hidden entries, :math:`\sqrt{\operatorname{mean} (\hat x - x)^2}`. Rows of another data set are
told from those of the cell's own by the exact :math:`-\log p(x)`; the area under the ROC curve is
the probability that one of the former scores higher than one of the latter, with the standard
error of DeLong, DeLong & Clarke-Pearson (1988).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyrolvm.core import DataError, Estimate, mean_over_data, serves
from pyrolvm.core.errors import SettingError
from pyrolvm.guides import ExactCPA
from pyrolvm.studies.problem import dataset_of, make_outliers, seed_for, simulated_size
from pyrolvm.studies.training import Trained

Figures = dict[str, float | None]
ANSWERS = (
    "imputation_rmse", "imputation_baseline", "observed_log_evidence", "auroc", "auroc_baseline",
)  # fmt: skip
"""Figures of this module; each has a standard error ``<name>_se`` over the scored rows."""


def answers(trained: Trained, configuration: Mapping[str, Any]) -> Figures:
    """Figures of imputation and of anomalies, None where a cell does not ask for them.

    Args:
        trained: The pair.
        configuration: That of the cell.

    Returns:
        ``imputation_rmse`` and ``imputation_baseline``: errors of the exact mean and of the
        training mean, in units of x. ``observed_log_evidence``: log p of the observed entries,
        nats a datum. ``auroc`` and ``auroc_baseline``: by -log p(x), and by the squared distance
        to the training mean. Each with ``_se``.
    """
    found = dict.fromkeys(ANSWERS, Estimate(torch.nan, torch.nan, "not asked"))
    if configuration["missing"]:
        share, seed = configuration["missing"], configuration["model_seed"]
        found |= _imputation(trained, share, seed_for("hidden entries", seed))
    outliers = make_outliers(configuration)
    if outliers is not None:
        found |= _anomalies(trained, outliers)
    values = {name: each.value for name, each in found.items()}
    errors = {f"{name}_se": each.standard_error for name, each in found.items()}
    return {n: v if math.isfinite(v) else None for n, v in (values | errors).items()}


def hidden_entries(rows: int, dim: int, share: float, seed: int) -> Bool[Tensor, "rows dim"]:
    """Choose entries to hide at random, as many in every row; at least one is hidden, one seen.

    Args:
        rows: Number of rows N.
        dim: Entries of a row D.
        share: Of the entries, between 0 and 1.
        seed: The same seed hides the same entries.

    Returns:
        True where an entry is hidden, shape ``(N, D)``.
    """
    number = min(max(1, round(share * dim)), dim - 1)
    ranks = torch.rand(rows, dim, generator=torch.Generator().manual_seed(seed)).argsort(1)
    return ranks < number


def root_mean_square(errors: Float[Tensor, "rows entries"]) -> Estimate:
    """Root of the mean squared entry; its standard error over rows by the delta method."""
    mean = mean_over_data(errors.double().square().mean(1))
    root = mean.value**0.5
    error = mean.standard_error / (2 * root) if root else 0.0
    return Estimate(root, error, "delta method over rows")


def area_under_roc(inliers: Float[Tensor, " n"], outliers: Float[Tensor, " m"]) -> Estimate:
    """Probability that an outlier's score exceeds an inlier's, ties counting half.

    Args:
        inliers: Scores of n rows.
        outliers: Scores of m rows, higher ones expected.

    Returns:
        The area under the ROC curve with the standard error of DeLong et al. (1988).
    """
    larger = (outliers[:, None] > inliers[None, :]).double()
    wins = larger + 0.5 * (outliers[:, None] == inliers[None, :])
    parts = [wins.mean(dim).var() / wins.shape[1 - dim] for dim in (0, 1)]
    return Estimate(wins.mean().item(), (parts[0] + parts[1]).sqrt().item(), "DeLong")


def _imputation(trained: Trained, share: float, seed: int) -> dict[str, Estimate]:
    x = trained.rows.test.double()
    hidden = hidden_entries(len(x), x.shape[1], share, seed)
    given = x.masked_fill(hidden, torch.nan)
    guide = ExactCPA(trained.model)
    average = trained.rows.train.double().mean(0).expand_as(x)
    errors = {"imputation_rmse": guide.impute(given).mean - x, "imputation_baseline": average - x}
    found = {name: root_mean_square(e[hidden].reshape(len(x), -1)) for name, e in errors.items()}
    with torch.no_grad():
        observed = guide.log_evidence(given, missing="nan")
    return {**found, "observed_log_evidence": mean_over_data(observed)}


def _anomalies(trained: Trained, outliers: Tensor) -> dict[str, Estimate]:
    groups = [rows.double() for rows in (trained.rows.test, outliers)]
    guide, average = ExactCPA(trained.model), trained.rows.train.double().mean(0)
    with torch.no_grad():
        exact = [-guide.log_evidence(rows) for rows in groups]
    distance = [(rows - average).square().sum(1) for rows in groups]
    return {"auroc": area_under_roc(*exact), "auroc_baseline": area_under_roc(*distance)}


def check_missing(model: Any) -> None:
    """Refuse hidden entries where their exact mean is not known.

    Raises:
        SettingError: If the generator is not piecewise affine, or has a single entry.
    """
    _require_exact("missing", model)
    if model.obs_dim < 2:
        raise SettingError(
            f"missing hides some entries of a row, but {type(model).__name__} has rows of one."
        )


def check_outliers(outliers: str, data: str, model_seed: int, model: Any) -> None:
    """Refuse outliers that cannot be told from the data of a cell.

    Raises:
        SettingError: If they are not a data set, the data are none, or the generator's likelihood
            is not known exactly.
        DataError: If their rows have another width.
    """
    if simulated_size(data) is not None or simulated_size(outliers) is not None:
        raise SettingError(
            f"outliers = {outliers!r} are told from the rows of a data set: both have to be one "
            f'by name or file ("digits:5-9"), but data = {data!r}.'
        )
    own, others = dataset_of(data, model_seed), dataset_of(outliers, model_seed)
    if own.dim != others.dim:
        raise DataError(
            f"outliers = {outliers!r} have {others.dim} entries a row, but data = {data!r} have "
            f"{own.dim}."
        )
    _require_exact("outliers", model)


def _require_exact(key: str, model: Any) -> None:
    if not serves(ExactCPA, model):
        raise SettingError(
            f"{key} needs the exact posterior of a piecewise-affine generator with at most "
            f"{ExactCPA.max_latent_dim} latent dimensions, but "
            f"{getattr(model, '__name__', type(model).__name__)} has none. Take the model "
            "cpa-generator."
        )
