"""Dicts by part, each value of any kind: arrays, frames, Datasets, paths; a `DatasetDict` too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import DataError
from .. import _cache
from .._registry import read, reads
from .._source import Array, Part, Raw, Request, Source, listed, part_of
from ..tables import one_code
from ._frames import as_arrow, is_frame
from ._items import from_items
from ._mixed import read_mixed
from ._records import is_records, read_records


def _is_mapping(data: Any) -> bool:
    return isinstance(data, Mapping)


@reads("a dict of such with the keys train, validation, test", _is_mapping, rank=22)
def read_mapping(data: Mapping[Any, Any], request: Request) -> Raw:
    """A dict of data with the keys `train`, `validation`, `test`, each read as it would be alone.

    Raises:
        DataError: for other keys, no training data, or parts with other columns.
    """
    names = ", ".join(map(str, data))
    trained = request.trained
    if trained is not None and trained.is_named and set(trained.columns) <= set(map(str, data)):
        return read_records([data], request) if is_records([data]) else from_items("row", [data], request)
    raws: dict[Part, Raw] = {}
    for key, value in data.items():
        part = part_of(str(key))
        if part is None or part in raws:
            raise DataError(
                f"a dict of data must map train, validation or test, once each, to data; got {names}. Rename the keys."
            )
        found = read(value, request)
        if found is None or isinstance(found, Source) or set(found.parts) != {"all"}:
            raise DataError(
                f"a dict of data must map train, validation or test to arrays, frames or Datasets; got {key!r}: {type(value).__name__}."
            )
        raws[part] = found
    if "train" not in raws and request.trained is None:
        raise DataError(f"a dict of data must have the key train; got {names}.")
    if _are_mixed_frames(data, raws):
        return _as_one_table(data, raws, _joined(raws), request)
    return _joined(one_code(raws))


def _are_mixed_frames(data: Mapping[Any, Any], raws: Mapping[Part, Raw]) -> bool:
    return all(map(is_frame, data.values())) and any(raw.tables for raw in raws.values())


def _as_one_table(data: Mapping[Any, Any], raws: Mapping[Part, Raw], joined: Raw, request: Request) -> Raw:
    """Data frames whose columns are read together, so that words, dates and types are those of the whole table."""
    tables = {part: as_arrow(value, joined.name) for part, value in zip(raws, data.values(), strict=True)}
    gone = {name for name, kind in (request.options.columns or {}).items() if kind == "leave-out"}
    left_out = [
        name
        for table in tables.values()
        for name in table.column_names
        if name not in joined.columns and name not in gone
    ]
    found = read_mixed(joined.name, tables, request, left_out)
    return replace(found, labels=joined.labels, notes=tuple(dict.fromkeys((*joined.notes, *found.notes))))


def _joined(raws: Mapping[Part, Raw]) -> Raw:
    first = raws["train"] if "train" in raws else next(iter(raws.values()))
    parts: dict[Part, Array] = {part: _in_order(raw, first, part) for part, raw in raws.items()}
    labels: dict[str, dict[Part, Array]] = {}
    for part, raw in raws.items():
        for name, by_part in raw.labels.items():
            labels.setdefault(name, {})[part] = by_part["all"]
    rates = {raw.rate for raw in raws.values() if raw.rate is not None}
    if len(rates) > 1:
        raise DataError(
            f"all sounds must have one rate; got {listed([f'{rate} Hz' for rate in rates])}. Resample them."
        )
    given = [raw.fingerprint for raw in raws.values()]
    return Raw(
        f"dict of {first.name}",
        parts,
        _cache.key_of(*raws, *given) if all(given) else "",
        first.columns,
        first.units,
        {name: words for raw in raws.values() for name, words in raw.words.items()},
        {name: form for raw in raws.values() for name, form in raw.dates.items()},
        first.dtypes,
        names={part: raw.names["all"] for part, raw in raws.items() if "all" in raw.names},
        labels=labels,
        notes=tuple(dict.fromkeys(note for raw in raws.values() for note in raw.notes)),
        resolution=max((raw.resolution for raw in raws.values() if raw.resolution is not None), default=None),
        encoded=all(raw.encoded for raw in raws.values()),
        rate=next(iter(rates), None),
    )


def _in_order(raw: Raw, first: Raw, part: str) -> Array:
    """The columns of a part in the order of the training part's."""
    array = raw.parts["all"]
    if raw.columns == first.columns or not (raw.columns and first.columns):
        return array
    if set(raw.columns) != set(first.columns):
        other = sorted(set(raw.columns) ^ set(first.columns))
        raise DataError(f"the parts must have the same columns; {part} and train differ in {listed(other)}.")
    return array[:, [raw.columns.index(name) for name in first.columns]]
