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
from .._source import Array, Part, Raw, Request, counted, listed
from ._labels import CLASS, with_classes
from ._paths import shown
from ._pictures import split_by_folder

BLOCK = 64


@dataclass
class _Sounds:
    """What was seen of the files: which were read, which are broken."""

    skip: bool
    root: Path
    kept: dict[Part, list[str]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    rates: Counter[int] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)

    def blocks(self, files: Sequence[Path], part: Part) -> Iterator[Array]:
        rows: list[Array] = []
        kept = self.kept.setdefault(part, [])
        for file in files:
            name = shown(file.relative_to(self.root))
            try:
                rate, samples = _samples(file)
            except Exception:  # SciPy raises many kinds for damaged files
                self.broken.append(name)
                continue
            kept.append(name)
            self.types[str(samples.dtype)] += 1
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
        if len(self.types) > 1:
            raise DataError(f"all sounds must be of one type; got {listed(list(self.types))}. Convert them to one.")
        if len(self.shapes) > 1 or len(self.rates) > 1:
            came = listed([f"{c} x {n} samples ({k})" for (c, n), k in self.shapes.most_common()], 3)
            raise DataError(
                f"all sounds must have one length, number of channels and rate; got {came} at {listed(list(map(str, self.rates)))} Hz. "
                "Cut them to one length first."
            )

    def facts(self) -> dict[str, Any]:
        notes = [
            f"sounds of {counted(sum(map(len, self.kept.values())), 'file')} at {next(iter(self.rates), 0)} Hz, one example each"
        ]
        if self.broken:
            notes.append(f"{counted(len(self.broken), 'broken file')} left out: {listed(self.broken)}")
        return {"names": self.kept, "notes": notes, "rate": next(iter(self.rates), None)}


@reads_files("sounds", (".wav",), rank=60, is_nested=True)
def read_waves(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """WAV files of one length and rate as signals `[C, L]`, integers as they are stored."""
    if root.is_file():
        root = root.parent
    skip = request.options.skip_broken
    groups, notes, home = split_by_folder(files, root)
    key = _cache.hash_files(
        files, root, kind="sounds", skip=skip, parts={part: len(group) for part, group in groups.items()}
    )
    if not _cache.has(key):
        sounds = _Sounds(skip, root)
        blocks: dict[Part, Iterator[Array]] = {part: sounds.blocks(group, part) for part, group in groups.items()}
        _cache.write(key, blocks, sounds.facts)
    arrays, facts = _cache.read(key)
    if not arrays:
        raise DataError(f"{root}: no sound could be read. Check the files.")
    present = {part: arrays[part] for part in groups if part in arrays}
    names = {part: facts["names"][part] for part in present}
    raw = Raw(str(root), present, key, names=names, notes=(*notes, *facts["notes"]), encoded=True, rate=facts["rate"])
    return with_classes(raw, home, asked=CLASS in request.options.conditions)


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
