"""Plots that answer to the mouse, as plotly describes them; colours are those of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .._map import COLOURED, grouped
from .._style import BLUE, GREY

SYMBOLS = ("circle", "x")  # of the markers of a map
PARTS = (("loss", "objective"), ("nll", "reconstruction"), ("kl", "KL"))


def curves_plot(history: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """The objective and the parts of the ELBO over epochs, each on an axis of its own."""
    epochs = [row["epoch"] for row in history]
    mode = "lines" if len(history) > 1 else "markers"
    found: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"grid": {"rows": 1, "columns": len(PARTS), "pattern": "independent"}, "showlegend": False}
    for i, (part, title) in enumerate(PARTS, 1):
        number = "" if i == 1 else str(i)
        for split, colour in (("train", GREY), ("validation", BLUE)):
            name = f"{split}_{part}"
            if name in history[0]:
                line = {
                    "x": epochs,
                    "y": [row.get(name) for row in history],
                    "mode": mode,
                    "line": {"color": colour},
                }
                found.append(line | {"name": split, "xaxis": f"x{number}", "yaxis": f"y{number}"})
        layout[f"xaxis{number}"] = {"title": {"text": title, "font": {"size": 12}}}
        layout[f"yaxis{number}"] = {}
    return {"data": found, "layout": layout, "height": 320}


def map_plot(
    points: Tensor, names: Sequence[str], groups: Sequence[str], values: Sequence[float], *, axes: str = "component"
) -> dict[str, Any]:
    """Examples on two axes, with their names under the mouse: coloured by group, or else by a value, or else alike.

    Args:
        points: `[N, 2]`.
        names: name of each.
        groups: group of each; empty for none.
        values: value of each; empty for none.
        axes: name of the axes.
    """
    x, y = points[:, 0].tolist(), points[:, 1].tolist()
    layout: dict[str, Any] = {
        "xaxis": {"title": {"text": f"first {axes}"}},
        "yaxis": {"title": {"text": f"second {axes}"}},
    }
    base: dict[str, Any] = {"mode": "markers", "type": "scatter"}
    if not groups and not len(values):
        data = [base | {"x": x, "y": y, "text": list(names), "hoverinfo": "text", "marker": {"size": 5, "color": BLUE}}]
        return {"data": data, "layout": layout, "height": 460}
    if not groups:
        low, high = np.quantile(np.asarray(values, dtype=np.float64), COLOURED).tolist()
        marker = {
            "size": 5,
            "color": list(values),
            "cmin": low,
            "cmax": high,
            "colorscale": "Cividis",
            "showscale": True,
            "colorbar": {"title": {"text": "ELBO, nats"}},
        }
        texts = [f"{name}: {value:.1f} nats" for name, value in zip(names, values, strict=True)]
        data = [base | {"x": x, "y": y, "text": texts, "hoverinfo": "text", "marker": marker}]
        return {"data": data, "layout": layout, "height": 460}
    data = []
    for group, rows, colour, form in grouped(groups):
        marker = {"size": 5, "color": colour, "symbol": SYMBOLS[form]}
        points_of = {"x": [x[j] for j in rows], "y": [y[j] for j in rows], "text": [names[j] for j in rows]}
        data.append(base | points_of | {"name": group, "hoverinfo": "text+name", "marker": marker})
    return {"data": data, "layout": layout, "height": 460}
