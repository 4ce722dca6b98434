"""Decoded data on disk, keyed by content: read through a memory map if they are large, so they may be more than memory holds."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ._mapped import in_memory_if_small, releasing
from ._source import Array, Part

CHUNK = 1 << 22
INDEX = "index.json"
REVISION = 3  # of what is made of the same data, by readers and by what is kept; a new one makes older entries unused


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
    folder = cache_root() / key
    if not folder.is_dir():
        return False
    if _is_whole(folder):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _is_whole(folder: Path) -> bool:
    try:
        meta = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        for name, entry in meta["arrays"].items():
            size = math.prod(entry["shape"]) * np.dtype(entry["dtype"]).itemsize
            if (folder / f"{name}.bin").stat().st_size != size:
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return "extra" in meta


def read(key: str) -> tuple[dict[Part, Array], dict[str, Any]]:
    """The arrays and the notes stored under a key; large arrays are memory-mapped.

    Raises:
        DataError: if there are none.
    """
    if not has(key):
        raise DataError(f"the cache {cache_root()} cannot be read. Set CALIBRAE_CACHE to a folder with space.")
    folder = cache_root() / key
    meta = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    arrays: dict[Part, Array] = {
        name: in_memory_if_small(
            np.memmap(folder / f"{name}.bin", dtype=entry["dtype"], mode="r", shape=tuple(entry["shape"]))
        )
        for name, entry in meta["arrays"].items()
    }
    return arrays, meta["extra"]


def write(key: str | None, parts: Mapping[Part, Iterable[Array]], extra: Callable[[], dict[str, Any]]) -> str:
    """Store blocks of rows under a key, by default the hash of their content, and return the key.

    `extra` is asked once all blocks are written. A half-written entry never takes the place of a whole one.

    Raises:
        DataError: if the cache cannot be written, or the blocks of a part differ in shape.
    """
    root = cache_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    except OSError as error:
        raise _unwritable(root, error) from error
    digest = hashlib.blake2b(digest_size=16)
    try:
        arrays = {name: _write_blocks(temporary / f"{name}.bin", blocks, digest) for name, blocks in parts.items()}
        key = key or digest.hexdigest()
        meta = {"arrays": {n: a for n, a in arrays.items() if a["shape"]}, "extra": extra()}
        _save(temporary / INDEX, json.dumps(meta).encode())
        _place(temporary, root / key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
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
            raise _unwritable(entry, error) from error


def _unwritable(place: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    return DataError(
        f"the cache {place} cannot be written: {reason}. Free some space, or set CALIBRAE_CACHE to a folder with space and rights."
    )


def _save(path: Path, content: bytes) -> None:
    try:
        with path.open("ab") as stream:
            stream.write(content)
    except OSError as error:
        raise _unwritable(path.parent.parent, error) from error


def _write_blocks(path: Path, blocks: Iterable[Array], digest: hashlib.blake2b) -> dict[str, Any]:
    """Write blocks one after the other. All have the type of the first; a wider type begins the file anew."""
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
    return {"shape": [count, *row_shape] if count else [], "dtype": "" if dtype is None else dtype.str}


def _widen(path: Path, narrow: np.dtype[Any], wide: np.dtype[Any]) -> None:
    """Rewrite a file of numbers in a wider type, a block at a time."""
    wider = path.with_suffix(".wide")
    with path.open("rb") as stream:
        while content := stream.read(CHUNK * narrow.itemsize):
            _save(wider, np.frombuffer(content, narrow).astype(wide).tobytes())
    wider.replace(path)


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
        with np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (ValueError, OSError, zipfile.BadZipFile):
        file.unlink(missing_ok=True)  # cut short by a full disk or an old crash: computed again
        return None


def write_arrays(file: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays so that a half-written file never takes the place of a whole one."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(suffix=".npz", dir=file.parent, delete=False) as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes the names for its own `allow_pickle`
        Path(stream.name).replace(file)
    except OSError as error:
        raise _unwritable(file.parent, error) from error
