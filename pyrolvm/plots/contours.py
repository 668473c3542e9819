"""The exact posterior as shading, and each guide's contours over it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyrolvm.core.errors import DataError
from pyrolvm.plots.annotation import shortened, wrapped
from pyrolvm.plots.comparison import ComparisonView, read_comparison
from pyrolvm.plots.contour_panels import Plan, letters, plan_panels
from pyrolvm.plots.density import GridDensity
from pyrolvm.plots.latent_scene import BANDS, SHARES, Scene, scene_of
from pyrolvm.plots.panels import finite_limits, panel, show_image, write
from pyrolvm.plots.quantities import percent
from pyrolvm.plots.theme import (
    SMALL,
    WIDE,
    GuideStyle,
    Theme,
    ThemeName,
    dress,
    figure_style,
    guide_styles,
    theme_named,
)


def posterior_contours(
    tree: xr.DataTree, theme: ThemeName = "light", *, width: float = WIDE
) -> Figure:
    """Exact posterior of a few data as shading, each guide's regions as lines over it.

    Shades end at 50 %, 90 % and 99 % of the exact posterior's mass, lines at 50 % (thick) and 90
    % (thin) of the guide's: where a guide is right, its lines run along the edges of the shades.
    One latent dimension is drawn as curves.

    Args:
        tree: A comparison with the group ``picture``.
        theme: ``"light"`` or ``"dark"``.
        width: Inches. Rows are data and columns guides where there is room, and the other way
            round where not.

    Returns:
        The figure.

    Raises:
        DataError: If the tree holds no picture of a posterior.
    """
    comparison, look = read_comparison(tree), theme_named(theme)
    picture = comparison.shared("picture")
    guides = _pictured_guides(comparison)
    if picture is None or "z_1" not in picture or not guides:
        raise DataError(
            "posterior_contours needs the group /picture with the grid z_1 (and z_2), and "
            "log_density in a guide's own group picture; models with more than 2 latent "
            "dimensions have no such picture."
        )
    has_images = comparison.image_shape is not None and "x" in picture
    plan = plan_panels(guides, picture.sizes.get("picture", 1), width, has_images)
    with figure_style(look):
        figure = Figure(figsize=plan.size)
        styles = guide_styles(comparison, look)
        for number in range(plan.columns if plan.is_turned else plan.rows):
            _datum(figure, plan, comparison, picture, number, look)
            scene = scene_of(comparison, picture, guides, number)
            for column, name in enumerate(guides):
                axes = panel(figure, *plan.place(column, number))
                _posterior(axes, scene, name, look, styles[name])
                _axes_text(axes, plan, column, number, scene, look)
        for column, name in enumerate(guides):
            _guide_title(figure, plan, column, name, styles[name])
    return figure


def _pictured_guides(comparison: ComparisonView) -> list[str]:
    groups = {name: comparison.group(name, "picture") for name in comparison.names}
    return [name for name, group in groups.items() if group is not None and "log_density" in group]


def _datum(
    figure: Figure,
    plan: Plan,
    comparison: ComparisonView,
    picture: xr.Dataset,
    number: int,
    look: Theme,
) -> None:
    label = f"datum {int(picture['datum'].values[number])}" if "datum" in picture else ""
    left, top, cell, _ = plan.place(0, number)
    shape = comparison.image_shape
    side = min(cell * 0.5, 0.62)
    if plan.is_turned:
        write(figure, left, 0.16, label, size=SMALL - 0.5, color=look.muted)
        place = (left, 0.22)
    else:
        write(figure, 0.04, top + 0.11, label, size=SMALL, color=look.muted)
        place = (0.04, top + 0.18)
    if shape is not None and "x" in picture:
        pixels = np.asarray(picture["x"].values, dtype=np.float64)
        box = panel(figure, *place, side * shape[1] / max(shape), side * shape[0] / max(shape))
        show_image(box, pixels[number].reshape(shape), finite_limits(pixels), look)


def _guide_title(figure: Figure, plan: Plan, column: int, name: str, style: GuideStyle) -> None:
    left, top, cell, _ = plan.place(column, 0)
    write(
        figure,
        left,
        top - 0.07,
        shortened(name, 40) if plan.is_turned else wrapped(name, letters(cell)),
        size=9,
        color=style.color,
        fontweight="bold",
    )


def _posterior(axes: Axes, scene: Scene, name: str, look: Theme, style: GuideStyle) -> None:
    guide = scene.guides[name]
    if scene.is_flat:
        _curves(axes, scene.grid[0], scene.exact, guide, look, style)
    else:
        _shade(axes, scene.grid, scene.exact, look)
        _lines(axes, scene.grid, guide, style)
    if guide is None or guide.total < 0.9:
        text = "no density" if guide is None else f"{percent(1 - guide.total)} outside the grid"
        axes.text(
            0.5,
            0.03,
            text,
            transform=axes.transAxes,
            fontsize=SMALL - 1,
            ha="center",
            color=look.muted,
        )


def _shade(
    axes: Axes, grid: list[NDArray[np.float64]], exact: GridDensity | None, look: Theme
) -> None:
    if exact is None:
        return
    z_2, z_1 = grid
    for level, color in zip(exact.levels(BANDS), look.bands, strict=True):
        bottom = -np.inf if level is None else level
        if bottom < 0:
            bottom = max(bottom, float(exact.log_density.min()))
            axes.contourf(z_1, z_2, exact.log_density, levels=[bottom, 1.0], colors=[color])


def _lines(
    axes: Axes, grid: list[NDArray[np.float64]], guide: GridDensity | None, style: GuideStyle
) -> None:
    if guide is None:
        return
    z_2, z_1 = grid
    lowest = float(guide.log_density.min())
    for level, thickness in zip(guide.levels(SHARES), (1.7, 0.95), strict=True):
        if level is not None and lowest < level < 0:
            axes.contour(
                z_1,
                z_2,
                guide.log_density,
                levels=[level],
                colors=[style.color],
                linewidths=[thickness],
                linestyles=["solid"],
            )


def _curves(
    axes: Axes,
    z: NDArray[np.float64],
    exact: GridDensity | None,
    guide: GridDensity | None,
    look: Theme,
    style: GuideStyle,
) -> None:
    if exact is not None:
        axes.fill_between(
            z, np.exp(exact.log_density + exact.peak), color=look.bands[1], linewidth=0
        )
    if guide is not None:
        axes.plot(z, np.exp(guide.log_density + guide.peak), color=style.color, linewidth=1.6)


def _axes_text(
    axes: Axes, plan: Plan, column: int, number: int, scene: Scene, look: Theme
) -> None:
    dress(axes, look)
    for spine in axes.spines.values():
        spine.set_visible(True)
    axes.set_xlim(*scene.limits[-1])
    if scene.is_flat:
        axes.set_ylim(0, scene.highest)
    else:
        axes.set_ylim(*scene.limits[0])
    axes.xaxis.set_major_locator(MaxNLocator(2 if plan.is_turned else 4, min_n_ticks=2))
    axes.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.tick_params(labelsize=SMALL - 1, pad=1.5)
    row, side = (column, number) if plan.is_turned else (number, column)
    if side == 0:
        axes.set_ylabel("density" if scene.is_flat else "z₂", fontsize=SMALL, labelpad=1)
    if (side > 0 and not plan.is_turned) or (scene.is_flat and plan.is_turned):
        axes.tick_params(labelleft=False)
    if row == plan.rows - 1:
        axes.set_xlabel("z₁", fontsize=SMALL, labelpad=1)
    elif plan.is_turned:
        axes.tick_params(labelbottom=False)
