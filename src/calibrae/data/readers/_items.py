"""Datasets, lists and other iterables, one example an item."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from ...errors import DataError, first_line
from .. import _cache
from .._registry import reads
from .._source import Array, Part, Raw, Request, listed
from ._arrays import plain_array
from ._frames import is_frame
from ._whole import Whole, load_pictures

ROWS = 4096
PARTS = 3  # arrays that may be parts, or data and labels
KEYS = ("image", "img", "x", "data", "pixel_values", "features")  # of a dict, the first of which is the example


def is_indexed(data: Any) -> bool:
    """Tell whether items are read by their position."""
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, IterableDataset)


def _is_iterable(data: Any) -> bool:
    return is_indexed(data) or isinstance(data, Iterable)


@reads("a Dataset, or a list or iterable of examples", _is_iterable, rank=90)
def read_items(data: Any, request: Request) -> Raw:
    """A Dataset by its items: tensors, arrays, pictures, rows of numbers, or tuples and dicts that begin with one.

    They are written to the cache as they come, so they may be more than memory holds.
    """
    name = type(data).__name__
    if request.trained is not None and isinstance(data, list | tuple) and data and all(map(np.isscalar, data)):
        data = [np.asarray(data)]  # one row
    if not is_indexed(data):
        return from_items(name, data, request)
    data = _unformatted(data)
    _require_examples(data, request)
    whole = Whole(data, name, request.options.skip_broken)
    raw = whole.of(from_items(name, whole, request, len(data)))
    return replace(raw, notes=(*raw.notes, *_changing(data, whole.kept[0])))


def _unformatted(data: Any) -> Any:
    """A `datasets` object with its values as stored, whatever they are shown as; a transform of one's own is kept."""
    shown = getattr(data, "format", None)
    if not isinstance(shown, Mapping) or not hasattr(data, "with_format"):
        return data
    if shown.get("type") in (None, "custom"):
        return data
    return data.with_format(
        None, columns=shown.get("columns"), output_all_columns=shown.get("output_all_columns", False)
    )


def _require_examples(data: Any, request: Request) -> None:
    """Raise `DataError` for parts, or data and labels, that came as a short tuple or list."""
    if request.trained is not None or not isinstance(data, tuple | list) or not 1 < len(data) <= PARTS:
        return
    first = data[0][0] if isinstance(data[0], tuple) and data[0] else data[0]
    is_array = isinstance(first, np.ndarray | torch.Tensor)
    if (is_array and first.ndim > 1) or is_frame(first):
        kind = type(data).__name__
        raise DataError(
            f"a {kind} of {len(data)} arrays says not which is which. For parts, pass {{'train': a, 'test': b}}; of data and labels, "
            "the data alone."
        )


def _is_picture(data: Any) -> bool:
    return hasattr(data, "getbands") and hasattr(data, "convert")


@reads("a picture of Pillow, for a trained model", _is_picture, rank=85)
def read_picture(data: Any, request: Request) -> Raw:
    """One picture, brought to the size and colour that a model was trained on."""
    if request.trained is None:
        raise DataError("this is one picture; a model needs many. Pass a list of them, or the folder that holds them.")
    return from_items("picture", [data], request)


def _changing(data: Any, at: int) -> Iterator[str]:
    """A note if an item changes from read to read, as with random transforms."""
    try:
        first, again = (plain_array(_numbers_of(example(data[at])[0]))[0] for _ in range(2))
    except Exception:  # whatever a Dataset raises; the first reading of the item is kept
        return
    if first.shape != again.shape or not np.array_equal(first, again, equal_nan=first.dtype.kind == "f"):
        yield "the items change from read to read (random transforms?): the first reading was kept, so training sees one version of each"


def from_items(name: str, items: Iterable[Any], request: Request, total: int | None = None) -> Raw:
    """Data from any finite iterable of examples, of which there are `total`, if that is known.

    Raises:
        DataError: for no examples, or examples that differ in shape.
    """
    iterator = iter(items)
    first = next(_guarded(name, iterator), None)
    if first is None:
        raise DataError(f"{name} yields no examples.")
    conditions = request.options.conditions
    labels: dict[str, list[Any]] = {condition: [] for condition in conditions}
    every: Iterator[Any] = itertools.chain([first], iterator)
    if conditions:
        every = _collecting(name, every, labels)
    reading = _Items(name, request)
    key = _cache.write(None, {"all": reading.blocks(every)}, dict, total)
    arrays = _cache.read(key)[0]
    return Raw(
        name, {"all": arrays["all"]}, key, reading.columns, labels=_labels(name, labels), notes=reading.notes(),
        resolution=reading.resolution, encoded=reading.pictures > 0,
    )  # fmt: skip


def _labels(name: str, labels: Mapping[str, list[Any]]) -> dict[str, dict[Part, Array]]:
    found: dict[str, dict[Part, Array]] = {}
    for condition, values in labels.items():
        try:
            found[condition] = {"all": np.array(values)}
        except ValueError as error:
            raise DataError(
                f"{name}: the condition {condition!r} must have one shape for all items: {first_line(error, 120)}."
            ) from error
    return found


class _Items:
    """The examples of one iterable, with what was seen of them."""

    def __init__(self, name: str, request: Request) -> None:
        self.name = name
        self.request = request
        self.kind = ""
        self.columns: tuple[str, ...] = ()
        self.resolution: float | None = None
        self.pictures = 0
        self.clear = 0
        self.cut = 0
        self.said: list[str] = []
        self.grey: bool | None = None

    def notes(self) -> tuple[str, ...]:
        from ._survey import say_cut

        if self.cut:
            self.said.append(say_cut(self.cut))
        if self.clear:
            self.said.append(f"{self.clear:,} pictures with transparency: shown on white")
        return tuple(dict.fromkeys(self.said))

    def blocks(self, items: Iterable[Any]) -> Iterator[Array]:
        rows: list[Array] = []
        shape = None
        for i, item in enumerate(_guarded(self.name, items)):
            row = self._row(item, i)
            shape = row.shape if shape is None else shape
            self._require_kind(row, i)
            if row.shape != shape:
                raise DataError(
                    f"{self.name}: all examples must have one shape; example 0 has {shape}, example {i} {row.shape}. Resize them."
                )
            rows.append(row)
            if len(rows) == ROWS:
                yield np.stack(rows)
                rows = []
        if rows:
            yield np.stack(rows)

    def _require_kind(self, row: Array, i: int) -> None:
        """Pictures and signals of bytes among others of floats are on two scales."""
        kind = str(row.dtype) if self.pictures else row.dtype.kind
        self.kind = self.kind or kind
        if kind != self.kind and row.ndim > 1:
            raise DataError(
                f"{self.name}: all examples must hold numbers of one kind; example {i} is {row.dtype}, those before it are not. Bring them "
                "to one scale."
            )

    def _row(self, item: Any, i: int) -> Array:
        if i and self.columns:
            item = self._in_order(item, i)
        found, columns = example(item)
        if i == 0:
            self.columns = columns
            self.said.extend(_left_out(item, self.request.options.conditions))
        if hasattr(found, "getbands"):
            return self._picture(found)
        array, resolution, notes = plain_array(_numbers_of(found))
        self.said.extend(notes if i == 0 else ())
        self.resolution = self.resolution or resolution
        if array.ndim == 0:
            raise DataError(
                f"{self.name}: every item must be one example, an array of numbers; item {i} is {array.item()!r}. For one column, pass "
                "an array [N, 1]."
            )
        return array

    def _in_order(self, item: Any, i: int) -> Any:
        """A row as a dict, in the order of the first one's keys."""
        conditions = self.request.options.conditions
        if not isinstance(item, Mapping) or {k for k in map(str, item) if k not in conditions} != set(self.columns):
            raise DataError(
                f"{self.name}: every item must have the entries of the first, {listed(self.columns)}; item {i} has others."
            )
        return {name: value for name in self.columns for key, value in item.items() if str(key) == name}

    def _picture(self, picture: Any) -> Array:
        from ._pictures import picture_array
        from ._survey import GREY_MODES, has_more_bits

        self.pictures += 1
        self.cut += has_more_bits(picture)
        options, trained = self.request.options, self.request.trained
        size = options.size
        if trained is not None and trained.layout == "pictures":
            size, self.grey = size or (trained.shape[1], trained.shape[2]), trained.shape[0] == 1
        if self.grey is None:
            self.grey = picture.mode in GREY_MODES
        if self.grey and trained is None and picture.mode not in GREY_MODES:
            raise DataError(
                f"{self.name}: the first picture is grey, and picture {self.pictures - 1} has colours. Convert them to one mode."
            )
        deep = picture.mode.startswith("I;16")
        if picture.mode in ("I", "F"):
            return np.asarray(picture)[None]
        if size is not None and (picture.height, picture.width) != size:
            self.said.append(f"pictures of other sizes were brought to {size[0]} x {size[1]}")
        array, is_clear = picture_array(picture, size, grey=bool(self.grey), deep=deep, resize=options.resize)
        self.clear += is_clear
        return array


def _guarded(name: str, items: Iterable[Any]) -> Iterator[Any]:
    """The items; an error that one of them raises names it."""
    iterator, i = iter(items), 0
    while True:
        try:
            item = next(iterator)
            load_pictures(item)
        except StopIteration:
            return
        except (DataError, MemoryError):
            raise
        except Exception as error:  # whatever a Dataset raises
            raise DataError(
                f"item {i} of {name} cannot be read: {first_line(error, 200)}. Mend or leave out that item."
            ) from error
        yield item
        i += 1


def _left_out(item: Any, conditions: Sequence[str]) -> Iterator[str]:
    """Notes on what a dict or tuple holds beside its example."""
    used = next((k for k in KEYS if k in item and not _is_number(item[k])), None) if isinstance(item, Mapping) else None
    if used is not None:
        rest = [str(key) for key in item if key not in (used, *conditions)]
        if rest:
            yield f"the entry {used!r} of each item was read; left out: {listed(rest)}"
    elif isinstance(item, tuple) and len(item) > 1 and not np.isscalar(item[0]) and not conditions:
        yield "the first of each item's parts was read; what follows it was left out"


def _numbers_of(item: Any) -> Any:
    """A list of numbers as an array; anything else as it is."""
    if isinstance(item, list | tuple):
        if item and all(isinstance(part, torch.Tensor) for part in item):
            if len({part.dtype for part in item}) == 1:
                return torch.stack(list(item))
            item = [part.numpy() for part in item]  # each with its own digits
        try:
            return np.asarray(item)
        except ValueError as error:
            raise DataError(f"every item must be one example, an array of numbers; got a list: {error}.") from error
    if not isinstance(item, np.ndarray | torch.Tensor) and hasattr(item, "X"):
        raise DataError("the items are annotated data. Pass the whole, which is read by its matrix X.")
    return item


def example(item: Any) -> tuple[Any, tuple[str, ...]]:
    """The example inside what a Dataset yields, and the names of its columns: itself, the first of a tuple, or a dict's.

    Examples:
        >>> example({"age": 31, "height": 1.7})
        ([31, 1.7], ('age', 'height'))
        >>> example(([1.0, 2.0], "label"))
        ([1.0, 2.0], ())
    """
    if isinstance(item, Mapping):
        keys = [key for key in KEYS if key in item and not _is_number(item[key])]  # a number is a column
        if keys:
            return item[keys[0]], ()
        if item and all(_is_number(value) for value in item.values()):
            return list(item.values()), tuple(map(str, item))
        raise DataError(
            f"a Dataset of dicts must have a key image, img, x or data, or numbers alone; got {listed(list(map(str, item)))}. "
            "Rows with words are read from a list of dicts, a data frame or a file."
        )
    if isinstance(item, tuple | list) and len(item) and not np.isscalar(item[0]) and not _is_nested(item):
        return item[0], ()
    return item, ()


def _is_number(value: Any) -> bool:
    """Tell whether this is one number, perhaps in an array or tensor."""
    if isinstance(value, str | bytes):
        return False
    return bool(np.isscalar(value)) or (hasattr(value, "item") and getattr(value, "ndim", None) == 0)


def _is_nested(item: Any) -> bool:
    """Tell whether a list is one array of numbers, written out, or a row of single tensors."""
    if isinstance(item, tuple):
        return False
    if all(isinstance(part, torch.Tensor) and part.ndim == 0 for part in item):
        return True
    if not all(isinstance(part, list | tuple) for part in item):
        return False
    try:
        return np.asarray(item).dtype.kind in "biuf"
    except ValueError:
        return False


def _collecting(name: str, items: Iterable[Any], labels: Mapping[str, list[Any]]) -> Iterator[Any]:
    """Pass the items on; keep the conditions of each: a dict's entries, or what follows the example in a tuple."""
    for item in items:
        if isinstance(item, Mapping) and all(condition in item for condition in labels):
            found = [item[condition] for condition in labels]
            item = {key: value for key, value in item.items() if key not in labels}
        elif isinstance(item, tuple | list) and len(item) > len(labels):
            found = list(item[1 : 1 + len(labels)])
        else:
            raise DataError(
                f"{name} has no condition {listed([repr(label) for label in labels])}: its items must be (example, condition) or dicts with that key."
            )
        for values, label in zip(labels.values(), found, strict=True):
            values.append(label.detach().cpu().numpy() if hasattr(label, "detach") else label)
        yield item
