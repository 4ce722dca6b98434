"""Open any data: every door leads through the same rules."""

from __future__ import annotations

import hashlib
from typing import Any

from ..errors import DataError
from . import _cache, readers
from ._condition import hashable
from ._interpret import interpret
from ._registry import READERS, read
from ._schema import Schema, levels_in_units
from ._source import DataOptions, Raw, Request, Source
from ._trained import read_as
from .readers import KEPT
from .streams import open_stream

MOST_KEPT = 1 << 30  # bytes


def open_source(data: Any, options: DataOptions | None = None, schema: Schema | None = None) -> Source:
    """Stored data from whatever the user has.

    Args:
        data: a name (`digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `svhn`, `celeba`); the path of a file or a folder; an
            array, tensor or sparse matrix; a data frame; a Dataset, DataLoader or list of examples; a dict of such with the keys
            `train`, `validation`, `test`. docs/data.md has all of them.
        options: how to read it.
        schema: schema of the data that a model was trained on, by which these are read; by default it is found from the data.

    Raises:
        DataError: if it cannot be read, with what was found and what to do.
    """
    options = options or DataOptions()
    if options.stream and not isinstance(data, Source):
        return open_stream(data, options, schema)
    found = data if isinstance(data, Source) else read(data, Request(options, schema))
    if found is None:
        known = ", ".join(reader.name for reader in READERS)
        raise DataError(f"data must be one of: {known}; got {type(data).__name__}.")
    if isinstance(found, Source):
        return found if schema in (None, found.schema) else read_as(_as_raw(found), schema)
    return interpret(found, options) if schema is None else read_as(found, schema)


def _as_raw(source: Source) -> Raw:
    """The numbers of a source whose meaning is settled, in their own units."""
    schema, parts = source.schema, dict(source.parts)
    scaled = [column for column in schema.fields if (column.low, column.step) != (0.0, 1.0)]
    if schema.levels is not None and schema.layout != "table" and scaled:
        parts = {part: levels_in_units(array, schema) for part, array in parts.items()}
    columns = source.columns if schema.is_named else ()
    return Raw(
        source.name,
        parts,
        source.fingerprint,
        columns,
        words={c.name: c.categories for c in schema.fields if c.type in ("categorical", "binary")},
        dates={c.name: c.form for c in schema.fields if c.form},
        dtypes={c.name: c.dtype for c in schema.fields if c.type},
        names=source.names,
        labels=source.labels,
        notes=source.notes,
        place=source.place,
        rate=schema.rate,
    )


def keep_source(source: Source) -> str | None:
    """Keep data that came from Python in the cache, so that their run can be evaluated from its folder; returns their place.

    Returns:
        `cache:KEY`; `None` if they are over a gigabyte, or the cache cannot be written, which no training needs.
    """
    size = sum(array.nbytes for array in source.parts.values())
    if size > MOST_KEPT:
        return None
    labels = {name: {part: hashable(values) for part, values in parts.items()} for name, parts in source.labels.items()}
    facts = {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "schema": source.schema.to_dict(),
        "notes": list(source.notes),
        "labels": list(labels),
    }
    hashes = [_cache.hash_array(values) for by_part in labels.values() for values in by_part.values()]
    key = hashlib.blake2b(repr(("kept", facts, list(source.parts), hashes)).encode(), digest_size=16).hexdigest()
    if not _cache.has(key):
        blocks: dict[Any, Any] = {part: [array] for part, array in source.parts.items()}
        for number, by_part in enumerate(labels.values()):
            blocks |= {f"labels{number}@{part}": [values] for part, values in by_part.items()}
        try:
            _cache.write(key, blocks, lambda: facts)
        except DataError:
            return None
    return KEPT + key


readers.register_all()
