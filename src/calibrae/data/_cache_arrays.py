"""Results that are costly to compute, kept on disk as named arrays."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from ..errors import DataError
from ._cache import REVISION, unwritable
from ._cache_room import WRITING, cache_root, make_room
from ._source import Array

CHECKSUM = "checksum-of-all"


def cached_arrays(identity: tuple[object, ...], compute: Callable[[], dict[str, Array]]) -> dict[str, Array]:
    """Arrays that are costly to compute, kept on disk.

    Args:
        identity: everything that they depend on; its `repr` is the key.
        compute: makes them the first time.
    """
    file = cache_file(identity, ".npz")
    stored = read_arrays(file)
    if stored is not None:
        return stored
    arrays = compute()
    with suppress(DataError):  # a full or read-only cache costs time, not the result
        write_arrays(file, arrays)
    return arrays


def cache_file(identity: tuple[object, ...], suffix: str) -> Path:
    """Key of what depends on an identity alone; its `repr` is the key."""
    return cache_root() / (hashlib.blake2b(repr((REVISION, *identity)).encode(), digest_size=16).hexdigest() + suffix)


def read_arrays(file: Path) -> dict[str, Array] | None:
    """The arrays in a file that `write_arrays` wrote; `None` if there is none. A damaged one is removed."""
    if not file.is_file():
        return None
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            found = dict(stored)
        if np.array_equal(found.pop(CHECKSUM), _checksum(found)):
            with suppress(OSError):  # the longest unused goes first
                os.utime(file)
            return found
    except Exception:  # noqa: S110 (a damaged archive fails in many ways, all of which mean that it is computed again)
        pass
    with suppress(OSError):
        file.unlink(missing_ok=True)
    return None


def write_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays so that a half-written file never takes the place of a whole one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=WRITING, dir=file.parent) as folder:
            beside = Path(folder) / file.name
            np.savez(beside, **{**arrays, CHECKSUM: _checksum(arrays)})  # type: ignore[arg-type]  # the stub takes the names for its own `allow_pickle`
            beside.replace(file)
    except OSError as error:
        raise unwritable(file.parent, error) from error
    make_room(spared=file.name)


def _checksum(arrays: Mapping[str, Array]) -> np.ndarray:
    """Checksum of arrays and their names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        digest.update(repr((name, arrays[name].dtype.str, arrays[name].shape)).encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)
