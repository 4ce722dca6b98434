"""IDX files, as MNIST and its relatives come."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError
from .._registry import reads_files
from .._source import Array, Part, Raw, Request, part_of
from ._labels import add_part, labelled, pool

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def is_idx(path: Path) -> bool:
    """Tell whether this is an IDX file: by its usual names, or by another name with `-idx` and its first bytes."""
    if path.name.removesuffix(".gz").endswith(("-ubyte", ".idx")):
        return True
    if "-idx" not in path.name:
        return False
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES


def read_idx(path: Path) -> Array:
    """One IDX file, compressed or not.

    Raises:
        DataError: if it is not IDX, or shorter than its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}. Fetch it again.") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in TYPES:
        raise DataError(f"{path} is not an IDX file: its first bytes are {content[:4]!r}. Check the file.")
    dims, dtype = content[3], np.dtype(TYPES[content[2]])
    body = content[4 + 4 * dims :]
    shape = struct.unpack(f">{dims}I", content[4 : 4 + 4 * dims]) if len(content) >= 4 + 4 * dims else ()
    size = dtype.itemsize
    for side in shape:  # as Python's integers, which a damaged header cannot overflow
        size *= side
    if not shape or len(body) != size:
        raise DataError(
            f"{path} is cut short: its header promises {shape}, its body has {len(body)} bytes. Fetch it again."
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


@reads_files("IDX files", ("-ubyte", "-ubyte.gz", ".idx"), rank=10, accepts=is_idx)
def read_idx_files(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """IDX files of pictures whose names tell train from test; files of labels (one dimension) become the condition `label`."""
    parts: dict[Part, Array] = {}
    labels: dict[Part, Array] = {}
    for file in files:
        array = read_idx(file)
        if array.ndim == 3:
            array = array[:, None]
        part = (part_of(file.name) or "all") if len(files) > 1 else "all"
        add_part(parts if array.ndim > 1 else labels, part, array, file.name)
    notes: tuple[str, ...] = ()
    if "train" in parts and "all" in parts:
        notes = ("pictures of files whose names tell no part were added to the training set",)
        parts["train"] = np.concatenate([parts["train"], parts.pop("all")])
        if "train" in labels and "all" in labels:
            labels["train"] = np.concatenate([labels["train"], labels.pop("all")])
    if not parts:
        raise DataError(f"{root} holds only IDX files of labels. Add the files of images.")
    return labelled(Raw(str(root), pool(parts), notes=notes), pool(labels, parts), request.options)
