"""Items of a Dataset that can be read, by their position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ...errors import DataError, first_line
from .._source import Raw, counted, listed


@dataclass
class Whole:
    """Items by their position; those that raise an error are left out if that was asked for.

    Attributes:
        data: anything with a length and positions.
        name: its name in messages.
        skip: whether to leave out what cannot be read.
        kept: positions of the items that came.
        broken: positions of the others.
    """

    data: Any
    name: str
    skip: bool
    kept: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[Any]:
        cause = ""
        for i in range(len(self.data)):
            try:
                item = self.data[i]
                load_pictures(item)
            except (DataError, MemoryError):
                raise
            except Exception as error:  # whatever a Dataset raises
                cause = cause or first_line(error, 200)
                if not self.skip:
                    raise DataError(
                        f"item {i} of {self.name} cannot be read: {cause}. Mend that item, or leave such items out with skip_broken."
                    ) from error
                self.broken.append(i)
                continue
            self.kept.append(i)
            yield item
        if self.broken and not self.kept:
            raise DataError(f"none of the {len(self.data)} items of {self.name} can be read: {cause}. Check the files.")

    def of(self, raw: Raw) -> Raw:
        """What was read, with the positions of its items as names and a note where some were left out."""
        if not self.broken:
            return raw
        said = f"{counted(len(self.broken), 'item')} that could not be read left out: {listed(list(map(str, self.broken)))}"
        return replace(raw, names={"all": list(map(str, self.kept))}, notes=(*raw.notes, said))


def load_pictures(item: Any) -> None:
    """Decode the pictures of an item, which Pillow would do later, where no item is named. How they are stored is kept for `has_more_bits`."""
    parts = item.values() if isinstance(item, Mapping) else item if isinstance(item, tuple | list) else (item,)
    for part in parts:
        if hasattr(part, "getbands") and hasattr(part, "load"):
            try:
                part.info.setdefault("tiles as stored", list(getattr(part, "tile", ())))
                part.load()
            except Exception:
                part.close()
                raise
