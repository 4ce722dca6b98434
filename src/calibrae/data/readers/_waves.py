"""Folders of sounds: one WAV file an example."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .. import _cache
from .._registry import reads_files
from .._source import Array, Raw, Request, counted, listed
from ._paths import shown

BLOCK = 64


@dataclass
class _Sounds:
    """What was seen of the files: which were read, which are broken."""

    skip: bool
    root: Path
    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    rates: Counter[int] = field(default_factory=Counter)

    def blocks(self, files: Sequence[Path]) -> Iterator[Array]:
        rows: list[Array] = []
        for file in files:
            name = shown(file.relative_to(self.root))
            try:
                rate, samples = _samples(file)
            except Exception:  # SciPy raises many kinds for damaged files
                self.broken.append(name)
                continue
            self.kept.append(name)
            self.shapes[samples.shape] += 1
            self.rates[rate] += 1
            self._require_one()
            rows.append(samples)
            if len(rows) == BLOCK:
                yield np.stack(rows)
                rows = []
        if self.broken and not self.skip:
            raise DataError(
                f"{counted(len(self.broken), 'file')} cannot be read as sounds: {listed(self.broken)}. Fix or remove them, or pass "
                "--skip-broken (in Python `skip_broken=True`)."
            )
        if rows:
            yield np.stack(rows)

    def _require_one(self) -> None:
        if len(self.shapes) > 1 or len(self.rates) > 1:
            came = listed([f"{c} x {n} samples ({k})" for (c, n), k in self.shapes.most_common()], 3)
            raise DataError(
                f"all sounds must have one length, number of channels and rate; got {came} at {listed(list(map(str, self.rates)))} Hz. "
                "Cut them to one length first."
            )

    def facts(self) -> dict[str, Any]:
        notes = [f"sounds of {counted(len(self.kept), 'file')} at {next(iter(self.rates), 0)} Hz, one example each"]
        if self.broken:
            notes.append(f"{counted(len(self.broken), 'broken file')} left out: {listed(self.broken)}")
        return {"names": self.kept, "notes": notes}


@reads_files("sounds", (".wav",), rank=60, is_nested=True)
def read_waves(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """WAV files of one length and rate as signals `[C, L]`, integers as they are stored."""
    if root.is_file():
        root = root.parent
    skip = request.options.skip_broken
    key = _cache.hash_files(files, root, kind="sounds", skip=skip)
    if not _cache.has(key):
        sounds = _Sounds(skip, root)
        _cache.write(key, {"all": sounds.blocks(files)}, sounds.facts)
    arrays, facts = _cache.read(key)
    if not arrays:
        raise DataError(f"{root}: no sound could be read. Check the files.")
    return Raw(
        str(root), {"all": arrays["all"]}, key, names={"all": facts["names"]}, notes=tuple(facts["notes"]), encoded=True
    )


def _samples(file: Path) -> tuple[int, Array]:
    """Rate and samples `[C, L]` of one file."""
    from scipy.io import wavfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no samples
        rate, samples = wavfile.read(file)
    array: Array = np.asarray(samples)
    if array.dtype == np.int32:  # 24 and 32 bits: finer than dequantisation can tell
        array = array / 2.0**31
    if not array.size:
        raise ValueError("no samples")
    return int(rate), array[None] if array.ndim == 1 else np.ascontiguousarray(array.T)
