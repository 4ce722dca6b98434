"""Grids of pictures, and panels of signals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ArgumentError, MissingExtraError
from ..runs import replace_file
from ._style import BLUE, GREY, new_figure, save_figure, tidy

Array = npt.NDArray[Any]
SMALLEST_SIDE = 56  # pixels to which small pictures are enlarged, by whole numbers
GAP, PAPER = 2, 1.0


def image_grid(x: Tensor, columns: int) -> Array:
    """Pictures `[N, C, H, W]` on [0, 1] as one `[rows, columns, 3]` array; small ones are enlarged without smoothing.

    Examples:
        >>> image_grid(torch.zeros(6, 1, 56, 56), columns=3).shape
        (118, 176, 3)
    """
    if x.ndim != 4:
        raise ArgumentError(f"pictures must be [N, C, H, W]; got {tuple(x.shape)}.")
    pictures = x.detach().float().clamp(0.0, 1.0).cpu().numpy()
    pictures = pictures[:, :3] if x.shape[1] >= 3 else np.repeat(pictures[:, :1], 3, axis=1)
    factor = max(1, round(SMALLEST_SIDE / max(x.shape[2:])))
    pictures = pictures.transpose(0, 2, 3, 1).repeat(factor, axis=1).repeat(factor, axis=2)
    n, height, width, _ = pictures.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, dtype=np.float32)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + GAP) + GAP, (i % columns) * (width + GAP) + GAP
        canvas[top : top + height, left : left + width] = picture
    return canvas


def save_grid(x: Tensor, path: Path, columns: int, *, reference: Tensor | None = None, title: str = "") -> Path:
    """Draw examples: pictures as a grid, the middle slices of volumes too, signals as lines.

    Args:
        x: `[N, *data]`.
        path: place of the PNG.
        columns: columns of the grid.
        reference: originals; each is drawn over or beside its counterpart.
        title: title of line panels.
    """
    if x.ndim == 5:
        middle = x.shape[2] // 2
        x, reference = x[:, :, middle], None if reference is None else reference[:, :, middle]
    if x.ndim == 4:
        columns = min(columns, len(x))
        if reference is not None:
            x = _interleave(reference, x, columns)
        return _save_array(image_grid(x, columns), path)
    return _save_lines(x, path, columns, reference, title)


def _interleave(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Rows of originals, each with its row of reconstructions under it; the last pair is filled up with white."""
    rows = []
    for start in range(0, len(above), columns):
        for part in (above[start : start + columns], below[start : start + columns]):
            rows += [part, torch.ones(columns - len(part), *part.shape[1:])]
    return torch.cat(rows)


def _save_array(canvas: Array, path: Path) -> Path:
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise MissingExtraError("pictures need matplotlib. Install it: pip install 'calibrae[figures]'") from error
    replace_file(path, lambda temporary: imsave(temporary, canvas, format="png"))
    return path


def _save_lines(x: Tensor, path: Path, columns: int, reference: Tensor | None, title: str) -> Path:
    rows = math.ceil(len(x) / columns)
    figure = new_figure(1.9 * columns, 1.3 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for i, axes in enumerate(panels):
        tidy(axes)
        if i >= len(x):
            axes.set_axis_off()
            continue
        if reference is not None:
            axes.plot(reference[i].detach().cpu().reshape(-1, reference.shape[-1]).T, color=GREY, linewidth=1.4)
        axes.plot(x[i].detach().cpu().reshape(-1, x.shape[-1]).T, color=BLUE, linewidth=1.0)
    if title:
        figure.suptitle(title + (" (grey: the data)" if reference is not None else ""), fontsize=9)
    return save_figure(figure, path)
