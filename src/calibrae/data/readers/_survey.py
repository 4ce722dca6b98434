"""Survey of pictures: their sizes, colours, depths and damage, from their headers."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import DataError
from .._source import counted, listed

if TYPE_CHECKING:
    from PIL import Image

COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX"})
GREY_MODES = frozenset({"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"})
UNREADABLE_MODES = frozenset({"I", "F"})
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values for a quarter turn
WHITE = 255


@dataclass
class Survey:
    """Survey of all headers: sizes, colour, depth, broken files."""

    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    deep: int = 0
    flat: int = 0
    cut: int = 0
    frames: int = 0
    exif: int = 0
    greys: int = 0
    turned: int = 0
    converted: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, picture: Image.Image) -> None:
        _require_mode(name, picture)
        self.cut += has_more_bits(picture)  # before the EXIF block is read, which may load the pixels
        size = (picture.height, picture.width)
        orientation, readable = orientation_of(picture)
        size = size[::-1] if orientation in SIDEWAYS else size
        self.sizes[size] = self.sizes.get(size, 0) + 1
        self.turned += (orientation or 1) != 1
        self.greys += picture.mode in GREY_MODES
        if picture.mode not in GREY_MODES | COLOUR_MODES:
            self.converted[picture.mode] = self.converted.get(picture.mode, 0) + 1
        is_deep = picture.mode.startswith("I")
        self.deep += is_deep
        self.flat += not is_deep
        self.frames += getattr(picture, "n_frames", 1) > 1
        self.exif += not readable

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "sizes": [[*size, count] for size, count in self.sizes.items()]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Survey:
        return cls(**{**stored, "sizes": {(h, w): count for h, w, count in stored["sizes"]}})

    @property
    def grey(self) -> bool:
        """Tell whether all pictures are grey."""
        return self.greys == sum(self.sizes.values())

    @property
    def keeps_depth(self) -> bool:
        """Tell whether all pictures are grey of 16 bits, which are kept whole."""
        return self.deep > 0 and self.flat == 0

    def notes(self, size: tuple[int, int], grey: bool, resize: str) -> Iterator[str]:
        if len(self.sizes) > 1 or size not in self.sizes:
            how = "resized and centre-cropped" if resize == "crop" else "resized to fit and padded with black"
            yield f"pictures of {counted(len(self.sizes), 'size')} were {how} to {size[0]} x {size[1]}"
        if self.deep and not self.keeps_depth:
            yield f"{counted(self.deep, 'picture')} of 16 bits a channel among others of 8: the upper 8 bits were kept"
        if self.cut:
            yield say_cut(self.cut)
        if self.frames:
            yield f"{counted(self.frames, 'file')} with several frames or pages: the first was taken"
        if self.exif:
            yield f"{counted(self.exif, 'file')} with a damaged EXIF block: read without it"
        if self.turned:
            yield f"{counted(self.turned, 'picture')} turned or mirrored as the EXIF block says"
        yield from self._about_colours(grey)
        if self.broken:
            was = "file was" if len(self.broken) == 1 else "files were"
            yield f"{len(self.broken)} broken {was} skipped: {listed(self.broken)}"

    def _about_colours(self, grey: bool) -> Iterator[str]:
        for mode, count in self.converted.items():
            yield f"{counted(count, 'picture')} in {mode}: converted to {'grey' if grey else 'red, green and blue'}"
        if self.greys and not grey:
            yield f"{counted(self.greys, 'grey picture')}: red, green and blue are equal there"
        if grey and not self.grey:
            yield "colours were turned into grey, as the model was trained on"


def orientation_of(picture: Image.Image) -> tuple[int | None, bool]:
    """The EXIF orientation, and whether the block can be read."""
    try:
        found = picture.getexif().get(ORIENTATION)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, AttributeError):
        return None, False
    return (found if isinstance(found, int) else None), True


def has_more_bits(picture: Image.Image) -> bool:
    """Tell whether Pillow cuts the channels of this picture from more than 8 bits to 8.

    Until the pixels are loaded Pillow keeps how each tile is stored: a raw mode such as `RGB;16B`, or, for PPM, the largest value.
    """
    if picture.mode.startswith(("I", "F")):
        return False
    stored = [tile[3] for tile in picture.info.get("tiles as stored", getattr(picture, "tile", ()))]
    each = itertools.chain.from_iterable(how if isinstance(how, tuple) else (how,) for how in stored)
    is_ppm = picture.format == "PPM"
    return any(
        ";16" in how if isinstance(how, str) else is_ppm and isinstance(how, int) and how > WHITE for how in each
    )


def say_cut(count: int) -> str:
    """A note on pictures that Pillow cuts to 8 bits."""
    return f"{counted(count, 'picture')} of more than 8 bits a channel, of which colours keep the upper 8"


def _require_mode(name: str, picture: Image.Image) -> None:
    if picture.mode in UNREADABLE_MODES:
        kind = "32-bit integers" if picture.mode == "I" else "floats"
        raise DataError(
            f"pictures must have 8 or 16 bits a channel; got {kind} in {name}, whose range is not known. Convert them, or "
            "pass the numbers as .npy with --data-range."
        )
