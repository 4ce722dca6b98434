"""Schema: the meaning of each column or channel, by which new data are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from .._plain import record_of
from .._types import Shape

Layout: TypeAlias = Literal["table", "rows", "signals", "pictures", "volumes"]
ColumnKind: TypeAlias = Literal["continuous", "whole", "lattice"]
ColumnType: TypeAlias = Literal[
    "", "real", "heavy-tailed", "positive", "count", "ordinal", "categorical", "binary", "zero-inflated", "date", "identifier", "text",
    "constant", "leave-out",
]  # fmt: skip
LAYOUTS: dict[int, Layout] = {1: "rows", 2: "signals", 3: "pictures", 4: "volumes"}


@final
@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, or a channel of pictures, signals or volumes.

    Attributes:
        name: name that came with the data, or `column 1`, `channel 1`, ...
        kind: `continuous`; `whole`, for whole numbers; `lattice`, for values `low + k step` with other steps.
        low: smallest value of the lattice.
        step: distance between neighbouring values; 0 for continuous ones.
        levels: number of values from the smallest to the largest; `None` for continuous ones.
        unit: unit of measurement, where the file tells it.
        dtype: type in which the values came; two schemas that differ in it alone are equal.
        type: type of a column of a mixed table; empty for other data.
        why: reason for it, in a few words.
        categories: words or numbers that the codes `0, 1, ...` stand for, of a categorical or binary column; the value of a constant.
        missing: share of its cells that are missing.
        form: format of a date.
        place: position of the column in the table as it came.
        least: smallest value of a number.
        most: largest value of a number.
        atom: value that many rows share, of a zero-inflated column.
        decimals: digits behind the point that suffice for all values; `None` where there is no such number up to six.
    """

    name: str
    kind: ColumnKind = "continuous"
    low: float = 0.0
    step: float = 0.0
    levels: int | None = None
    unit: str = ""
    dtype: str = field(default="float64", compare=False)
    type: ColumnType = ""
    why: str = field(default="", compare=False)
    categories: tuple[Any, ...] = ()
    missing: float = field(default=0.0, compare=False)
    form: str = ""
    place: int = 0
    least: float = field(default=0.0, compare=False)
    most: float = field(default=0.0, compare=False)
    atom: float = 0.0
    decimals: int | None = field(default=None, compare=False)


@final
@dataclass(frozen=True, slots=True)
class Schema:
    """Meaning of the data that a model was trained on; stored with its run.

    Attributes:
        layout: `table` `[D]`, read column by column; `rows` `[D]` on one scale, such as flattened pictures; `signals` `[C, L]`,
            `pictures` `[C, H, W]` or `volumes` `[C, D, H, W]`.
        shape: shape of one example.
        fields: one for each column of a table or each channel; one for all elements of rows.
        levels: number of whole numbers `0, 1, ...` that a stored element can be; `None` where they are not counted so.
        is_named: whether the columns came with names, by which columns of new data are found.
        rate: samples a second of sounds; `None` for other data.
        left_out: columns of a mixed table that are not modelled.
        missing: words that were declared to mean a missing cell of such a table.

    Examples:
        >>> from calibrae import load_data
        >>> load_data("digits").source.schema.fields[0].dtype
        'uint8'
    """

    layout: Layout
    shape: Shape
    fields: tuple[Column, ...]
    levels: int | None = None
    is_named: bool = False
    rate: int | None = None
    left_out: tuple[Column, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def is_mixed(self) -> bool:
        """Tell whether the columns of a table have types of their own, or missing cells."""
        return any(column.type for column in self.fields)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a table's columns; none for other layouts."""
        return tuple(column.name for column in self.fields) if self.layout == "table" else ()

    @property
    def is_whole(self) -> bool:
        """Tell whether every value is a whole number."""
        return all(column.kind == "whole" for column in self.fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "layout": self.layout,
            "shape": list(self.shape),
            "levels": self.levels,
            "is_named": self.is_named,
            "rate": self.rate,
            "fields": [asdict(column) for column in self.fields],
            "left_out": [asdict(column) for column in self.left_out],
            "missing": list(self.missing),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Schema:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: if an entry is missing, unknown or of another type.
        """
        return record_of(cls, stored)


def channel_names(layout: Layout, count: int) -> tuple[str, ...]:
    """Name the columns or channels of data that came without names.

    Examples:
        >>> channel_names("pictures", 3), channel_names("table", 2)
        (('red', 'green', 'blue'), ('column 1', 'column 2'))
    """
    if layout == "pictures" and count in (1, 3):
        return ("grey",) if count == 1 else ("red", "green", "blue")
    if layout == "rows":
        return ("element",)
    return tuple(f"{'column' if layout == 'table' else 'channel'} {i + 1}" for i in range(count))


def levels_in_units(levels: npt.NDArray[Any], schema: Schema) -> npt.NDArray[Any]:
    """Levels `0, 1, ...` of an array as the values `low + k step` that they stand for; whole numbers as integers.

    Args:
        levels: `[N, *data]`.
        schema: schema of other data than a table.
    """
    low, step = (np.array([getattr(column, name) for column in schema.fields]) for name in ("low", "step"))
    sides = (-1,) + (1,) * (levels.ndim - 2)
    values: npt.NDArray[Any] = levels * step.reshape(sides) + low.reshape(sides)
    return values.astype(np.int64) if schema.is_whole else values
