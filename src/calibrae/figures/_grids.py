"""Grids of pictures, and panels of signals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import ArgumentError
from ._style import BLUE, DARK, DPI, GREY, ORANGE, new_figure, save_figure, short, tidy

if TYPE_CHECKING:
    from matplotlib.patches import Patch

Array = npt.NDArray[Any]
SMALLEST_SIDE = 56  # pixels to which small pictures are enlarged, by whole numbers
LARGEST = 160  # pixels of a side to which large pictures are reduced where many are shown
GAP, PAPER = 2, 1.0
CAPTION, TITLE = 16, 30  # pixels of room for a caption and the title
TITLE_LETTER = 8.6  # pixels of a character of the title
NAMED = 24  # characters of a caption over a signal
CHARACTER, LETTER = 6.2, 7.6  # pixels of a character of a caption, and of a label


def image_grid(x: Tensor, columns: int, gap: int = GAP) -> Array:
    """Pictures `[N, C, H, W]` on [0, 1] as one `[rows, columns, 3]` array; small ones are enlarged without smoothing.

    Args:
        x: pictures.
        columns: columns of the grid.
        gap: pixels of paper below each row, in which captions have room.

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
    canvas = np.full((rows * (height + gap) + GAP, columns * (width + GAP) + GAP, 3), PAPER, dtype=np.float32)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (height + gap) + GAP, (i % columns) * (width + GAP) + GAP
        canvas[top : top + height, left : left + width] = picture
    return canvas


def shrunk(x: Tensor, largest: int = LARGEST) -> Tensor:
    """Pictures `[N, C, H, W]` of a size at which a grid of them can still be opened; others as they are.

    Examples:
        >>> shrunk(torch.zeros(2, 1, 320, 640)).shape
        torch.Size([2, 1, 80, 160])
    """
    side = max(x.shape[2:]) if x.ndim == 4 else 0
    if side <= largest:
        return x
    height, width = (max(1, round(size * largest / side)) for size in x.shape[2:])
    return torch.nn.functional.interpolate(x.float(), (height, width), mode="area")


def save_grid(
    x: Tensor,
    path: Path,
    columns: int,
    *,
    reference: Tensor | None = None,
    title: str = "",
    rows: Sequence[str] = (),
    captions: Sequence[str] = (),
    framed: Sequence[int] = (),
) -> Path:
    """Draw examples: pictures as a grid, the middle slices of volumes too, signals as lines.

    Args:
        x: `[N, *data]`.
        path: place of the PNG.
        columns: columns of the grid.
        reference: originals; each is drawn over or beside its counterpart.
        title: title.
        rows: label of each row; by default, of pictures with originals, which are which.
        captions: caption of each example; of a picture with its original, under its reconstruction.
        framed: positions of examples that are framed; without originals.
    """
    if x.ndim == 5:
        middle = x.shape[2] // 2
        x, reference = x[:, :, middle], None if reference is None else reference[:, :, middle]
        title = f"{title}, middle slices" if title else "middle slices"
    if x.ndim != 4:
        return _save_lines(x, path, min(columns, len(x)), reference, title, rows, captions, framed)
    columns = min(columns, len(x))
    if reference is None:
        return _save_pictures(x, path, columns, title, rows, captions, framed)
    lines = math.ceil(len(x) / columns)
    under = list(captions) + [""] * (len(x) - len(captions))
    spread = [
        line for i in range(0, len(x), columns) for line in ([""] * columns, _filled(under[i : i + columns], columns))
    ]
    pairs = rows or ("data", "model") * lines
    return _save_pictures(_interleave(reference, x, columns), path, columns, title, pairs, list(chain(*spread)))


def _filled(captions: Sequence[str], columns: int) -> list[str]:
    return [*captions, *([""] * (columns - len(captions)))]


def _interleave(above: Tensor, below: Tensor, columns: int) -> Tensor:
    """Rows of originals, each with its row of reconstructions under it; the last pair is filled up with white."""
    rows = []
    for start in range(0, len(above), columns):
        for part in (above[start : start + columns], below[start : start + columns]):
            rows += [part, torch.ones(columns - len(part), *part.shape[1:])]
    return torch.cat(rows)


def _save_pictures(
    x: Tensor,
    path: Path,
    columns: int,
    title: str,
    rows: Sequence[str],
    captions: Sequence[str],
    framed: Sequence[int] = (),
) -> Path:
    """A grid with its title, the labels of its rows and a caption under each picture; every pixel stays one."""
    gap = CAPTION if any(captions) else GAP
    canvas = image_grid(x, columns, gap)
    height, width = canvas.shape[:2]
    left, top = _room(rows), (TITLE if title else 0)
    whole, tall = max(width + left, left + round(TITLE_LETTER * len(title) + 8)), height + top
    figure = new_figure(whole / DPI, tall / DPI)
    figure.set_layout_engine("none")
    axes = figure.add_axes((left / whole, 0.0, width / whole, height / tall))
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    step, across = (height - GAP) / math.ceil(len(x) / columns), (width - GAP) / columns
    for i, label in enumerate(rows):
        axes.text(
            -6,
            GAP + (i + 0.5) * step - (gap - GAP) / 2,
            label,
            fontsize=7,
            ha="right",
            va="center",
            clip_on=False,
            parse_math=False,
        )
    for i, caption in enumerate(captions):
        place = GAP + (i % columns + 0.5) * across, (i // columns + 1) * step - gap + 2 * GAP
        axes.text(*place, _short(caption, across), fontsize=6, ha="center", va="top", color=DARK, parse_math=False)
    for i in framed:
        corner = (i % columns) * across + GAP / 2, (i // columns) * step + GAP / 2
        size = across - GAP / 2, step - gap + GAP / 2
        axes.add_patch(_frame(corner, size))
    if title:
        figure.text((left + GAP) / whole, 1.0 - 6 / tall, title, fontsize=9, va="top", parse_math=False)
    return save_figure(figure, path)


def _frame(corner: tuple[float, float], size: tuple[float, float]) -> Patch:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, *size, fill=False, edgecolor=ORANGE, linewidth=1.6)


def _room(labels: Sequence[str]) -> int:
    """Pixels that the labels of rows need beside them."""
    longest = max(map(len, labels), default=0)
    return round(12 + LETTER * longest) if longest else 0


def _short(caption: str, width: float) -> str:
    """A caption that fits; of a file's name the end says more."""
    most = max(4, int(width / CHARACTER))
    return caption if len(caption) <= most else "…" + caption[1 - most :]


def _save_lines(
    x: Tensor,
    path: Path,
    columns: int,
    reference: Tensor | None,
    title: str,
    labels: Sequence[str],
    captions: Sequence[str],
    framed: Sequence[int],
) -> Path:
    rows = math.ceil(len(x) / columns)
    figure = new_figure(1.9 * columns, 1.3 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for i, axes in enumerate(panels):
        tidy(axes)
        if i >= len(x):
            axes.set_axis_off()
            continue
        if reference is not None:
            axes.plot(reference[i].detach().cpu().reshape(-1, reference.shape[-1]).T.numpy(), color=GREY, linewidth=1.4)
        axes.plot(x[i].detach().cpu().reshape(-1, x.shape[-1]).T.numpy(), color=BLUE, linewidth=1.0)
        if i < len(captions):
            axes.set_title(short(captions[i], NAMED), fontsize=7, parse_math=False)
        if i % columns == 0 and i // columns < len(labels):
            axes.set_ylabel(labels[i // columns], fontsize=7, parse_math=False)
        if i in framed:
            axes.spines[:].set(visible=True, color=ORANGE, linewidth=1.6)
    if title:
        figure.suptitle(title + (" (grey: the data)" if reference is not None else ""), fontsize=9)
    return save_figure(figure, path)
