"""New data for a trained model: read by the schema of the data that it was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..errors import DataError
from . import _cache
from ._interpret import as_levels
from ._lattice import Lattice, resolution_of
from ._layout import laid_out
from ._scan import chunks, value_range
from ._schema import Column, Schema
from ._source import Array, Part, Raw, Source, counted, listed
from .tables import coded, fingerprint_of

UNNAMED = "value"  # name of the column of a Series without a name
BEYOND = 0.5  # share of the trained range by which new values may lie outside it


def read_as(raw: Raw, schema: Schema) -> Source:
    """Examples with the meaning that the schema gives them; nothing is guessed anew.

    Columns are found by name where both have names: others are left out, and missing ones refused. One example alone may come
    without a dimension for the batch.

    Raises:
        DataError: for data of another shape or kind.
    """
    _require_rate(raw, schema)
    raw = laid_out(_one_alone(raw, schema), schema)
    notes = list(raw.notes)
    if schema.layout == "table":
        raw = _by_name(raw, schema, notes)
    if schema.is_mixed:
        raw = coded(raw, schema, notes)
    elif raw.words or raw.dates:
        wrong = [name for name in (*raw.words, *raw.dates) if name in schema.columns]
        raise DataError(
            f"{raw.name}: the model was trained on numbers alone; got words or dates in {listed(wrong)}. Convert the data."
        )
    raw = _same_shape(raw, schema, notes)
    parts = dict(raw.parts)
    fingerprint = fingerprint_of(parts) if schema.is_mixed else raw.fingerprint
    fingerprint = fingerprint or "-".join(_cache.hash_array(array)[:16] for array in raw.parts.values())
    if schema.layout == "table" and not schema.is_mixed:
        _say_astray(raw, schema, notes)
    elif schema.layout != "table":
        parts = _on_scale(raw, schema, fingerprint, notes)
    return Source(raw.name, parts, fingerprint, schema, raw.names, raw.labels, tuple(dict.fromkeys(notes)), raw.place)


def _require_rate(raw: Raw, schema: Schema) -> None:
    if None not in (raw.rate, schema.rate) and raw.rate != schema.rate:
        raise DataError(
            f"{raw.name} has {raw.rate} samples a second; the model was trained on {schema.rate}. Resample the sounds."
        )


def _one_alone(raw: Raw, schema: Schema) -> Raw:
    """One example without a dimension for the batch, with it; a grey picture also without its channel."""
    grey = schema.shape[1:] if schema.layout == "pictures" and schema.shape[0] == 1 else None
    lead = {
        array.shape: 1 if array.shape == schema.shape else 2 if array.shape == grey else 0
        for array in raw.parts.values()
    }
    if not all(lead.values()):
        return raw
    parts: dict[Part, Array] = {p: a.reshape((1,) * lead[a.shape] + a.shape) for p, a in raw.parts.items()}
    return replace(raw, parts=parts, notes=(*raw.notes, "one example came, without a dimension for the batch"))


def _by_name(raw: Raw, schema: Schema, notes: list[str]) -> Raw:
    """The columns that the model was trained on, in that order."""
    if not raw.columns:
        if schema.is_named and next(iter(raw.parts.values())).shape[1] == len(schema.fields):
            notes.append(f"columns without names: taken in the order {listed(schema.columns)}")
        return raw
    if not schema.is_named or raw.columns == schema.columns:
        return raw
    if len(raw.columns) == len(schema.columns) == 1 and UNNAMED in (raw.columns[0], schema.columns[0]):
        notes.append(f"the only column, {raw.columns[0]!r}, was taken for {schema.columns[0]!r}")
        return replace(raw, columns=schema.columns)
    require_columns(raw.name, raw.columns, schema.columns)
    extra = [name for name in raw.columns if name not in schema.columns]
    if extra:
        notes.append(f"{counted(len(extra), 'column')} that the model does not know left out: {listed(extra)}")
    elif raw.columns != schema.columns:
        notes.append("columns in another order than in training: found by name")
    order = [raw.columns.index(name) for name in schema.columns]
    parts: dict[Part, Array] = {part: array[:, order] for part, array in raw.parts.items()}
    return replace(raw, parts=parts, columns=schema.columns, fingerprint="")


def require_columns(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raise `DataError` unless all known columns are given."""
    missing = [column for column in known if column not in given]
    if missing:
        raise DataError(
            f"{name} must have the columns that the model was trained on; missing: {listed(missing)}; got {listed(list(given))}."
        )


def _same_shape(raw: Raw, schema: Schema, notes: list[str]) -> Raw:
    shape = next(iter(raw.parts.values())).shape[1:]
    if tuple(shape) == schema.shape:
        return raw
    if schema.layout == "pictures" and shape[1:] == schema.shape[1:] and (shape[0], schema.shape[0]) == (1, 3):
        notes.append("grey pictures for a model of colours: the three channels are equal")
        parts: dict[Part, Array] = {part: np.repeat(array, 3, axis=1) for part, array in raw.parts.items()}
        return replace(raw, parts=parts)
    raise DataError(
        f"{raw.name} has examples of shape {tuple(shape)}; the model was trained on {schema.shape}. Pass data of that shape."
    )


def _on_scale(raw: Raw, schema: Schema, fingerprint: str, notes: list[str]) -> dict[Part, Array]:
    """Values as the levels that the model was trained on, or as continuous floats."""
    floats = any(array.dtype.kind == "f" for array in raw.parts.values())
    if schema.levels is None:
        if not floats:
            raise DataError(f"{raw.name} holds integers; the model was trained on floats. Convert the data.")
        return dict(raw.parts)
    lattices = [_lattice(column) for column in schema.fields]
    lattices = lattices[:1] if len(set(lattices)) == 1 else lattices
    if not floats:
        others = _of_integers(raw, schema, lattices, notes)
        if others is None:
            return dict(raw.parts)
        lattices = others
    elif lattices[0].step == 1.0:
        lattices = _of_floats(raw, schema, notes)
    _require_on(raw, lattices, schema)
    return as_levels(dict(raw.parts), lattices, schema.levels, fingerprint)


def _lattice(column: Column) -> Lattice:
    return Lattice(column.low, column.step, column.levels or 2)


def _of_integers(raw: Raw, schema: Schema, trained: list[Lattice], notes: list[str]) -> list[Lattice] | None:
    """Lattice of integers; `None` where they are levels already."""
    lows, highs = zip(*(value_range(array) for array in raw.parts.values()), strict=True)
    assert schema.levels is not None
    unsigned = all(array.dtype.kind == "u" for array in raw.parts.values())
    if trained[0].step == 1.0 and trained[0].low != 0.0:
        if raw.encoded and unsigned:
            raise DataError(
                f"{raw.name} holds unsigned integers; the model was trained on signed ones from {trained[0].low:g}. Convert them."
            )
        return trained
    if raw.encoded and schema.levels > 256 and all(array.dtype == np.uint8 for array in raw.parts.values()):
        raise DataError(
            f"{raw.name} holds 8 bits a channel; the model was trained on {schema.levels} levels. Convert them to 16 bits."
        )
    if max(highs) >= schema.levels or min(lows) < 0:
        raise DataError(
            f"{raw.name} holds integers from {min(lows):g} to {max(highs):g}; the model was trained on {schema.levels} levels, 0 to "
            f"{schema.levels - 1}. Bring the data to that range."
        )
    if trained[0].step != 1.0 and not raw.encoded:
        notes.append(f"integers for a model of floats: read as the levels 0 to {schema.levels - 1} of its scale")
    return None


def _of_floats(raw: Raw, schema: Schema, notes: list[str]) -> list[Lattice]:
    """Lattice of floats for a model of integers: the integers themselves, or their share of the largest."""
    assert schema.levels is not None
    low, top = schema.fields[0].low, schema.levels - 1
    whole = Lattice(low, 1.0, schema.levels)
    lows, highs = zip(*(value_range(array) for array in raw.parts.values()), strict=True)
    if low < 0.0 or max(highs) > 1.0 or min(lows) < 0.0 or schema.levels == 2:
        return [whole]
    notes.append(f"floats on [0, 1] for a model of integers: read as k/{top}")
    return [Lattice(0.0, 1.0 / top, schema.levels)]


def _require_on(raw: Raw, lattices: Sequence[Lattice], schema: Schema) -> None:
    for array in raw.parts.values():
        resolution = resolution_of(array, raw.resolution)
        for _, chunk in chunks(array):
            for i, lattice in enumerate(lattices):
                values = chunk if len(lattices) == 1 else chunk[:, i]
                astray = lattice.astray(values, resolution)
                if astray.any():
                    top = lattice.low + lattice.step * (lattice.levels - 1)
                    holds = "floats" if array.dtype.kind == "f" else "integers"
                    raise DataError(
                        f"{raw.name} holds {holds}; the model was trained on {'integers' if schema.is_whole else 'values'}, "
                        f"which as {holds} are {schema.levels} values from {lattice.low:g} to {top:g} in steps of {lattice.step:g}; got {float(values[astray][0]):g}. Convert the data."
                    )


def require_range(raw: Raw | Source, low: float, high: float, notes: list[str]) -> None:
    """Refuse values far outside the range that a model was trained on, and count those a little outside."""
    margin = BEYOND * (high - low)
    for part, array in raw.parts.items():
        least, most = value_range(array)
        if least < low - margin or most > high + margin:
            raise DataError(
                f"{raw.name} ({part}): float data must lie on the stated range [{low:g}, {high:g}] that the model was trained on; got "
                f"values from {least:g} to {most:g}. Bring the data to that range."
            )
        if least < low or most > high:
            count = sum(int(((chunk < low) | (chunk > high)).sum()) for _, chunk in chunks(array))
            notes.append(
                f"{counted(count, 'value')} outside the range [{low:g}, {high:g}] of training, from {least:g} to {most:g}: kept as they are"
            )


def _say_astray(raw: Raw, schema: Schema, notes: list[str]) -> None:
    """Count the values between two points of a column's lattice."""
    said = []
    for i, column in enumerate(schema.fields):
        if column.step:
            lattice = _lattice(column)
            count = sum(
                int(lattice.between(chunk[:, i], resolution_of(array, raw.resolution)).sum())
                for array in raw.parts.values()
                for _, chunk in chunks(array)
            )
            if count:
                said.append(f"{column.name} ({count:,})")
    if said:
        notes.append(f"values between two steps of a column's scale, which training did not have: {listed(said)}")
