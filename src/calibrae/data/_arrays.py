"""Arrays in memory or mapped: what their numbers are, and whether they can be modelled."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError
from . import _cache
from ._mapped import releasing
from ._source import Array, DataOptions, Part, Source

FEW_LEVELS = 32  # integer data with a maximum below this have max + 1 levels
ROWS = 4096
CHUNK_BYTES = 1 << 24
EIGHT_BIT = 255.0


def from_array(
    name: str,
    parts: Mapping[Part, Array],
    options: DataOptions,
    *,
    columns: tuple[str, ...] = (),
    fingerprint: str = "",
) -> Source:
    """A source from arrays `[N, *data]`.

    Integers are counts of levels; floats that are all `k/255` are 8-bit pictures after `ToTensor` and are read as such.

    Raises:
        DataError: for empty, non-numeric, NaN or negative integer data.
    """
    notes: list[str] = []
    if options.size is not None:
        notes.append(f"--size is for files of pictures and was not applied: {name} holds numbers")
    laid_out: dict[Part, Array] = {part: _lay_out(array, part, notes) for part, array in parts.items() if len(array)}
    if not laid_out:
        raise DataError(f"{name} holds no examples.")
    shapes = {array.shape[1:] for array in laid_out.values()}
    if len(shapes) > 1:
        raise DataError(f"{name}: all parts must have examples of one shape; got {sorted(shapes)}.")
    if not columns and len(next(iter(shapes))) == 1:
        columns = tuple(f"column {i + 1}" for i in range(next(iter(shapes))[0]))
    for part, array in laid_out.items():
        _require_finite(f"{name} ({part})" if len(laid_out) > 1 else name, array, columns)
    fingerprint = fingerprint or "-".join(_cache.hash_array(array)[:16] for array in laid_out.values())
    if options.data_range is None and all(_is_binary(array) for array in laid_out.values()):
        laid_out = _as_bytes(laid_out, fingerprint, 1.0)
        notes.append("all values are 0 or 1: read as bits")
    elif options.data_range is None and all(_is_eight_bit(array) for array in laid_out.values()):
        laid_out = _as_bytes(laid_out, fingerprint, EIGHT_BIT)
        notes.append("all values are k/255: read as 8-bit data and dequantised")
    levels = _levels(name, laid_out, options, notes)
    return Source(name, laid_out, fingerprint, levels, columns, notes=tuple(dict.fromkeys(notes)))


def _lay_out(array: Array, part: str, notes: list[str]) -> Array:
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    if array.dtype.kind not in "iuf":
        raise DataError(f"data must be numbers; got {array.dtype} ({part}). Convert them to integers or floats.")
    if array.ndim < 2 or array.ndim > 4:
        raise DataError(
            f"data must be [N, D], [N, C, L] or [N, C, H, W]; got {array.shape}. Reshape them, examples first."
        )
    if array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] > 4:
        notes.append(f"the last of {array.shape} was taken as the channels")
        array = array.transpose(0, 3, 1, 2)  # a view: what is memory-mapped stays so
    if array.ndim == 3 and array.dtype.kind in "iu":
        notes.append(f"integers of shape {array.shape} were taken as grey pictures")
        array = array[:, None]
    return array


def _chunks(array: Array) -> Iterator[tuple[int, Array]]:
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    blocks = (np.asarray(array[start : start + rows]) for start in range(0, len(array), rows))
    return zip(range(0, len(array), rows), releasing(array, blocks), strict=True)


def _require_finite(name: str, array: Array, columns: tuple[str, ...]) -> None:
    if array.dtype.kind != "f":
        return
    bad, first = 0, None
    for start, chunk in _chunks(array):
        wrong = ~np.isfinite(chunk)
        if wrong.any():
            bad += int(wrong.any(axis=tuple(range(1, chunk.ndim))).sum())
            if first is None:
                where = np.argwhere(wrong)[0]
                first = (start + int(where[0]), *map(int, where[1:]))
    if first is not None:
        place = f"column {columns[first[1]]!r}" if columns and array.ndim == 2 else f"element {first[1:]}"
        raise DataError(
            f"{name}: all values must be finite; got NaN or infinity in {bad} of {len(array)} examples, first in example "
            f"{first[0]} (counted from 0), {place}. Drop or fill them."
        )


def value_range(array: Array) -> tuple[float, float]:
    """Smallest and largest value, in one pass."""
    lows, highs = zip(*((float(chunk.min()), float(chunk.max())) for _, chunk in _chunks(array)), strict=True)
    return min(lows), max(highs)


def _is_binary(array: Array) -> bool:
    if array.dtype.kind != "f" or array.ndim < 3:
        return False
    return all(bool(((chunk == 0) | (chunk == 1)).all()) for _, chunk in _chunks(array))


def _is_eight_bit(array: Array) -> bool:
    if array.dtype.kind != "f" or array.ndim < 3:
        return False
    for _, chunk in _chunks(array):
        scaled = chunk * EIGHT_BIT
        if chunk.min() < 0 or chunk.max() > 1 or np.abs(scaled - np.rint(scaled)).max() > 1e-3:
            return False
    return True


def _as_bytes(parts: Mapping[Part, Array], fingerprint: str, scale: float) -> dict[Part, Array]:
    """Floats times a scale, as bytes; through the cache if one is mapped, as then they may be more than memory holds."""
    blocks = {part: (np.rint(chunk * scale).astype(np.uint8) for _, chunk in _chunks(a)) for part, a in parts.items()}
    if not any(isinstance(array, np.memmap) for array in parts.values()):
        return {part: np.concatenate(list(chunks)) for part, chunks in blocks.items()}
    key = f"{fingerprint}-bytes"
    if not _cache.has(key):
        _cache.write(key, blocks, dict)
    return _cache.read(key)[0]


def _levels(name: str, parts: Mapping[Part, Array], options: DataOptions, notes: list[str]) -> int | None:
    if any(array.dtype.kind == "f" for array in parts.values()):
        if options.levels is not None:
            raise DataError(
                f"{name}: `levels` is for integer data; got floats. Convert them to integers, or drop --levels."
            )
        return None
    low, high = (
        f(values) for f, values in zip((min, max), zip(*map(value_range, parts.values()), strict=True), strict=True)
    )
    if low < 0:
        raise DataError(
            f"{name}: integer data must count levels from 0; got a minimum of {low:g}. Shift them, or convert to floats."
        )
    if options.levels is not None:
        if high >= options.levels:
            raise DataError(f"{name}: integers must be below levels = {options.levels}; got a maximum of {high:g}.")
        return options.levels
    count = int(high) + 1
    levels = max(2, count) if count <= FEW_LEVELS else max(256, 1 << (count - 1).bit_length())
    if levels != 256:
        notes.append(f"integers up to {high:g}: read as {levels} levels (--levels says otherwise)")
    return levels


def from_iterable(name: str, items: Iterable[Any], options: DataOptions) -> Source:
    """A source from any finite iterable of examples (tensors, arrays, pictures, tuples or dicts that begin with one).

    The examples are written to the cache as they come, so they may be more than memory holds.
    """
    iterator = iter(items)
    first = next(iterator, None)
    if first is None:
        raise DataError(f"{name} yields no examples.")
    reference = example_array(first)
    labels: list[Any] = []
    every: Iterator[Any] = itertools.chain([first], iterator)
    if options.condition is not None:
        every = _collecting(name, every, options.condition, labels)
    key = _cache.write(None, {"all": _blocks(name, every, reference.shape)}, dict)
    source = from_array(name, {"all": _cache.read(key)[0]["all"]}, options, fingerprint=key)
    return (
        source if options.condition is None else replace(source, labels={options.condition: {"all": np.array(labels)}})
    )


def _collecting(name: str, items: Iterable[Any], condition: str, labels: list[Any]) -> Iterator[Any]:
    """Pass the items on; keep the condition of each: a dict's entry, or what follows the example in a tuple."""
    for item in items:
        if isinstance(item, Mapping) and condition in item:
            label = item[condition]
        elif isinstance(item, tuple | list) and len(item) > 1:
            label = item[1]
        else:
            raise DataError(
                f"{name} has no condition {condition!r}: its items must be (example, condition) or dicts with that key."
            )
        labels.append(label.detach().cpu().numpy() if hasattr(label, "detach") else label)
        yield item


def _blocks(name: str, items: Iterable[Any], shape: tuple[int, ...]) -> Iterator[Array]:
    rows: list[Array] = []
    for i, item in enumerate(items):
        row = example_array(item)
        if row.shape != shape:
            raise DataError(
                f"{name}: all examples must have one shape; example 0 has {shape}, example {i} {row.shape}. Resize them."
            )
        rows.append(row)
        if len(rows) == ROWS:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


def example_array(item: Any) -> Array:
    """The example inside what a Dataset yields: itself, the first of a tuple, or a dict's image."""
    if isinstance(item, Mapping):
        keys = [k for k in ("image", "img", "x", "data", "pixel_values", "features") if k in item]
        if not keys:
            raise DataError(
                f"a Dataset of dicts must have a key image, img, x or data; got {', '.join(map(str, item))}."
            )
        item = item[keys[0]]
    elif isinstance(item, tuple | list) and len(item) and not np.isscalar(item[0]):
        item = item[0]
    if hasattr(item, "detach"):
        item = item.detach().cpu()
    array = np.asarray(item)
    if hasattr(item, "getbands") and array.ndim == 3:
        array = array.transpose(2, 0, 1)
    return array[None] if hasattr(item, "getbands") and array.ndim == 2 else array
