"""The rate-distortion picture of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..evaluation import RatePoint, Recommendation
from ..functional import LinearCode
from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")
MOST_TICKS = 12
LABELS = {"beta": "beta", "sigma": "sigma", "latent_dim": "latent size"}
LIGHTEST = 0.65  # how far the lightest of several groups is from blue
LEGEND_COLUMNS = 4
MOST_NAMED = 6  # groups, and curves, that the legend names
DASHES = ("-", "--", ":", "-.")
LABEL_WIDTH, LABEL_HEIGHT = 45.0, 18.0  # pixels that a label takes


@dataclass(frozen=True)
class Group:
    """Points that differ in the first axis alone.

    Attributes:
        name: the values that they share, for the legend; `None` to leave it out.
        shade: their colour.
        points: by the first axis.
    """

    name: str | None
    shade: tuple[float, float, float]
    points: list[RatePoint]


def save_rate_distortion(
    points: Sequence[RatePoint],
    linear: Mapping[int, Sequence[LinearCode]],
    chosen: Recommendation | None,
    axes: Sequence[str],
    path: Path,
) -> Path:
    """Rate and distortion of each point beside the linear curve, and the ELBO along what was varied.

    Args:
        points: one at least.
        linear: curves of the best linear models, by latent size.
        chosen: the point to mark.
        axes: names of what was varied; the first is the axis of the right panel, and the others tell its lines apart.
        path: place of the PNG.
    """
    figure = new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2)
    groups = _grouped(points, axes)
    _draw_curve(tidy(left), points, linear, chosen, axes[0], groups)
    _draw_elbos(tidy(right), points, chosen, axes[0], groups)
    handles, names = left.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=7, frameon=False)
    figure.draw_without_rendering()  # labels are laid out by where the points are on the page
    marked = _marked(points, chosen)
    _label_points(left, sorted(points, key=lambda point: point is not marked), linear, axes[0])
    return save_figure(figure, path)


def save_rate(kl: float, sse: float, linear: Sequence[LinearCode], path: Path) -> Path:
    """Rate and distortion of one model beside the curve of the best linear codes.

    Args:
        kl: its rate, nats.
        sse: its squared error at a sampled `z`, summed over the data dimensions.
        linear: codes of the curve, of rising rate.
        path: place of the PNG.
    """
    figure = new_figure(5.0, 3.6)
    panel = tidy(figure.subplots())
    panel.plot(
        [code.kl for code in linear], [code.sse for code in linear], color=GREY, label="best linear codes (closed form)"
    )
    panel.plot([kl], [sse], "o", color=BLUE, markersize=7, label="this model")
    panel.set_xlabel("rate: KL, nats", fontsize=8)
    panel.set_ylabel("distortion: squared error", fontsize=8)
    panel.legend(fontsize=8, frameon=False)
    _plain_log(panel)
    return save_figure(figure, path)


def _grouped(points: Sequence[RatePoint], axes: Sequence[str]) -> list[Group]:
    """The points by all axes but the first, each group with its name and shade of blue."""
    first, others = axes[0], axes[1:]
    members: dict[tuple[float, ...], list[RatePoint]] = {}
    for point in sorted(points, key=lambda point: tuple(point.axes[name] for name in (*others, first))):
        members.setdefault(tuple(point.axes[name] for name in others), []).append(point)
    names = [", ".join(f"{LABELS[name]} {value:g}" for name, value in zip(others, key, strict=True)) for key in members]
    shown = _ends(names)
    return [
        Group(name if name in shown and name else None, shade, found)
        for name, shade, found in zip(names, _shades(len(names)), members.values(), strict=True)
    ]


def _ends(names: list[T]) -> list[T]:
    """All, or of many the first and the last, which tell the rest."""
    return names if len(names) <= MOST_NAMED else [names[0], names[-1]]


def _shades(count: int) -> list[tuple[float, float, float]]:
    """Blues from light to dark; blue itself if there is one."""
    from matplotlib.colors import to_rgb

    strengths = [1.0 - LIGHTEST * (count - 1 - i) / max(1, count - 1) for i in range(count)]
    red, green, blue = to_rgb(BLUE)
    return [(1.0 - s * (1.0 - red), 1.0 - s * (1.0 - green), 1.0 - s * (1.0 - blue)) for s in strengths]


def _height(point: RatePoint, linear: Mapping[int, Sequence[LinearCode]]) -> float:
    """Distortion: squared error, or nats where there is no sigma."""
    return point.sse if linear and point.sse is not None else point.reconstruction_nats


def _draw_curve(
    panel: Axes,
    points: Sequence[RatePoint],
    linear: Mapping[int, Sequence[LinearCode]],
    chosen: Recommendation | None,
    first: str,
    groups: Sequence[Group],
) -> None:
    shown = _ends(list(linear))
    for i, (latent_dim, codes) in enumerate(linear.items()):
        panel.plot(
            [c.kl for c in codes], [c.sse for c in codes], color=GREY, linewidth=1.2, linestyle=DASHES[i % len(DASHES)],
            label=f"linear, d = {latent_dim} (closed form)" if latent_dim in shown else None,
        )  # fmt: skip
    for group in groups:
        panel.plot(
            [p.kl_nats for p in group.points], [_height(p, linear) for p in group.points], "o", color=group.shade, markersize=6,
            label=group.name,
        )  # fmt: skip
    marked = _marked(points, chosen)
    if marked is not None:
        panel.plot(marked.kl_nats, _height(marked, linear), "o", color=ORANGE, markersize=8, label="recommended")
    panel.set_xlabel("rate: KL, nats", fontsize=8)
    panel.set_ylabel("distortion: squared error" if linear else "distortion: -log p(x|z), nats", fontsize=8)
    panel.set_title(f"rate and distortion, each point with its {LABELS[first]}", fontsize=9)
    if linear:
        _plain_log(panel)


def _plain_log(panel: Axes) -> None:
    """A logarithmic axis with numbers such as 20 and .5, not powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _label_points(
    panel: Axes, points: Sequence[RatePoint], linear: Mapping[int, Sequence[LinearCode]], first: str
) -> None:
    """The value of the first axis beside each point, but for those whose label would lie on that of an earlier one."""
    taken: list[tuple[float, float]] = []
    for point in points:
        place = (point.kl_nats, _height(point, linear))
        x, y = panel.transData.transform(place)
        if any(abs(x - other_x) < LABEL_WIDTH and abs(y - other_y) < LABEL_HEIGHT for other_x, other_y in taken):
            continue
        taken.append((x, y))
        panel.annotate(f"{point.axes[first]:.3g}", place, (5, 5), textcoords="offset points", fontsize=7)


def _marked(points: Sequence[RatePoint], chosen: Recommendation | None) -> RatePoint | None:
    return next((p for p in points if chosen is not None and p.name == chosen.name), None)


def _draw_elbos(
    panel: Axes, points: Sequence[RatePoint], chosen: Recommendation | None, first: str, groups: Sequence[Group]
) -> None:
    for group in groups:
        panel.errorbar(
            [p.axes[first] for p in group.points], [p.elbo_nats for p in group.points],
            yerr=[p.standard_error for p in group.points], marker="o", markersize=4, linewidth=1.2, capsize=2, color=group.shade,
        )  # fmt: skip
    marked = _marked(points, chosen)
    if marked is not None:
        panel.plot(marked.axes[first], marked.elbo_nats, "o", color=ORANGE, markersize=8, zorder=3)
    ticks = sorted({point.axes[first] for point in points})
    panel.set_xscale("log")
    if len(ticks) <= MOST_TICKS:
        panel.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
        panel.set_xticks([], minor=True)
    panel.set_xlabel(LABELS[first], fontsize=8)
    panel.set_title("validation ELBO at beta = 1, nats", fontsize=9)
