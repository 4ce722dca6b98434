"""Pictures of a stream, decoded one by one when they are used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import final

import numpy as np

from ...errors import DataError
from .._source import Array, Request
from ..readers._pictures import open_bytes, picture_array, target_of
from ..readers._survey import Survey

SURVEYED = 64  # pictures from which size and colour are taken
Fetch = Callable[[int], tuple[str, bytes]]  # name and encoded content of a row


@final
@dataclass(frozen=True)
class Form:
    """Size and colour that all pictures are brought to.

    Attributes:
        size: `(height, width)`.
        grey: one channel, or three.
        resize: `crop` or `fit`.
        is_exact: whether a picture of another size is refused.
        skip_broken: whether the place of a picture that cannot be decoded is taken by its neighbour.
        told: warnings that were given; each is given once.
    """

    size: tuple[int, int]
    grey: bool
    resize: str
    is_exact: bool
    skip_broken: bool
    told: set[str] = field(default_factory=set, compare=False, repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an example."""
        return (1 if self.grey else 3, *self.size)

    def take(self, count: int, fetch: Fetch, rows: Array) -> Array:
        """Some pictures of a block, `[len(rows), C, H, W]`.

        Args:
            count: number of pictures in the block.
            fetch: name and content of each.
            rows: numbers of those that are wanted.

        Raises:
            DataError: for one that is broken, or of another kind than the first ones were.
        """
        out = np.empty((len(rows), *self.shape), dtype=np.uint8)
        for i, row in enumerate(map(int, rows)):
            out[i] = self._array(*fetch(row)) if not self.skip_broken else self._next_whole(count, fetch, row)
        return out

    def _next_whole(self, count: int, fetch: Fetch, row: int) -> Array:
        """The picture of a row, or of the next row that can be decoded."""
        for step in range(count):
            name, content = fetch((row + step) % count)
            try:
                found = self._array(name, content)
            except BrokenPictureError:
                continue
            if step:
                self._tell(f"{fetch(row)[0]} cannot be read as a picture: {name} was taken in its place.")
            return found
        raise DataError(f"no picture around {fetch(row)[0]} can be read. Check the file.")

    def _tell(self, warning: str) -> None:
        if warning not in self.told:
            self.told.add(warning)
            warnings.warn(warning, stacklevel=2)

    def _array(self, name: str, content: bytes) -> Array:
        """`[C, H, W]` of one picture."""
        seen = Survey()
        try:
            with open_bytes(content) as picture:
                seen.add(name, picture)
                self._require_alike(name, seen)
                found, _ = picture_array(picture, self.size, grey=self.grey, resize=self.resize)
                return found
        except DataError:
            raise
        except Exception as error:  # decoders raise many kinds for damaged files
            raise BrokenPictureError(
                f"{name} cannot be read as a picture. Remove it from its file, or pass --skip-broken, which takes its neighbour in its place."
            ) from error

    def _require_alike(self, name: str, seen: Survey) -> None:
        """Raise `DataError` for a picture of another kind than the first ones."""
        size, grey = next(iter(seen.sizes)), seen.grey
        if (self.is_exact and size != self.size) or (self.grey and not grey) or seen.deep:
            raise DataError(
                f"the pictures of a stream must be of the kind of its first ones, {'grey' if self.grey else 'colour'} of 8 bits, "
                f"{self.size[0]} x {self.size[1]}; got {'grey' if grey else 'colour'}, {size[0]} x {size[1]}: {name}. "
                f"{'Pass --size H,W, or convert it' if grey == self.grey else 'Convert it'}."
            )


class BrokenPictureError(DataError):
    """A picture that cannot be decoded."""


def form_of(name: str, pictures: Iterable[tuple[str, bytes]], request: Request) -> tuple[Form, list[str]]:
    """Form of the pictures of a stream, from a few of them or a trained model's; and notes.

    Raises:
        DataError: if they are of several sizes and none is asked for, or of 16 bits.
    """
    survey, options, clear = Survey(), request.options, 0
    for title, content in pictures:
        try:
            with open_bytes(content) as picture:
                survey.add(title, picture)
                clear += picture_array(picture, None, grey=False)[1]
        except DataError:
            raise
        except Exception:  # decoders raise many kinds for damaged files
            survey.broken.append(title)
    if survey.deep:
        raise DataError(
            f"{name}: pictures of 16 bits cannot be streamed. Leave out --stream, or convert them to 8 bits."
        )
    size, grey = target_of(name, survey, request)
    notes = list(survey.notes(size, grey, options.resize))
    if clear:
        notes.append(f"pictures with transparency ({clear} of the first {SURVEYED}): shown on white")
    form = Form(size, grey, options.resize, options.size is None and request.trained is None, options.skip_broken)
    return form, notes
