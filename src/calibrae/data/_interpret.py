"""Meaning of numbers: settled once, on the data that a model is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import DataError
from . import _cache
from ._columns import read_columns, say_columns
from ._lattice import FINEST, MOST_VALUES, Lattice, canonical_lattice, distinct, find_lattice, resolution_of
from ._layout import laid_out
from ._scan import chunks, value_range
from ._schema import LAYOUTS, Column, ColumnKind, Schema, channel_names
from ._source import Array, DataOptions, Part, Raw, Source
from .tables import fingerprint_of, is_mixed, mixed_table

FEW_LEVELS = 32  # integer data with a maximum below this have max + 1 levels
FEWEST_BYTES = 16  # distinct values from which a matrix of floats k/255 is taken for pictures


def interpret(raw: Raw, options: DataOptions) -> Source:
    """Settle what the numbers are, and say each assumption in a note.

    Tables are read column by column: whole numbers, few values at equal distances, or continuous. Other arrays are read as a whole, or
    channel by channel: integers count levels; floats that are few values at equal distances are integers on another scale.

    Raises:
        DataError: for data that cannot be modelled.
    """
    raw = laid_out(raw)
    notes = list(raw.notes)
    if options.size is not None and not raw.encoded:
        notes.append(f"--size is for files of pictures and was not applied: {raw.name} holds numbers")
    fingerprint = raw.fingerprint or "-".join(_cache.hash_array(array)[:16] for array in raw.parts.values())
    reading = _Reading(raw, options, notes, fingerprint)
    if is_mixed(raw, options):
        parts, schema = mixed_table(raw, options, notes)
        fingerprint = fingerprint_of(parts)  # of the codes, from which new rows are known again
    else:
        parts, schema = reading.table() if reading.is_table else reading.array()
    return Source(
        raw.name, parts, fingerprint, schema, raw.names, raw.labels, notes=tuple(dict.fromkeys(notes)), place=raw.place
    )


@dataclass
class _Reading:
    """The numbers of one source, and what was said of them so far."""

    raw: Raw
    options: DataOptions
    notes: list[str]
    fingerprint: str

    def __post_init__(self) -> None:
        self.parts = dict(self.raw.parts)
        self.first = next(iter(self.parts.values()))
        self.shape = tuple(int(side) for side in self.first.shape[1:])
        self.dtype = np.result_type(*(array.dtype for array in self.parts.values()))
        kinds = {array.dtype.kind.replace("i", "u") for array in self.parts.values()}
        if len(self.shape) > 1 and (
            len(kinds) > 1 or (self.raw.encoded and len({a.dtype for a in self.parts.values()}) > 1)
        ):
            came = ", ".join(f"{part} {array.dtype}" for part, array in self.parts.items())
            raise DataError(
                f"{self.raw.name}: all parts must hold numbers of one kind; got {came}. Bring them to one scale."
            )
        self.resolution = max(resolution_of(array, self.raw.resolution) for array in self.parts.values())

    @property
    def is_table(self) -> bool:
        """Tell whether columns are read one by one: rows, unless they are bytes or flattened 8-bit pictures."""
        if len(self.shape) != 1:
            return False
        if self.raw.columns or self.options.standardise:
            return True
        if self.dtype == np.uint8 and self._is_bytes():
            return False
        return not (self.dtype.kind == "f" and self._is_flattened())

    def _is_bytes(self) -> bool:
        few = max(value_range(array)[1] for array in self.parts.values()) < 2
        if not few:
            self.notes.append("rows of bytes: read as 8-bit data on one scale (a DataFrame is read column by column)")
        return not few

    def _is_flattened(self) -> bool:
        values = self._distinct()
        if values is None or len(values) < FEWEST_BYTES or values[0] < 0 or values[-1] > 1:
            return False
        lattice = canonical_lattice(values, self.resolution)
        return lattice is not None and lattice.levels == 256

    # -- tables

    def table(self) -> tuple[dict[Part, Array], Schema]:
        """A table, column by column; its numbers stay as they came."""
        names = self.raw.columns or channel_names("table", self.shape[0])
        fields = read_columns(list(self.parts.values()), names, self.raw.units, self.resolution)
        self.notes.extend(say_columns(list(self.parts.values()), fields, conditioned=bool(self.options.conditions)))
        levels = self._table_levels(fields)
        return self.parts, Schema("table", self.shape, fields, levels, is_named=bool(self.raw.columns))

    def _table_levels(self, fields: Sequence[Column]) -> int | None:
        """Number of levels of a table of whole numbers from 0, for likelihoods of counts and bits."""
        if not all(f.kind == "whole" and f.levels is not None and f.low >= 0 for f in fields):
            if self.options.levels is not None:
                raise DataError(
                    f"{self.raw.name}: `levels` is for integer data; got other columns. Convert them to integers, or drop --levels."
                )
            return None
        return self._counted_levels(max(f.low + (f.levels or 1) - 1 for f in fields), said=False)

    # -- pictures, signals, volumes

    def array(self) -> tuple[dict[Part, Array], Schema]:
        """An array, as levels `0, 1, ...` where its values are few, else as it came."""
        if self.dtype.kind != "f":
            return self._integers()
        if self.options.levels is not None:
            raise DataError(
                f"{self.raw.name}: `levels` is for integer data; got floats. Convert them to integers, or drop --levels."
            )
        lattices = self._lattices()
        if lattices is None:
            return self.parts, self._schema([None], None)
        if self.options.data_range is not None or self.options.standardise:
            asked = "--standardise" if self.options.standardise else "--data-range"
            self.notes.append(
                f"the values are only {lattices[0].levels} at equal distances, whose density has no bound: sigma's floor follows from "
                f"the distance (without {asked} they are dequantised)"
            )
            return self.parts, self._schema(lattices, None)
        levels = max(lattice.levels for lattice in lattices)
        self.notes.append(_words(lattices))
        return self._as_levels(lattices, levels), self._schema(lattices, levels)

    def _schema(self, lattices: Sequence[Lattice | None], levels: int | None) -> Schema:
        layout = LAYOUTS[len(self.shape)]
        names, dtype = channel_names(layout, self.shape[0]), str(self.first.dtype)
        each = list(lattices) * len(names) if len(lattices) == 1 else list(lattices)
        fields = tuple(
            Column(name, dtype=dtype)
            if lattice is None
            else Column(name, _kind_of(lattice), lattice.low, lattice.step, lattice.levels, dtype=dtype)
            for name, lattice in zip(names, each, strict=True)
        )
        return Schema(layout, self.shape, fields, levels, rate=self.raw.rate)

    def _distinct(self) -> Array | None:
        """Distinct values of all parts; `None` if there are many."""
        return _distinct_of(list(self.parts.values()))

    def _lattices(self) -> list[Lattice] | None:
        """One lattice for all elements, or one for each channel; `None` where there is none."""
        values = self._distinct()
        found = (
            None
            if values is None
            else canonical_lattice(values, self.resolution) or find_lattice(values, self.resolution)
        )
        if found is not None:
            return [found]
        if values is not None and len(values) < 2:
            return None
        by_channel: list[Lattice] = []
        for channel in range(self.shape[0] if len(self.shape) > 1 else 0):
            values = _distinct_of([array[:, channel] for array in self.parts.values()])
            one = None if values is None or len(values) < 3 else find_lattice(values, self.resolution)
            if one is None:
                return None
            by_channel.append(one)
        return by_channel or None

    def _as_levels(self, lattices: Sequence[Lattice], levels: int) -> dict[Part, Array]:
        return as_levels(self.parts, lattices, levels, self.fingerprint)

    def _integers(self) -> tuple[dict[Part, Array], Schema]:
        lows, highs = zip(*(value_range(array) for array in self.parts.values()), strict=True)
        low, high = min(lows), max(highs)
        if self.options.data_range is not None or self.options.standardise:
            raise DataError(
                f"{self.raw.name} holds integers, which are dequantised on [0, 1]; got a data range or --standardise. Drop it, "
                "or convert the data to floats."
            )
        shift = 0.0
        if low < 0:
            shift = -float(1 << max(1, int(max(-low, high + 1)) - 1).bit_length())
            levels = self.options.levels or int(-2 * shift)
            self.notes.append(f"integers from {low:g} to {high:g}: read as {levels} levels from {shift:g}")
            if levels > FINEST:
                raise DataError(f"{self.raw.name}: {_too_fine(low, high)}")
            lattices = [Lattice(shift, 1.0, levels)]
            return self._as_levels(lattices, levels), self._schema(lattices, levels)
        levels = self._counted_levels(high, said=True)
        if levels > FINEST:
            raise DataError(f"{self.raw.name}: {_too_fine(low, high)}")
        return self.parts, self._schema([Lattice(0.0, 1.0, levels)], levels)

    def _counted_levels(self, high: float, *, said: bool) -> int:
        if self.options.levels is not None:
            if high >= self.options.levels:
                raise DataError(
                    f"{self.raw.name}: integers must be below levels = {self.options.levels}; got a maximum of {high:g}."
                )
            return self.options.levels
        count = int(high) + 1
        levels = max(2, count) if count <= FEW_LEVELS else max(256, 1 << (count - 1).bit_length())
        if said and self.raw.encoded and self.dtype == np.uint8:
            return 256
        if said and (levels != 256 or self.dtype != np.uint8):
            self.notes.append(f"integers up to {high:g}: read as {levels} levels (--levels says otherwise)")
        return levels


def as_levels(
    parts: dict[Part, Array], lattices: Sequence[Lattice], levels: int, fingerprint: str
) -> dict[Part, Array]:
    """Values as whole numbers `k`; through the cache if one part is mapped, as then they may be more than memory holds."""
    kind = np.uint8 if levels <= 256 else np.uint16 if levels <= 1 << 16 else np.int32
    blocks = {part: (_position(c, lattices).astype(kind) for _, c in chunks(array)) for part, array in parts.items()}
    if not any(isinstance(array, np.memmap) for array in parts.values()):
        return {part: np.concatenate(list(pieces)) for part, pieces in blocks.items()}
    described = "-".join(f"{lattice.low:g},{lattice.step:g}" for lattice in lattices)
    key = _cache.key_of("levels", fingerprint, described, levels)
    if not _cache.has(key):
        _cache.write(key, blocks, dict)
    return _cache.read(key)[0]


def _position(chunk: Array, lattices: Sequence[Lattice]) -> Array:
    if len(lattices) == 1:
        return np.rint(lattices[0].position(chunk))
    return np.stack([np.rint(one.position(chunk[:, i])) for i, one in enumerate(lattices)], axis=1)


def _distinct_of(arrays: Sequence[Array]) -> Array | None:
    found: Array = np.empty(0)
    for array in arrays:
        for _, chunk in chunks(array):
            values = distinct(chunk)
            if values is None:
                return None
            found = np.unique(np.concatenate([found, values]))
            if len(found) > MOST_VALUES:
                return None
    return found


def _kind_of(lattice: Lattice) -> ColumnKind:
    return "whole" if lattice.step == 1.0 and lattice.low == round(lattice.low) else "lattice"


def _too_fine(low: float, high: float) -> str:
    return (
        f"integers must take at most {FINEST:,} levels, as float32 holds no finer noise; got values from {low:g} to {high:g}. Divide "
        "them, or convert them to floats and pass --data-range LO,HI."
    )


def _words(lattices: Sequence[Lattice]) -> str:
    one = lattices[0]
    if len(lattices) > 1:
        return f"every channel has few values at equal distances (up to {max(x.levels for x in lattices)}): dequantised"
    if one.levels == 2:
        return f"all values are {one.low:g} or {one.low + one.step:g}: read as bits"
    for scale, low, step in (("k/255", 0.0, 1 / 255), ("k/256", 0.0, 1 / 256)):
        if (one.low, one.step) == (low, step):
            return f"all values are {scale}: read as 8-bit data and dequantised"
    top = one.low + one.step * (one.levels - 1)
    return f"all values are {one.levels} at equal distances from {one.low:g} to {top:g}: read as levels and dequantised"
