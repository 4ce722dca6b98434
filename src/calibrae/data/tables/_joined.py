"""Parts of a table that were read apart: one code for each word in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import DataError
from .._source import Array, Part, Raw


def one_code(raws: Mapping[Part, Raw]) -> dict[Part, Raw]:
    """The parts with one code for each word: a column has the words of all parts.

    Raises:
        DataError: if a column holds dates in one part and something else in another.
    """
    if not any(raw.words or raw.dates for raw in raws.values()):
        return dict(raws)
    worded = dict.fromkeys(name for raw in raws.values() for name in raw.words)
    words = {name: _union(name, raws) for name in worded}
    for name in dict.fromkeys(name for raw in raws.values() for name in raw.dates):
        forms = {raw.dates.get(name) for raw in raws.values() if not _is_empty(raw, name)}
        if len(forms) > 1:
            raise DataError(
                f"the column {name!r} must hold dates of one form in all parts; got {', '.join(map(str, forms))}."
            )
    return {part: _recoded(raw, words) for part, raw in raws.items()}


def _values(raw: Raw, name: str) -> Array:
    return np.asarray(raw.parts["all"][:, raw.columns.index(name)], dtype=np.float64)


def _is_empty(raw: Raw, name: str) -> bool:
    return name not in raw.columns or bool(np.isnan(_values(raw, name)).all())


def _own(raw: Raw, name: str) -> dict[float, Any]:
    """What the numbers of a column stand for: words, or themselves as text."""
    if name in raw.words:
        return {float(code): word for code, word in enumerate(raw.words[name])}
    values = np.unique(_values(raw, name))
    return {float(v): f"{v:.0f}" if v == round(v) else f"{v!r}" for v in values[~np.isnan(values)].tolist()}


def _union(name: str, raws: Mapping[Part, Raw]) -> tuple[Any, ...]:
    found = {word for raw in raws.values() if name in raw.columns for word in _own(raw, name).values()}
    return tuple(sorted(found, key=lambda word: (str(type(word)), word)))


def _recoded(raw: Raw, words: Mapping[str, tuple[Any, ...]]) -> Raw:
    array = np.array(raw.parts["all"], dtype=np.float64)
    for name in words:
        if name in raw.columns:
            place = {word: float(code) for code, word in enumerate(words[name])}
            own = {code: place[word] for code, word in _own(raw, name).items()}
            column = array[:, raw.columns.index(name)]
            array[:, raw.columns.index(name)] = [own.get(v, np.nan) for v in column.tolist()]
    return replace(raw, parts={"all": array}, words={name: words[name] for name in words if name in raw.columns})
