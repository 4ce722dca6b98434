"""Damaged files of every kind: each must be read, or refused in one sentence of ours.

`python tests/data/fuzz.py 100000` tries so many by hand and counts what became of them; the tests try a few seconds' worth.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.io import wavfile

from calibrae.data import DataOptions, open_source
from calibrae.errors import CalibraeError

LONGEST = 600  # characters of a message


def _picture(kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x112] = 6
    image = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8))
    image.save(stream, kind, **({"exif": exif} if kind in ("jpeg", "webp", "png", "tiff") else {}), **how)
    return stream.getvalue()


def _table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"a": rng.normal(size=40), "b": rng.integers(0, 9, 40), "c": rng.random(40) > 0.5})


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(_table(), stream)
    return stream.getvalue()


def _images_in_parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"img": [{"bytes": _picture("png"), "path": None}] * 6}), stream)
    return stream.getvalue()


def _csv() -> bytes:
    return _table().to_pandas().to_csv(index=False).encode()


def _idx() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    return struct.pack(">HBBIII", 0, 8, 3, 6, 5, 4) + pixels.tobytes()


def _numpy(save: Callable[..., None]) -> bytes:
    stream = io.BytesIO()
    save(stream, np.random.default_rng(0).random((9, 4)))
    return stream.getvalue()


def _wav() -> bytes:
    stream = io.BytesIO()
    wavfile.write(stream, 8000, np.random.default_rng(0).integers(-999, 999, 64).astype(np.int16))
    return stream.getvalue()


WHOLE: dict[str, bytes] = {
    "p.png": _picture("png"), "p.jpg": _picture("jpeg"), "p.tif": _picture("tiff"), "p.webp": _picture("webp"), "p.gif": _picture("gif"),
    "t.csv": _csv(), "t.parquet": _parquet(), "i.parquet": _images_in_parquet(), "a-idx3-ubyte": _idx(),
    "a-idx3-ubyte.gz": gzip.compress(_idx()), "a.npy": _numpy(np.save), "a.npz": _numpy(np.savez), "c.npz": _numpy(np.savez_compressed),
    "s.wav": _wav(),
}  # fmt: skip
FOLDERS = (".png", ".jpg", ".tif", ".webp", ".gif", ".wav")  # kinds of which a folder is read


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with some damage: bits flipped, bytes replaced, removed, doubled or cut off."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(0, max(1, len(data))))
        length = int(rng.integers(1, 9))
        how = int(rng.integers(0, 6))
        if how == 0 and data:
            data[at % len(data)] ^= 1 << int(rng.integers(0, 8))
        elif how == 1:
            data[at : at + length] = rng.bytes(length)
        elif how == 2:
            del data[at : at + length]
        elif how == 3:
            data[at:at] = data[at : at + length]
        elif how == 4:
            del data[at:]
        else:
            data[at : at + length] = bytes(rng.choice([0, 0xFF, 0x7F, 0x80]).astype(np.uint8).tobytes() * length)
    return bytes(data)


def outcome(name: str, content: bytes, folder: Path) -> str:
    """`read` or `refused`; anything else is raised.

    Args:
        name: name of the file, which tells its kind.
        content: content of the file.
        folder: an empty one.
    """
    file = folder / name
    file.write_bytes(content)
    is_folder = file.suffix in FOLDERS
    if is_folder:
        (folder / f"whole{file.suffix}").write_bytes(WHOLE[name])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow and SciPy, on files that they read none the less
            open_source(folder if is_folder else file, DataOptions(skip_broken=True, size=(12, 10)))
    except CalibraeError as error:
        words = str(error)
        assert len(words) < LONGEST, words
        assert "\n" not in words, words
        return "refused"
    finally:
        for one in folder.iterdir():
            one.unlink()
    return "read"


def main(count: int, seed: int = 0) -> None:
    """Try so many damaged files and say what became of them."""
    rng, started = np.random.default_rng(seed), time.monotonic()
    found: Counter[tuple[str, str]] = Counter()
    names = list(WHOLE)
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as cache:
        import os
        import shutil

        os.environ["CALIBRAE_CACHE"] = cache
        for i in range(count):
            name = names[i % len(names)]
            content = mutated(WHOLE[name], rng)
            try:
                found[name, outcome(name, content, Path(place))] += 1
            except Exception as error:
                found[name, f"{type(error).__name__}: {str(error)[:100]}"] += 1
                Path(f"/tmp/fuzz-{i}-{name}").write_bytes(content)
            if i % 500 == 499:
                shutil.rmtree(cache, ignore_errors=True)
    for (name, what), number in sorted(found.items()):
        print(f"{name:<18}{number:>8}  {what}")
    print(f"{count} files in {time.monotonic() - started:.0f} s, seed {seed}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
