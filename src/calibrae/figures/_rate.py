"""The rate-distortion picture of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation import RatePoint, Recommendation
from ..functional import LinearCode
from ._style import BLUE, GREY, ORANGE, new_figure, save_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_TICKS = 12
LABELS = {"beta": "beta", "sigma": "sigma", "latent_dim": "latent size"}


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
        linear: what the best linear models reach, by latent size.
        chosen: the point to mark.
        axes: what was varied; the first is the axis of the right panel, and the others tell its lines apart.
        path: of the PNG.
    """
    figure = new_figure(10.0, 4.0)
    left, right = figure.subplots(1, 2)
    _draw_curve(tidy(left), points, linear, chosen)
    _draw_elbos(tidy(right), points, chosen, axes)
    return save_figure(figure, path)


def _draw_curve(
    panel: Axes,
    points: Sequence[RatePoint],
    linear: Mapping[int, Sequence[LinearCode]],
    chosen: Recommendation | None,
) -> None:
    shade = [GREY, "#b9bdc4", "#5c6169", "#d4d7db"]
    for i, (latent_dim, codes) in enumerate(linear.items()):
        panel.plot(
            [c.kl for c in codes], [c.sse for c in codes], color=shade[i % len(shade)], linewidth=1.2,
            label=f"linear, d = {latent_dim} (closed form)",
        )  # fmt: skip
    has_sse = bool(linear)
    for point in points:
        is_chosen = chosen is not None and point.name == chosen.name
        height = point.sse if has_sse else point.nll_nats
        panel.plot(point.kl_nats, height, "o", color=ORANGE if is_chosen else BLUE, markersize=8 if is_chosen else 6)
        text = ", ".join(f"{value:g}" for value in point.axes.values())
        panel.annotate(text, (point.kl_nats, height), (5, 5), textcoords="offset points", fontsize=7)
    panel.set_xlabel("rate: KL, nats", fontsize=8)
    panel.set_ylabel("distortion: squared error" if has_sse else "distortion: -log p(x|z), nats", fontsize=8)
    panel.set_title(f"rate and distortion, by {' and '.join(LABELS[a] for a in points[0].axes)}", fontsize=9)
    if has_sse:
        from matplotlib.ticker import LogFormatter

        panel.set_yscale("log")
        plain = LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5))
        panel.yaxis.set_major_formatter(plain)
        panel.yaxis.set_minor_formatter(plain)
        panel.tick_params(axis="y", which="both", labelsize=8)
        panel.legend(fontsize=7, frameon=False)


def _draw_elbos(panel: Axes, points: Sequence[RatePoint], chosen: Recommendation | None, axes: Sequence[str]) -> None:
    first, others = axes[0], axes[1:]
    groups: dict[tuple[float, ...], list[RatePoint]] = {}
    for point in points:
        groups.setdefault(tuple(point.axes[name] for name in others), []).append(point)
    for number, (key, members) in enumerate(groups.items()):
        ordered = sorted(members, key=lambda point: point.axes[first])
        label = ", ".join(f"{LABELS[name]} {value:g}" for name, value in zip(others, key, strict=True)) or None
        panel.errorbar(
            [p.axes[first] for p in ordered], [p.elbo_nats for p in ordered], yerr=[p.standard_error for p in ordered],
            marker="o", markersize=4, linewidth=1.2, capsize=2, color=BLUE, alpha=1.0 - 0.7 * number / len(groups), label=label,
        )  # fmt: skip
    marked = next((p for p in points if chosen is not None and p.name == chosen.name), None)
    if marked is not None:
        panel.plot(marked.axes[first], marked.elbo_nats, "o", color=ORANGE, markersize=8, zorder=3, label="recommended")
        panel.legend(fontsize=7, frameon=False)
    ticks = sorted({point.axes[first] for point in points})
    panel.set_xscale("log")
    if len(ticks) <= MOST_TICKS:
        panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.set_xticks([], minor=True)
    panel.set_xlabel(LABELS[first], fontsize=8)
    panel.set_title("validation ELBO at beta = 1, nats", fontsize=9)
