"""Decoded data on disk, keyed by content: read through a memory map if they are large, so they may be more than memory holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ._mapped import in_memory_if_small, releasing
from ._source import Array, Part

CHUNK = 1 << 22


def cache_root() -> Path:
    """`CALIBRAE_CACHE`, or the system's folder for caches."""
    named = os.environ.get("CALIBRAE_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("calibrae"))


def hash_files(files: Iterable[Path], root: Path, **options: Any) -> str:
    """Hash of the names (relative to `root`) and contents of files, and of the options they are decoded with."""
    digest = hashlib.blake2b(json.dumps(options, sort_keys=True, default=str).encode(), digest_size=16)
    for file in files:
        digest.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def hash_array(array: Array) -> str:
    """Hash of an array's type, shape and content."""
    digest = hashlib.blake2b(f"{array.dtype}{array.shape}".encode(), digest_size=16)
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    for block in releasing(array, (np.ascontiguousarray(array[i : i + rows]) for i in range(0, len(array), rows))):
        digest.update(block.data)
    return digest.hexdigest()


def has(key: str) -> bool:
    """Tell whether arrays are stored under a key."""
    return (cache_root() / key / "index.json").is_file()


def read(key: str) -> tuple[dict[Part, Array], dict[str, Any]]:
    """The arrays and the notes stored under a key; large arrays are memory-mapped.

    Raises:
        DataError: if there are none.
    """
    if not has(key):
        raise DataError(f"the cache {cache_root()} cannot be read. Set CALIBRAE_CACHE to a folder with space.")
    folder = cache_root() / key
    meta = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    arrays: dict[Part, Array] = {
        name: in_memory_if_small(
            np.memmap(folder / f"{name}.bin", dtype=entry["dtype"], mode="r", shape=tuple(entry["shape"]))
        )
        for name, entry in meta["arrays"].items()
    }
    return arrays, meta["extra"]


def write(key: str | None, parts: Mapping[Part, Iterable[Array]], extra: Callable[[], dict[str, Any]]) -> str:
    """Store blocks of rows under a key, by default the hash of their content, and return the key.

    `extra` is asked once all blocks are written.

    A half-written entry never takes the place of a whole one.
    """
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    digest = hashlib.blake2b(digest_size=16)
    try:
        arrays = {name: _write_blocks(temporary / f"{name}.bin", blocks, digest) for name, blocks in parts.items()}
        key = key or digest.hexdigest()
        meta = {"arrays": {n: a for n, a in arrays.items() if a["shape"]}, "extra": extra()}
        (temporary / "index.json").write_text(json.dumps(meta), encoding="utf-8")
        if not (root / key).exists():
            temporary.rename(root / key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return key


def _write_blocks(path: Path, blocks: Iterable[Array], digest: hashlib.blake2b) -> dict[str, Any]:
    count, row_shape, dtype = 0, (), ""
    digest.update(path.name.encode())
    with path.open("wb") as stream:
        for block in blocks:
            if len(block):
                block = np.ascontiguousarray(block)
                block.tofile(stream)
                digest.update(block.data)
                count, row_shape, dtype = count + len(block), block.shape[1:], block.dtype.str
    return {"shape": [count, *row_shape] if count else [], "dtype": dtype}


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
    write_arrays(file, arrays)
    return arrays


def cache_file(identity: tuple[object, ...], suffix: str) -> Path:
    """Key of what depends on an identity alone; its `repr` is the key."""
    return cache_root() / (hashlib.blake2b(repr(identity).encode(), digest_size=16).hexdigest() + suffix)


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
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".npz", dir=file.parent, delete=False) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # the stub takes the names for its own `allow_pickle`
    Path(stream.name).replace(file)
