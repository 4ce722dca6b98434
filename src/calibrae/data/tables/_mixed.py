"""A table of mixed columns: the type of each, settled on the data that a model is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import DataError
from .._cache import hash_array
from .._lattice import resolution_of
from .._scan import has_missing
from .._schema import Column, Schema, channel_names
from .._source import Array, DataOptions, Part, Raw
from ._cells import without
from ._types import LEFT_OUT, ColumnValues, codes_of, column_of, require_known, say_types, say_unknown


def is_mixed(raw: Raw, options: DataOptions) -> bool:
    """Tell whether a table has columns of words or dates, missing cells, or types that were asked for."""
    arrays = list(raw.parts.values())
    if arrays[0].ndim != 2 or raw.encoded:
        return False
    missing = any(has_missing(array) for array in arrays)
    if missing and options.stream:
        raise DataError(
            f"{raw.name}: all values of a stream must be finite; got missing cells. Read the table whole, without --stream."
        )
    return missing or bool(raw.words or raw.dates or options.missing) or options.types is not None


def mixed_table(raw: Raw, options: DataOptions, notes: list[str]) -> tuple[dict[Part, Array], Schema]:
    """Stored numbers and the schema of a table of mixed columns; notes say what was taken for what.

    Raises:
        DataError: if nothing is left to model, or an option has no meaning for such a table.
    """
    for option in ("binarise", "data_range", "levels"):
        if getattr(options, option):
            raise DataError(
                f"{raw.name}: `{option}` is for numbers of one kind; got a table of mixed columns. Drop it."
            )
    parts = {part: without(np.asarray(array, dtype=np.float64), options.missing) for part, array in raw.parts.items()}
    width = next(iter(parts.values())).shape[1]
    names = raw.columns or channel_names("table", width)
    asked = dict(options.types or {})
    if not raw.words and not raw.dates:
        require_known({name: kind for name, kind in asked.items() if kind != "leave-out"}, names)
    every = [column_of(_cells(raw, parts, names, i), i, asked.get(names[i])) for i in range(width)]
    notes.extend(say_types(every))
    kept = [column for column in every if column.type not in LEFT_OUT]
    if not kept:
        why = "; ".join(say_types(every))
        raise DataError(f"{raw.name}: no column is left to model ({why}). Give types: columns={{name: type}}.")
    fields = tuple(kept)
    unknown: dict[str, int] = {}
    coded = {part: _stored(array, fields, raw, unknown) for part, array in parts.items()}
    if unknown:
        notes.append(say_unknown(unknown))
    out = tuple(column for column in every if column.type in LEFT_OUT)
    is_named = bool(raw.columns) and raw.is_named
    return coded, Schema(
        "table", (len(kept),), fields, None, is_named=is_named, left_out=out, missing=tuple(options.missing)
    )


def fingerprint_of(parts: Mapping[Part, Array]) -> str:
    """Hash of stored rows; every missing cell counts as the same."""
    return "-".join(hash_array(np.where(np.isnan(array), np.nan, array))[:16] for array in parts.values())


def _cells(raw: Raw, parts: dict[Part, Array], names: Sequence[str], i: int) -> ColumnValues:
    # test rows settle nothing
    kept = [array for part, array in parts.items() if part != "test"] or list(parts.values())
    values = np.concatenate([array[:, i] for array in kept])
    name, rows = names[i], len(values)
    dtype = raw.dtypes.get(name, str(next(iter(raw.parts.values())).dtype))
    resolution = max(resolution_of(array, raw.resolution) for array in raw.parts.values())
    there = values[~np.isnan(values)]
    return ColumnValues(name, there, rows, raw.words.get(name), raw.dates.get(name, ""), dtype, resolution or 2.0**-52)


def _stored(array: Array, fields: Sequence[Column], raw: Raw, unknown: dict[str, int]) -> Array:
    """Numbers and codes of the modelled columns, `[N, D]`; cells of values that no training row has are counted."""
    columns = [codes_of(column, array[:, column.place], raw.words.get(column.name), unknown) for column in fields]
    return np.stack(columns, axis=1)
