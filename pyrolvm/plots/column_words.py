"""What columns of a study's table are called on axes, in titles and in legends, with units."""

from __future__ import annotations

from pyrolvm.studies.labels import COUNTED, worded

AXIS_LABELS = {
    "parameters": "encoder parameters",
    "gap": "gap, nats a datum",
    "approximation_gap": "approximation gap, nats a datum",
    "amortization_gap": "amortization gap, nats a datum",
    "elbo": "ELBO, nats a datum",
    "log_evidence": "log p(x), nats a datum",
    "tv": "total variation distance",
    "tv_share": "share of data with TV ≤ 0.1",
    "bc2": "BC²",
    "ess": "effective draws",
    "steps": "training steps",
    "doublings": "doublings of the slope",
    "guide.width": "width of the hidden layers",
    "guide.depth": "hidden layers",
    "guide.num_components": "components of the guide's mixture",
    "evidence_loss": "log p(x) lost to the truth, nats a datum",
    "marginal_gap": "KL of the chain's end, nats a datum",
    "information": "information, nats",
    "train_nll": "training −log p(x), nats a datum",
    "nll": "held-out −log p(x), nats a datum",
    "overfitting": "held-out less training, nats a datum",
    "behind_best": "log p(x) behind the best, nats a datum",
    "seconds_training": "processor seconds",
    "imputation_rmse": "error of hidden entries (RMSE)",
    "imputation_baseline": "error of the training mean (RMSE)",
    "observed_log_evidence": "log p of observed entries, nats a datum",
    "auroc": "area under the ROC curve",
    "auroc_baseline": "area under the ROC curve, distance to the mean",
    "mode_entropy": "entropy of the posterior's modes, nats",
    "missing": "share of entries that are hidden",
    "model.width": "width of the generator's hidden layers",
    "model.latent_dim": "latent dimensions",
    "model.prior_components": "prior components",
    "learner": "learner",
    "problem": "data and layers",
}
SHARES = ("tv", "tv_share", "bc2", "khat_share")
"""Figures that lie between 0 and 1."""
LONG_LABEL = 30
"""Characters that stand beside a panel; a longer label takes two lines."""


def axis_label(column: str) -> str:
    """What an axis of a column is called, with its unit.

    >>> axis_label("gap"), axis_label("guide.num_langevin"), axis_label("model.slope")
    ('gap, nats a datum', 'Langevin steps', 'slope')
    """
    if column in AXIS_LABELS:
        return AXIS_LABELS[column]
    name = column.rsplit(".", maxsplit=1)[-1]
    return COUNTED.get(name, name.removeprefix("num_").replace("_", " "))


def beside_panel(label: str) -> str:
    r"""A label that fits beside a panel: a long one has its unit on a line of its own.

    >>> beside_panel("log p(x) lost to the truth, nats a datum")
    'log p(x) lost to the truth,\nnats a datum'
    """
    return label.replace(", ", ",\n", 1) if len(label) > LONG_LABEL else label


def value_label(column: str | None, value: str) -> str:
    """What a line or a panel is called: numbers with the name of their column.

    >>> value_label("model.slope", "0.5"), value_label("guide.family", "full")
    ('slope 0.5', 'full')
    >>> value_label("guide.depth", "2.0"), value_label("information", "0.0")
    ('2 hidden layers', 'noise as given')
    >>> value_label("missing", "0.25")
    '25 % hidden'
    """
    if column is None:
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    if column == "information":
        return f"{number:g} nats of information" if number else "noise as given"
    if column == "missing":
        return f"{number:.0%} hidden".replace("%", " %")
    if column == "guide.depth":
        return worded("num_hidden layers", number)
    return worded(column.rsplit(".", maxsplit=1)[-1], number)


def cell_label(column: str, value: str) -> str:
    """A value of a column in the cell of a table: a whole number without decimals.

    >>> cell_label("guide.width", "2.0"), cell_label("model.permutation", "gray-code")
    ('2', 'gray-code')
    """
    try:
        number = float(value)
    except ValueError:
        return value
    if column == "information" and not number:
        return value_label(column, value)
    return f"{number:,.6g}"
