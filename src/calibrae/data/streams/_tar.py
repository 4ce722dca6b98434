"""Shards of WebDataset: tar files in which the files of an example share a name up to the first dot."""

from __future__ import annotations

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from ...errors import DataError, first_line
from .._cache_arrays import cached_arrays
from .._source import Array
from ._keys import Hashes, digests_of
from ._pictures import Form

BLOCK = 256  # pictures that are mixed as one; each is read by itself
SUFFIXES = ("png", "jpg", "jpeg", "jfif", "webp", "bmp", "gif", "ppm", "pgm")


@final
class TarShard:
    """Pictures in a tar file, found by an index of where each begins, which is kept in the cache.

    Args:
        path: the file.
    """

    is_decoded = True

    def __init__(self, path: Path) -> None:
        self.path = path
        facts = path.stat()
        index = cached_arrays(("tar", str(path.resolve()), facts.st_size, facts.st_mtime_ns), self._index)
        self._starts, self._lengths, self._digests = index["starts"], index["lengths"], index["digests"]
        self.others = int(index["others"][0])
        self.form: Form | None = None

    @property
    def sizes(self) -> Sequence[int]:
        """Number of pictures of each block."""
        count = len(self._starts)
        return [min(BLOCK, count - start) for start in range(0, count, BLOCK)]

    def digests(self, block: int) -> Hashes:
        """Number that stands for the key of each picture of a block."""
        return self._digests[block * BLOCK : (block + 1) * BLOCK]

    def load(self, block: int) -> Any:
        """Nothing: each picture is read when it is used."""

    def weight(self, block: int) -> int:
        """Bytes of a block in memory: none."""
        del block
        return 0

    def take(self, content: Any, block: int, rows: Array) -> Array:
        """Some pictures of a block, `[len(rows), C, H, W]`."""
        del content
        assert self.form is not None
        return self.form.take(self.sizes[block], lambda row: self.picture(block * BLOCK + row), rows)

    def picture(self, row: int) -> tuple[str, bytes]:
        """Name and content of a picture."""
        name = f"{self.path.name} picture {row}"
        try:
            with self.path.open("rb") as file:
                file.seek(int(self._starts[row]))
                return name, file.read(int(self._lengths[row]))
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {first_line(error)}. Check the file.") from error

    def _index(self) -> dict[str, Array]:
        """Place, length and key of each picture."""
        starts, lengths, keys, others = [], [], [], 0
        try:
            with tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    if not member.isfile() or suffix.lower() not in SUFFIXES:
                        others += member.isfile()
                        continue
                    starts.append(member.offset_data)
                    lengths.append(member.size)
                    keys.append(f"{folder}/{key}" if folder else key)
                    archive.members = []  # type: ignore[attr-defined]  # which would hold all of them
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self.path} cannot be read as a tar file that is not compressed: {first_line(error)}. Unpack it, or write it again."
            ) from error
        digests = digests_of(keys)
        if len(np.unique(digests)) < len(digests):
            raise DataError(
                f"{self.path.name}: each example must have one picture and a key of its own. Write it again."
            )
        whole = {"starts": np.array(starts, dtype=np.int64), "lengths": np.array(lengths, dtype=np.int64)}
        return {**whole, "digests": digests, "others": np.array([others])}
