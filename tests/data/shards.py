"""Writers of small shards: tables in Parquet, pictures in tar files."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROWS = np.random.default_rng(0).normal(size=(1200, 3)) * [1.0, 5.0, 0.1] + [1e6, 0.0, 3.0]


def write_table(folder, rows=ROWS, shards=4, group=50, first=0):
    folder.mkdir(exist_ok=True, parents=True)
    for i, part in enumerate(np.array_split(rows, shards)):
        columns = {"a": part[:, 0], "b": part[:, 1], "row": part[:, 2]}
        pq.write_table(pa.table(columns), folder / f"part-{first + i:03d}.parquet", row_group_size=group)
    return folder


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def picture(i):
    """A grey picture of 4 x 4 that says its number, below 65,536."""
    pixels = np.full((4, 4), 7, dtype=np.uint8)
    pixels[0, :2] = divmod(i, 256)
    return pixels


def number_of(x):
    """The number that a picture `[1, 4, 4]` says."""
    return int(x[0, 0, 0]) * 256 + int(x[0, 0, 1])


def write_tar(path, numbers, content=None):
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w") as archive:
        for i in numbers:
            for suffix, data in ((".png", png(picture(i)) if content is None else content(i)), (".json", b"{}")):
                member = tarfile.TarInfo(f"{i:06d}{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path
