"""The KL of a guide while it trains, beside the likelihood that the generator has reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyrolvm.core.errors import DataError
from pyrolvm.plots.theme import SMALL, WIDE, Theme, ThemeName, dress, figure_style, theme_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

HEIGHT = 3.2
COLUMNS = ("step", "log_evidence", "elbo", "kl", "kl_10", "kl_90")


def kl_trace(
    frames: Mapping[str, pd.DataFrame], theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Draw exact negative log likelihood (left) and KL of the guide (right) against training step.

    Args:
        frames: ``KLTrace.frame`` by a name for the legend.
        theme: ``"light"`` or ``"dark"``.
        width: Inches.

    Returns:
        The figure: means over data; the band holds eight data of ten.

    Raises:
        DataError: If there is no frame, or one that no KLTrace made.
    """
    for name, frame in frames.items():
        missing = [column for column in COLUMNS if column not in frame.columns]
        if missing:
            raise DataError(
                f"kl_trace draws KLTrace.frame, but {name!r} lacks {', '.join(missing)}."
            )
    if not frames:
        raise DataError("kl_trace needs at least one frame, by a name for the legend.")
    look = theme_named(theme)
    with figure_style(look):
        figure = Figure(figsize=(width, HEIGHT), layout="constrained")
        left, right = figure.subplots(1, 2)
        for index, (name, frame) in enumerate(frames.items()):
            color = look.palette[index % len(look.palette)]
            left.plot(frame["step"], -frame["log_evidence"], color=color, label=name)
            left.plot(frame["step"], -frame["elbo"], color=color, linestyle=":", linewidth=1.0)
            right.plot(frame["step"], frame["kl"], color=color, label=name)
            right.fill_between(
                frame["step"], frame["kl_10"], frame["kl_90"], color=color, alpha=0.18, linewidth=0
            )
        _label(left, look, "−log p(x), dotted: −ELBO\n(nats a datum)")
        _label(right, look, "KL(guide ‖ posterior)\n(nats a datum)")
        right.set_ylim(bottom=min(0.0, right.get_ylim()[0]))
        left.legend(frameon=False, fontsize=SMALL)
    return figure


def _label(axes: Axes, theme: Theme, text: str) -> None:
    dress(axes, theme, grid="y")
    axes.set_xlabel("training step")
    axes.set_ylabel(text)
