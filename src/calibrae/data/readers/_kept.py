"""Data that came from Python and were kept in the cache with their run."""

from __future__ import annotations

from typing import Any

from ...errors import DataError
from .. import _cache
from .._cache_room import cache_root
from .._registry import reads
from .._schema import Schema
from .._source import Array, Part, Request, Source

KEPT = "cache:"  # what the place of kept data begins with


def _is_kept(data: Any) -> bool:
    return isinstance(data, str) and data.startswith(KEPT)


@reads("data kept with a run", _is_kept, rank=0)
def read_kept(data: str, request: Request) -> Source:
    """Data that `keep_source` kept, with the meaning that was settled then.

    Raises:
        DataError: if they are no longer in the cache.
    """
    del request  # the meaning of kept data is settled
    key = data.removeprefix(KEPT)
    if not _cache.has(key):
        raise DataError(
            f"the run's data came from Python and are no longer in the cache {cache_root()}. Pass them: evaluate(run, data=...)."
        )
    arrays, facts = _cache.read(key)
    entries: dict[str, Any] = {str(name): array for name, array in arrays.items()}
    labels: dict[str, dict[Part, Array]] = {}
    for entry in [name for name in entries if "@" in name]:
        number, _, part = entry.removeprefix("labels").partition("@")
        labels.setdefault(facts["labels"][int(number)], {})[part] = entries.pop(entry)  # type: ignore[index]
    return Source(
        facts["name"],
        entries,  # type: ignore[arg-type]
        facts["fingerprint"],
        Schema.from_dict(facts["schema"]),
        labels=labels,
        notes=tuple(facts["notes"]),
        place=data,
    )
