"""Place of the cache, what is in it, and how much it may hold."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, final

from ..errors import ArgumentError

LIMIT = "20GB"  # unless CALIBRAE_CACHE_LIMIT says otherwise
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
WRITING = ".writing-"  # in the names of what is being written
STALE = 3600.0  # seconds after which something half-written is nobody's any more
Kind: TypeAlias = Literal["data", "data of runs", "results", "half-written"]


def cache_root() -> Path:
    """`CALIBRAE_CACHE`, or the system's folder for caches; without a home, a folder among the temporary ones."""
    named = os.environ.get("CALIBRAE_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    try:
        found = Path(user_cache_dir("calibrae"))
    except (RuntimeError, KeyError):  # a container without HOME and without an entry for the user
        found = Path("~")
    return found if found.is_absolute() else Path(tempfile.gettempdir()) / "calibrae-cache"


@final
@dataclass(frozen=True)
class CacheEntry:
    """Something in the cache.

    Attributes:
        path: its place.
        kind: `data`: decoded, made again when they are needed; `data of runs`: data from Python, which runs have no other copy of;
            `results`: costly numbers; `half-written`: left by a process that was killed, or still being written.
        size: bytes.
        used: when it was last used, in seconds since 1970.
    """

    path: Path
    kind: Kind
    size: int
    used: float


def cache_entries() -> list[CacheEntry]:
    """List everything in the cache, the longest unused first."""
    root = cache_root()
    try:
        found = [_entry(path) for path in root.iterdir()]
    except OSError:
        return []
    return sorted((entry for entry in found if entry is not None), key=lambda entry: entry.used)


def empty_cache(*, runs_too: bool = False) -> list[CacheEntry]:
    """Remove what can be made again; returns what was removed.

    Args:
        runs_too: remove data from Python as well, of which runs have no other copy.
    """
    return [entry for entry in cache_entries() if (runs_too or entry.kind != "data of runs") and _remove(entry)]


def make_room(spared: str = "") -> None:
    """Remove the longest unused entries while the cache holds more than its limit, and what killed processes have left.

    Args:
        spared: name of an entry that has just been written.
    """
    entries, now = cache_entries(), time.time()
    for entry in entries:
        if entry.kind == "half-written" and now - entry.used > STALE:
            _remove(entry)
    total, limit = sum(entry.size for entry in entries), cache_limit()
    for entry in entries:
        if total <= limit:
            return
        if entry.kind in ("data", "results") and entry.path.name != spared and _remove(entry):
            total -= entry.size


def cache_limit() -> int:
    """Bytes that the cache may hold: `CALIBRAE_CACHE_LIMIT`, such as `500MB`, or 20 GB.

    Raises:
        ArgumentError: if the variable is no size.
    """
    text = os.environ.get("CALIBRAE_CACHE_LIMIT", LIMIT)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", text.upper())
    if found is None or found[2] not in UNITS:
        raise ArgumentError(f"CALIBRAE_CACHE_LIMIT must be a size, such as 500MB or 20GB; got {text}.")
    return int(float(found[1]) * UNITS[found[2]])


def _entry(path: Path) -> CacheEntry | None:
    """What a name in the cache is; `None` for what is not ours, or is gone."""
    try:
        if path.name.startswith(WRITING):
            files = [path, *_files(path)]
            return CacheEntry(path, "half-written", _size(files), max(file.stat().st_mtime for file in files))
        if path.is_dir() and (path / "index.json").is_file():
            return CacheEntry(path, _kind(path), _size(_files(path)), (path / "index.json").stat().st_mtime)
        if path.suffix == ".npz":
            return CacheEntry(path, "results", path.stat().st_size, path.stat().st_mtime)
    except OSError:
        pass
    return None


def _kind(path: Path) -> Kind:
    try:
        extra = json.loads((path / "index.json").read_text(encoding="utf-8"))["extra"]
        return "data of runs" if isinstance(extra, dict) and {"fingerprint", "schema"} <= set(extra) else "data"
    except (ValueError, KeyError, TypeError, RecursionError):
        return "data"


def _files(path: Path) -> Iterator[Path]:
    return (file for file in path.rglob("*") if file.is_file())


def _size(files: Iterator[Path] | list[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(entry: CacheEntry) -> bool:
    with suppress(OSError):
        shutil.rmtree(entry.path) if entry.path.is_dir() else entry.path.unlink()
    return not entry.path.exists()
