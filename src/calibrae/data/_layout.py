"""Layout of arrays: examples first, then channels; and what numbers may come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import DataError
from ._scan import require_finite, value_range
from ._schema import Schema
from ._source import Array, Part, Raw, listed

EXACT = 1 << 53  # the largest whole number up to which float64 holds all


def laid_out(raw: Raw, trained: Schema | None = None) -> Raw:
    """Arrays `[N, D]`, `[N, C, L]`, `[N, C, H, W]` or `[N, C, D, H, W]` of finite numbers, all of one shape.

    Args:
        raw: as a reader gives them.
        trained: schema of the data that a model was trained on, whose shape settles what is a channel.

    Raises:
        DataError: for no examples, no numbers, NaN, or numbers whose digits would be lost.
    """
    notes: list[str] = []
    for part, array in raw.parts.items():
        if array.ndim == 0:
            raise DataError(f"{raw.name}: data must be [N, D] or more, examples first; got a single number ({part}).")
        if not len(array) and len(raw.parts) > 1:
            raise DataError(f"{raw.name}: the part {part} holds no examples. Leave it out.")
        if (
            array.dtype == np.bool_
            and trained is not None
            and trained.layout != "table"
            and trained.levels not in (None, 2)
        ):
            raise DataError(
                f"{raw.name} holds bits; the model was trained on {trained.levels} levels. Bring the data to that range."
            )
    halves = any(array.dtype == np.float16 for array in raw.parts.values())
    resolution = float(np.finfo(np.float16).eps) if halves else raw.resolution
    parts: dict[Part, Array] = {p: _numbers(a, p, notes) for p, a in raw.parts.items() if len(a)}
    if not parts:
        raise DataError(f"{raw.name} holds no examples.")
    parts = {part: _channels_first(array, raw.encoded, notes, trained) for part, array in parts.items()}
    shapes = {array.shape[1:] for array in parts.values()}
    double = sorted({name for name in raw.columns if raw.columns.count(name) > 1})
    if double:
        raise DataError(
            f"{raw.name}: every column must have a name of its own; got {listed(double)} more than once. Rename them."
        )
    if len(shapes) > 1:
        raise DataError(f"{raw.name}: all parts must have examples of one shape; got {sorted(shapes)}.")
    shape = next(iter(shapes))
    if 0 in shape:
        raise DataError(f"{raw.name}: examples must have at least one element; got the shape {shape}.")
    for part, array in parts.items():
        name = f"{raw.name} ({part})" if len(parts) > 1 else raw.name
        holes = array.ndim == 2 and not raw.encoded and (trained is None or trained.is_mixed)
        require_finite(name, array, raw.columns, missing=holes)
        _require_exact(name, array)
    return replace(raw, parts=parts, resolution=resolution, notes=tuple(dict.fromkeys((*raw.notes, *notes))))


def _numbers(array: Array, part: str, notes: list[str]) -> Array:
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise DataError(f"data must be numbers; got {array.dtype} ({part}). Convert them to integers or floats.")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        notes.append(f"{array.dtype} was read as float64")
        return array.astype(np.float64)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    return array


def _channels_first(array: Array, encoded: bool, notes: list[str], trained: Schema | None) -> Array:
    if trained is not None and array.shape[1:] == trained.shape:
        return array
    if (
        trained is not None
        and trained.layout == "pictures"
        and array.shape[1:] == trained.shape[1:]
        and trained.shape[0] == 1
    ):
        return array[:, None]
    if array.ndim < 2 or array.ndim > 5:
        raise DataError(
            f"data must be [N, D], [N, C, L], [N, C, H, W] or [N, C, D, H, W]; got {array.shape}. Reshape them, examples first."
        )
    if encoded:  # their readers know the layout
        return array
    if array.ndim in (4, 5) and array.shape[-1] in (1, 3, 4) and array.shape[1] > 4:
        notes.append(f"the last dimension of {array.shape[1:]} was taken as the channels")
        array = np.moveaxis(array, -1, 1)  # a view: what is memory-mapped stays so
    if array.ndim == 3 and array.dtype.kind in "iu":
        notes.append(f"integers of shape {array.shape} were taken as grey pictures")
        array = array[:, None]
    return array


def _require_exact(name: str, array: Array) -> None:
    if array.dtype.kind in "iu" and array.dtype.itemsize > 4:
        low, high = value_range(array)
        if max(abs(low), abs(high)) > EXACT:
            raise DataError(
                f"{name}: integers must be at most 2^53 in size, as float64 holds no more digits; got values from {low:.6g} to "
                f"{high:.6g}. Subtract a constant, or drop the column if it is an identifier."
            )
