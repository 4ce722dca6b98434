"""Decoded data on disk, keyed by content: read through a memory map if they are large, so they may be more than memory holds."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .._progress import READING, seen
from ..errors import DataError
from ._cache_room import WRITING, cache_root, make_room
from ._mapped import in_memory_if_small, releasing
from ._source import Array, Part

CHUNK = 1 << 22
INDEX = "index.json"
BLOCK = 1 << 22  # bytes with a checksum of their own
MOST_CHECKED = 1 << 28  # bytes of an entry up to which all of it is checked
SAMPLED = 64  # blocks that are checked of a larger one, others each time
REVISION = 4  # of what is made of the same data, by readers and by what is kept; a new one makes older entries unused


def key_of(*parts: object) -> str:
    """Key of what depends on some parts alone; each part is told from the next."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _add(digest, str(part).encode(errors="surrogateescape"))
    return digest.hexdigest()


def hash_files(files: Sequence[Path], root: Path, *, named: bool = True, **options: Any) -> str:
    """Hash of the names (relative to `root`, where they matter) and contents of files, and of the options they are decoded with."""
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, json.dumps({"revision": REVISION, **options}, sort_keys=True, default=str).encode())
    for file in files:
        _add(digest, os.fsencode(file.relative_to(root).as_posix()) if named else b"")
        content = hashlib.blake2b(digest_size=16)
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                content.update(chunk)
        digest.update(content.digest())
    return digest.hexdigest()


def _add(digest: hashlib.blake2b, content: bytes) -> None:
    """Add a part with its length before it, so that no two lists of parts are told alike."""
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)


def hash_array(array: Array) -> str:
    """Hash of an array's type, shape and content."""
    digest = hashlib.blake2b(digest_size=16)
    _add(digest, f"{array.dtype}{array.shape}".encode())
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    for block in releasing(array, (np.ascontiguousarray(array[i : i + rows]) for i in range(0, len(array), rows))):
        digest.update(block.data)
    return digest.hexdigest()


def has(key: str) -> bool:
    """Tell whether whole arrays are stored under a key. A damaged entry is removed, so that it is made again."""
    if re.fullmatch(r"[0-9a-f]{16,64}", key) is None:  # a key of ours; anything else could name a place outside
        return False
    folder = cache_root() / key
    if not folder.is_dir():
        return False
    if _is_whole(folder):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _is_whole(folder: Path) -> bool:
    """Tell whether an entry is as it was written: its sizes, and once a process its content, of large ones a sample."""
    try:
        content = (folder / INDEX).read_bytes()
        meta = json.loads(content)
        claimed = meta.pop("checksum")
        if claimed != _index_checksum(meta) or "extra" not in meta:
            return False
        for name, entry in meta["arrays"].items():
            size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
            if (folder / f"{name}.bin").stat().st_size != size:
                return False
        state = (claimed, *((folder / f"{name}.bin").stat().st_mtime_ns for name in meta["arrays"]))
        if _CHECKED.get(str(folder)) != state:
            if not all(
                _is_as_written(folder / f"{name}.bin", entry["blocks"]) for name, entry in meta["arrays"].items()
            ):
                return False
            _CHECKED[str(folder)] = state
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return True


_CHECKED: dict[str, tuple[object, ...]] = {}  # entries that this process has checked, and their state then


def _index_checksum(meta: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=16).hexdigest()


def _block_checksums(path: Path) -> list[str]:
    """Checksum of each block of a file."""
    if not path.exists():
        return []
    with path.open("rb") as stream:
        return [hashlib.blake2b(block, digest_size=8).hexdigest() for block in iter(lambda: stream.read(BLOCK), b"")]


def _is_as_written(path: Path, expected: Sequence[str]) -> bool:
    """Compare the blocks of a file, or a sample of many, with their checksums."""
    if len(expected) * BLOCK <= MOST_CHECKED:
        return _block_checksums(path) == list(expected)
    chosen = np.random.default_rng().choice(len(expected), SAMPLED, replace=False)
    with path.open("rb") as stream:
        for number in chosen:
            stream.seek(int(number) * BLOCK)
            if hashlib.blake2b(stream.read(BLOCK), digest_size=8).hexdigest() != expected[number]:
                return False
    return True


def read(key: str) -> tuple[dict[Part, Array], dict[str, Any]]:
    """The arrays and the notes stored under a key; large arrays are memory-mapped.

    Raises:
        DataError: if there are none.
    """
    if not has(key):
        raise DataError(f"the cache {cache_root()} cannot be read. Set CALIBRAE_CACHE to a folder with space.")
    folder = cache_root() / key
    with suppress(OSError):  # the longest unused goes first
        os.utime(folder / INDEX)
    meta = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    arrays: dict[Part, Array] = {
        name: in_memory_if_small(
            np.memmap(folder / f"{name}.bin", dtype=entry["dtype"], mode="r", shape=tuple(entry["shape"]))
        )
        for name, entry in meta["arrays"].items()
    }
    return arrays, meta["extra"]


def write(
    key: str | None,
    parts: Mapping[Part, Iterable[Array]],
    extra: Callable[[], dict[str, Any]],
    total: int | None = None,
) -> str:
    """Store blocks of rows under a key, by default the hash of their content, and return the key.

    `extra` is asked once all blocks are written. A half-written entry never takes the place of a whole one. `total` is how many rows
    will come, for those who look on.

    Raises:
        DataError: if the cache cannot be written, or the blocks of a part differ in shape.
    """
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=root))
    except OSError as error:
        raise unwritable(root, error) from error
    digest = hashlib.blake2b(digest_size=16)
    try:
        arrays: dict[Part, dict[str, Any]] = {}
        for name, blocks in parts.items():
            before = sum(array["shape"][0] for array in arrays.values() if array["shape"])
            arrays[name] = _write_blocks(temporary / f"{name}.bin", blocks, digest, before, total)
        key = key or digest.hexdigest()
        found = {n: {**a, "blocks": _block_checksums(temporary / f"{n}.bin")} for n, a in arrays.items() if a["shape"]}
        meta = {"format": REVISION, "arrays": found, "extra": extra()}
        meta = json.loads(json.dumps(meta))
        _save(temporary / INDEX, json.dumps({**meta, "checksum": _index_checksum(meta)}).encode())
        _place(temporary, root / key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    make_room(spared=key)
    return key


def _place(temporary: Path, entry: Path) -> None:
    """Move a finished entry to its place, unless another process was faster."""
    if entry.exists() and _is_whole(entry):
        return
    shutil.rmtree(entry, ignore_errors=True)
    try:
        temporary.rename(entry)
    except OSError as error:
        if not _is_whole(entry):
            raise unwritable(entry, error) from error


def unwritable(place: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    return DataError(
        f"the cache {place} cannot be written: {reason}. Free some space, or set CALIBRAE_CACHE to a folder with space and rights."
    )


def _save(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as stream:
            stream.write(content)
    except OSError as error:
        raise unwritable(path.parent.parent, error) from error


def _write_blocks(
    path: Path, blocks: Iterable[Array], digest: hashlib.blake2b, before: int, total: int | None
) -> dict[str, Any]:
    """Write blocks one after the other, after the rows of other parts. All have the type of the first; a wider one begins the file anew."""
    count, row_shape, dtype = 0, (), None
    digest.update(path.name.encode())
    for block in blocks:
        if not len(block):
            continue
        if dtype is not None and block.dtype != dtype:
            wider = np.result_type(block.dtype, dtype)
            if wider != dtype:
                _widen(path, dtype, wider)
                dtype = wider
        dtype = dtype or block.dtype
        block = np.ascontiguousarray(block, dtype=dtype)
        if count and block.shape[1:] != row_shape:
            raise DataError(f"all examples must have one shape; got {row_shape} and {block.shape[1:]}.")
        _save(path, block.tobytes())
        digest.update(f"{block.dtype}{block.shape}".encode())
        digest.update(block.data)
        count, row_shape = count + len(block), block.shape[1:]
        seen(READING, before + count, total)
    return {"shape": [count, *row_shape] if count else [], "dtype": "" if dtype is None else dtype.str}


def _widen(path: Path, narrow: np.dtype[Any], wide: np.dtype[Any]) -> None:
    """Rewrite a file of numbers in a wider type, a block at a time."""
    wider = path.with_suffix(".wide")
    with path.open("rb") as stream:
        while content := stream.read(CHUNK * narrow.itemsize):
            _save(wider, np.frombuffer(content, narrow).astype(wide).tobytes())
    wider.replace(path)
