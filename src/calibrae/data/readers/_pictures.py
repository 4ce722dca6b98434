"""Pictures: folders of image files in any nesting, and columns of encoded images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..._optional import Later
from ...errors import DataError
from .. import _cache
from .._registry import reads_files
from .._source import PART_NAMES, Array, Part, Raw, Request, counted, listed, part_of
from ._labels import CLASS, with_classes
from ._paths import PICTURES_RANK, shown
from ._survey import WHITE, Survey, orientation_of

if TYPE_CHECKING:
    from PIL import Image, ImageOps
else:
    Image, ImageOps = map(Later, ("PIL.Image", "PIL.ImageOps"))

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".pbm")  # read where Pillow can
MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # what image files begin with
BLOCK = 256
Opener: TypeAlias = "tuple[str, Callable[[], Image.Image]]"  # a name for messages, and how to open it
Openers = Callable[[], Iterable[Opener]]  # read twice: once for the headers, once for the pixels


def _is_picture(file: Path) -> bool:
    suffix = file.suffix.lower()
    if suffix in OTHER_SUFFIXES:
        return _can_be_opened(file)
    if suffix:
        return suffix in SUFFIXES
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    return head.startswith(MAGIC) or (head[:4] == b"RIFF" and head[8:] == b"WEBP")


def _can_be_opened(file: Path) -> bool:
    opened = Image.open  # raises without Pillow, which is no fault of the file
    try:
        opened(file).close()
    except Exception:  # decoders raise many kinds for damaged files
        return False
    return True


@reads_files("pictures", SUFFIXES, rank=PICTURES_RANK, accepts=_is_picture, is_nested=True)
def read_pictures(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """Pictures of a folder; folders called `train`, `test`, `val` are taken as given splits. Of a trained model's data, one alone too."""
    if root.is_file():
        if request.trained is None:
            raise DataError(f"{root} is one picture; a model needs many. Pass the folder that holds them.")
        root = root.parent
    groups, split_notes, home = split_by_folder(files, root)
    parts: dict[Part, Openers] = {part: _file_openers(group, root) for part, group in groups.items()}
    key = _cache.hash_files(files, root, kind="pictures", parts={p: len(g) for p, g in groups.items()})
    raw = decode(str(root), key, parts, request, keep_names=True)
    raw = replace(raw, notes=(*split_notes, *raw.notes))
    return with_classes(raw, home, asked=CLASS in request.options.conditions)


def split_by_folder(files: Sequence[Path], root: Path) -> tuple[dict[Part, list[Path]], list[str], tuple[str, ...]]:
    """Files by part, as their folders tell, notes, and the folders that all of them share.

    The folders that tell parts are those of the first level on which there are several.
    """
    below = [file.relative_to(root).parts[:-1] for file in files]
    shared = tuple(_shared(below))
    first = [path[len(shared)] if len(path) > len(shared) else "" for path in below]
    told = {name: PART_NAMES.get(name.lower()) for name in set(first)}
    if not any(told.values()):  # names such as train_images, if all folders but strangers have such names
        told = {name: part_of(name) for name in told}
        told = told if {"train", "test"} <= set(told.values()) else {}
    groups: dict[Part, list[Path]] = {}
    for file, name in zip(files, first, strict=True):
        groups.setdefault(told.get(name) or "all", []).append(file)
    if "train" in groups and len(groups) > 1:
        notes = [f"splits as given by the folders {', '.join(sorted(name for name, part in told.items() if part))}"]
        if "all" in groups:
            strangers = sorted({name or "." for name in first if not told.get(name)})
            notes.append(
                f"{counted(len(groups['all']), 'file')} of other folders ({listed(strangers)}) were added to the training set"
            )
            groups["train"] = groups.pop("all") + groups["train"]
        return groups, notes, shared
    if set(groups) == {"train"}:
        return groups, ["all files lie in a folder called train: the rest is split off it"], shared
    elsewhere = sorted({name for path in below for name in path if PART_NAMES.get(name.lower())})
    notes = [f"folders called {listed(elsewhere)} were not taken as splits: put them side by side"] if elsewhere else []
    return {"all": list(files)}, notes, shared


def _shared(paths: Sequence[Sequence[str]]) -> Iterator[str]:
    """Folders that all paths begin with."""
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1 or PART_NAMES.get(names[0].lower()):
            return
        yield names[0]


def _file_openers(files: Sequence[Path], folder: Path) -> Openers:
    return lambda: ((shown(file.relative_to(folder)), partial(Image.open, file)) for file in files)


def open_bytes(content: bytes) -> Image.Image:
    """An encoded image held in memory."""
    return Image.open(BytesIO(content))


def decode(
    name: str, content: str, parts: Mapping[Part, Openers], request: Request, *, keep_names: bool = False
) -> Raw:
    """Decode pictures once into the cache, with their names if asked, and map them from there.

    Args:
        name: name of the data, for messages.
        content: key of the encoded pictures.
        parts: how to open them.
        request: options, and the size and colour of the data that a model was trained on.
        keep_names: whether each picture has a name.
    """
    options, skip = request.options, request.options.skip_broken
    survey = _surveyed(content, parts)
    _complain(survey.broken, skip)
    size, grey = target_of(name, survey, request)
    key = _cache.key_of("pictures", content, size, grey, options.resize, skip, keep_names)
    if not _cache.has(key):
        broken, clear = list(survey.broken), [0]
        kept: dict[Part, list[str]] = {part: [] for part in parts}
        decoder = _Decoder(size, grey, survey.keeps_depth, options.resize, skip, broken, clear)
        blocks = {part: decoder.blocks(openers(), kept[part]) for part, openers in parts.items()}

        def extra() -> dict[str, Any]:
            survey.broken = broken
            notes = list(survey.notes(size, grey, options.resize))
            if clear[0]:
                notes.append(f"{counted(clear[0], 'picture')} with transparency: shown on white")
            return {"notes": notes, "names": kept if keep_names else {}}

        _cache.write(key, blocks, extra, sum(survey.sizes.values()))
    arrays, facts = _cache.read(key)
    if not arrays:
        raise DataError(f"{name}: no picture could be decoded. Check the files.")
    present = {p: arrays[p] for p in parts if p in arrays}
    return Raw(name, present, key, names=facts.get("names", {}), notes=tuple(facts["notes"]), encoded=True)


def _surveyed(content: str, parts: Mapping[Part, Openers]) -> Survey:
    """The survey of some pictures, kept under the key of their content."""
    key = _cache.key_of("picture headers", content, *parts)
    if _cache.has(key):
        return Survey.from_dict(_cache.read(key)[1])
    survey = Survey()
    for name, open_it in itertools.chain.from_iterable(openers() for openers in parts.values()):
        try:
            with open_it() as picture:
                survey.add(name, picture)
        except DataError:
            raise
        except Exception:  # decoders raise many kinds for damaged files
            survey.broken.append(name)
    _cache.write(key, {}, survey.to_dict)
    return survey


def target_of(name: str, survey: Survey, request: Request) -> tuple[tuple[int, int], bool]:
    """Size and colour that all pictures are brought to."""
    if not survey.sizes:
        raise DataError(
            f"{name}: none of the {len(survey.broken)} pictures can be read: {listed(survey.broken)}. Check the files."
        )
    trained = request.trained
    if trained is not None and trained.layout == "pictures":
        return request.options.size or (trained.shape[1], trained.shape[2]), trained.shape[0] == 1
    if request.options.size is None and len(survey.sizes) > 1:
        common = sorted(survey.sizes.items(), key=lambda item: -item[1])[:3]
        came = ", ".join(f"{h} x {w} ({n})" for (h, w), n in common)
        raise DataError(
            f"all pictures must have one size; got {len(survey.sizes)} sizes: {came}, ... "
            "Pass --size H,W (in Python `size=`), and --resize crop or fit."
        )
    return request.options.size or next(iter(survey.sizes)), survey.grey


@dataclass
class _Decoder:
    """Decoder of pictures to one size and colour; counts what is broken and what is transparent."""

    size: tuple[int, int]
    grey: bool
    deep: bool
    resize: str
    skip: bool
    broken: list[str]
    clear: list[int]

    def blocks(self, openers: Iterable[Opener], kept: list[str]) -> Iterator[Array]:
        rows: list[Array] = []
        known = set(self.broken)
        for name, open_it in openers:
            if name in known:
                continue
            try:
                with open_it() as picture:
                    rows.append(self.array(picture))
            except Exception:  # decoders raise many kinds for damaged files
                self.broken.append(name)
                continue
            kept.append(name)
            if len(rows) == BLOCK:
                yield np.stack(rows)
                rows = []
        _complain(self.broken, self.skip)
        if rows:
            yield np.stack(rows)

    def array(self, picture: Image.Image) -> Array:
        """`[C, H, W]` of one picture."""
        array, is_clear = picture_array(picture, self.size, grey=self.grey, deep=self.deep, resize=self.resize)
        self.clear[0] += is_clear
        return array


def picture_array(
    picture: Image.Image, size: tuple[int, int] | None, *, grey: bool, deep: bool = False, resize: str = "crop"
) -> tuple[Array, bool]:
    """A picture as `[C, H, W]`, turned as its EXIF block says, on white where it is transparent; and whether it is.

    Args:
        picture: opened picture.
        size: `(height, width)` to bring it to; `None` for its own.
        grey: one channel, or three.
        deep: keep 16 bits.
        resize: `crop` or `fit`.
    """
    is_deep = picture.mode.startswith("I")
    if orientation_of(picture)[0] is not None:
        picture = ImageOps.exif_transpose(picture)
    if is_deep and not deep:
        picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
    is_clear = False
    if not (is_deep and deep):
        picture, is_clear = _on_white(picture)
        picture = picture.convert("L" if grey else "RGB")
    if size is not None and (picture.height, picture.width) != size:
        target = (size[1], size[0])
        if is_deep and deep:  # Pillow resizes 16 bits only as 32
            picture = Image.fromarray(np.asarray(picture).astype(np.int32))
        picture = ImageOps.fit(picture, target) if resize == "crop" else ImageOps.pad(picture, target)
    kind = np.uint16 if is_deep and deep else np.uint8
    array = np.asarray(picture).astype(kind) if kind is np.uint16 else np.asarray(picture, dtype=np.uint8)
    return (array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))), is_clear


def _on_white(picture: Image.Image) -> tuple[Image.Image, bool]:
    """A picture on a white ground, and whether any of it is transparent."""
    if picture.mode not in ("LA", "La", "PA", "RGBA", "RGBa") and "transparency" not in picture.info:
        return picture, False
    layered = picture.convert("RGBA")
    if layered.getchannel("A").getextrema()[0] == WHITE:
        return picture, False
    ground = Image.new("RGBA", layered.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(ground, layered), True


def _complain(broken: Sequence[str], skip: bool) -> None:
    if broken and not skip:
        raise DataError(
            f"{counted(len(broken), 'file')} cannot be read as pictures: {listed(broken)}. Fix or remove them, or pass --skip-broken "
            "(in Python `skip_broken=True`)."
        )
