"""Pictures in fewer bytes."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from ..._optional import Later

if TYPE_CHECKING:
    from PIL import Image
else:
    Image = Later("PIL.Image")

FEW_COLOURS = 1 << 12  # of a drawing; photographs have more
PALETTE = 128


def packed(png: bytes, widest: int | None = None) -> bytes:
    """A PNG in fewer bytes: a drawing with a palette, a photograph as it is; shrunk to a width if asked.

    Args:
        png: the picture.
        widest: pixels.
    """
    with Image.open(BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    if widest is not None and picture.width > widest:
        picture = picture.resize(
            (widest, max(1, round(picture.height * widest / picture.width))), Image.Resampling.LANCZOS
        )
    if picture.getcolors(FEW_COLOURS) is not None or _is_drawing(picture):
        picture = picture.quantize(PALETTE, dither=Image.Dither.NONE)
    stream = BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return min((png, stream.getvalue()), key=len) if widest is None else stream.getvalue()


def _is_drawing(picture: Image.Image) -> bool:
    """Tell whether most of a picture is plain paper."""
    paper = picture.getpixel((0, 0))
    counts = picture.resize((64, 64), Image.Resampling.NEAREST).getcolors(64 * 64) or []
    return sum(count for count, colour in counts if colour == paper) > 64 * 64 // 2
