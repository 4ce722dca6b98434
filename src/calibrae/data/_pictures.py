"""Pictures: folders of image files in any nesting, and columns of encoded images."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import DataError
from . import _cache
from ._source import PART_NAMES, Array, DataOptions, Part, Source

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
BLOCK = 256
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N"})
UNREADABLE_MODES = frozenset({"I", "F"})
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for a quarter turn
NAMED = 5  # broken files named in a message

Opener = tuple[str, Callable[[], Image.Image]]  # a name for messages, and how to open it
Openers = Callable[[], Iterable[Opener]]  # read twice: once for the headers, once for the pixels


def list_pictures(folder: Path) -> list[Path]:
    """All image files below a folder, sorted, hidden ones left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )


def open_folder(folder: Path, options: DataOptions) -> Source:
    """A folder of pictures; top-level folders called `train`, `test`, `val` are taken as given splits."""
    files = list_pictures(folder)
    if not files:
        raise DataError(
            f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))}), IDX, Parquet, CSV or NumPy files. "
            "Check the path."
        )
    groups: dict[Part, list[Path]] = {}
    for file in files:
        relative = file.relative_to(folder)
        part = PART_NAMES.get(relative.parts[0].lower()) if len(relative.parts) > 1 else None
        groups.setdefault(part or "all", []).append(file)
    if "train" not in groups:  # names that tell nothing, or only a test set: one pool, split by seed
        groups = {"all": files}
    elif "all" in groups:
        groups["train"] = groups.pop("all") + groups["train"]
    parts: dict[Part, Openers] = {part: _file_openers(group, folder) for part, group in groups.items()}
    key = _cache.hash_files(
        files, folder, kind="pictures", size=options.size, resize=options.resize, skip=options.skip_broken
    )
    source = decode(str(folder), key, parts, options, keep_names=True)
    return _with_classes(source, folder) if options.condition == CLASS else source


CLASS = "class"  # name of the condition that folders of pictures have


def _with_classes(source: Source, folder: Path) -> Source:
    """The folder of each picture, below that of its split, as its class."""
    labels: dict[Part, Array] = {}
    for part, names in source.names.items():
        folders = [Path(name).parts[:-1] for name in names]
        if part != "all":
            folders = [path[1:] if path and PART_NAMES.get(path[0].lower()) == part else path for path in folders]
        lacking = [name for name, path in zip(names, folders, strict=True) if not path]
        if lacking:
            raise DataError(
                f"{folder}: with the condition `class` every picture must lie in the folder of its class; {lacking[0]} does not."
            )
        labels[part] = np.array([path[0] for path in folders])
    return replace(source, labels={CLASS: labels})


def _file_openers(files: Sequence[Path], folder: Path) -> Openers:
    return lambda: ((str(file.relative_to(folder)), partial(Image.open, file)) for file in files)


def open_bytes(content: bytes) -> Image.Image:
    """An encoded image held in memory."""
    return Image.open(io.BytesIO(content))


def decode(
    name: str, key: str, parts: Mapping[Part, Openers], options: DataOptions, *, keep_names: bool = False
) -> Source:
    """Decode pictures once into the cache, with their names if asked, and map them from there."""
    if not _cache.has(key):
        survey = _survey(itertools.chain.from_iterable(openers() for openers in parts.values()), options)
        broken: list[str] = survey.broken
        _complain(broken, options.skip_broken)
        kept: dict[Part, list[str]] = {part: [] for part in parts}
        blocks = {
            part: _blocks(openers(), survey.size, survey.grey, options, set(broken), broken, kept[part])
            for part, openers in parts.items()
        }
        _cache.write(key, blocks, lambda: {"notes": survey.notes(options), "names": kept if keep_names else {}})
        _complain(broken, options.skip_broken)
    arrays, extra = _cache.read(key)
    if not arrays:
        raise DataError(f"{name}: no picture could be decoded. Check the files.")
    present = {p: arrays[p] for p in parts if p in arrays}
    return Source(name, present, key, levels=256, names=extra.get("names", {}), notes=tuple(extra["notes"]))


class _Survey:
    """Survey of all headers: common size, colour, broken files."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[int, int], int] = {}
        self.grey = True
        self.broken: list[str] = []
        self.size = (0, 0)
        self.deep = 0

    def notes(self, options: DataOptions) -> list[str]:
        notes = []
        if len(self.sizes) > 1 or (self.size not in self.sizes):
            how = "resized and centre-cropped" if options.resize == "crop" else "resized to fit and padded with black"
            notes.append(f"pictures of {len(self.sizes)} sizes were {how} to {self.size[0]} x {self.size[1]}")
        if self.deep:
            notes.append(f"{self.deep} pictures have 16 bits a channel; the upper 8 were kept")
        if self.broken:
            notes.append(
                f"{len(self.broken)} broken {'file was' if len(self.broken) == 1 else 'files were'} skipped: {_names(self.broken)}"
            )
        return notes


def _survey(openers: Iterable[Opener], options: DataOptions) -> _Survey:
    survey = _Survey()
    for name, open_it in openers:
        try:
            with open_it() as picture:
                _require_mode(name, picture)
                size = (picture.height, picture.width)
                if picture.getexif().get(ORIENTATION) in SIDEWAYS:
                    size = size[::-1]
                survey.sizes[size] = survey.sizes.get(size, 0) + 1
                survey.grey &= picture.mode in GREY_MODES
                survey.deep += picture.mode.startswith("I")
        except DataError:
            raise
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
            survey.broken.append(name)
    if not survey.sizes:
        raise DataError(
            f"none of the {len(survey.broken)} pictures can be read: {_names(survey.broken)}. Check the files."
        )
    if options.size is None and len(survey.sizes) > 1:
        common = sorted(survey.sizes.items(), key=lambda item: -item[1])[:3]
        came = ", ".join(f"{h} x {w} ({n})" for (h, w), n in common)
        raise DataError(
            f"all pictures must have one size; got {len(survey.sizes)} sizes: {came}, ... "
            "Pass --size H,W (in Python `size=`), and --resize crop or fit."
        )
    survey.size = options.size or next(iter(survey.sizes))
    return survey


def _blocks(
    openers: Iterable[Opener],
    size: tuple[int, int],
    grey: bool,
    options: DataOptions,
    skip: set[str],
    broken: list[str],
    kept: list[str],
) -> Iterator[Array]:
    rows: list[Array] = []
    for name, open_it in openers:
        if name in skip:
            continue
        try:
            with open_it() as picture:
                rows.append(_to_array(picture, size, grey, options.resize))
        except (OSError, ValueError, SyntaxError):
            broken.append(name)
            continue
        kept.append(name)
        if len(rows) == BLOCK:
            yield np.stack(rows)
            rows = []
    _complain(broken, options.skip_broken)
    if rows:
        yield np.stack(rows)


def _require_mode(name: str, picture: Image.Image) -> None:
    if picture.mode in UNREADABLE_MODES:
        kind = "32-bit integers" if picture.mode == "I" else "floats"
        raise DataError(
            f"pictures must have 8 or 16 bits a channel; got {kind} in {name}, whose range is not known. Convert them, or "
            "pass the numbers as .npy with --data-range."
        )


def _to_array(picture: Image.Image, size: tuple[int, int], grey: bool, resize: str) -> Array:
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
    picture = ImageOps.exif_transpose(picture).convert("L" if grey else "RGB")
    if (picture.height, picture.width) != size:
        target = (size[1], size[0])
        picture = ImageOps.fit(picture, target) if resize == "crop" else ImageOps.pad(picture, target)
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if grey else np.ascontiguousarray(array.transpose(2, 0, 1))


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _complain(broken: Sequence[str], skip: bool) -> None:
    if broken and not skip:
        raise DataError(
            f"{len(broken)} {'file' if len(broken) == 1 else 'files'} cannot be read as pictures: {_names(broken)}. Fix or remove them, or pass --skip-broken "
            "(in Python `skip_broken=True`)."
        )
