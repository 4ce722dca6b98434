"""Pictures of examples: grids of pictures and signals, panels of columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..data import Column
from ..figures import (
    save_column_walks,
    save_columns,
    save_grid,
    save_histograms,
    save_pairs,
    save_rebuilt_columns,
    save_walks,
)
from ._over import columns_of


def save_picture(
    x: Tensor,
    path: Path,
    *,
    columns: int,
    names: Sequence[str] = (),
    reference: Tensor | None = None,
    walks: bool = False,
    title: str = "",
    rows: Sequence[str] = (),
    captions: Sequence[str] = (),
    framed: Sequence[int] = (),
    fields: Sequence[Column] = (),
) -> Path:
    """Pictures and signals as a grid; table rows column by column.

    Args:
        x: `[N, *data]`, in the units of the data.
        path: place of the PNG.
        columns: columns of the grid; the steps of a walk.
        names: names of a table's columns.
        reference: the originals of reconstructions.
        walks: whether `x` is walks through the latent space, a row of the grid each.
        title: title.
        rows: label of each row of the grid.
        captions: caption of each example.
        framed: positions of examples that are framed; of rows of walks, marked by a point.
        fields: columns of a table of mixed columns, with their words and dates.
    """
    if x.ndim > 2:
        return save_grid(
            x, path, columns, reference=reference, title=title, rows=rows, captions=captions, framed=framed
        )
    if fields and fields[0].type:
        came = x[:0] if reference is None else reference
        shown = columns_of(fields, came.double().numpy(), x.double().numpy())
        if reference is not None:
            return save_rebuilt_columns(shown, path, title=f"{title} against the data")
        return (
            save_column_walks(shown, path, columns, title=title, marked=framed)
            if walks
            else save_columns(shown, path, title=title)
        )
    names = names or [f"column {i + 1}" for i in range(x.shape[1])]
    if reference is not None:
        return save_pairs(reference, x, path, names, title=f"{title} against the data")
    return (
        save_walks(x, path, names, columns, title=title, marked=framed)
        if walks
        else save_histograms(x, path, names, title=title)
    )
