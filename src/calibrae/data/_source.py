"""Records of reading: the options, what a reader gives, and the examples that come of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from .._plain import require_types
from ..errors import DataError
from ._schema import Schema

Array: TypeAlias = npt.NDArray[Any]
Part: TypeAlias = Literal["all", "train", "validation", "test"]

LABEL = "label"  # name of the condition that files or arrays of labels give
LABEL_WORDS = frozenset({"y", "label", "labels", "target", "targets"})
PART_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "t10k": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
}


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Options of reading and splitting data. Each option is recorded with the run.

    Attributes:
        size: `(height, width)` that all pictures are brought to; needed if they differ.
        resize: `crop`: scale until the size is covered, then cut the middle; `fit`: scale until it fits, then pad black.
        skip_broken: leave out files, and items of a Dataset, that cannot be read instead of stopping.
        header: whether the first line of a CSV holds names; by default it does unless all its cells are numbers.
        levels: number of integer values, if the guess from the data is wrong.
        data_range: `(lo, hi)` of float data; mapped to [0, 1], and the shift of the log-density recorded.
        standardise: columns to zero mean and unit variance on the training set; by default for tables.
        binarise: replace each value by a Bernoulli draw with that mean, anew in every epoch.
        condition: name of the condition: `class` for folders of pictures, a column, or `label` for label files; several columns as a list.
        validation_fraction: share of the training examples (at most 5,000), where no validation set is given.
        test_fraction: share of all examples (at most 10,000), where no test set is given.
        split_seed: seed of those splits.
        columns: type of a column by its name, where the guess is wrong: `real`, `heavy-tailed`, `positive`, `count`, `ordinal`,
            `categorical`, `binary`, `zero-inflated`, `date` or `leave-out`; of a condition `real` or `categorical`. The table is then read as one of mixed columns.
        missing: further words that mean a missing cell, beside blanks, `?`, `NA`, `NaN`, `null` and `none`.
        stream: read shards (Parquet, or tar files of WebDataset) where they lie, a part at a time; only what is held out is copied.
    """

    size: tuple[int, int] | None = None
    resize: Literal["crop", "fit"] = "crop"
    skip_broken: bool = False
    header: bool | None = None
    levels: int | None = None
    data_range: tuple[float, float] | None = None
    standardise: bool | None = None
    binarise: bool = False
    condition: str | tuple[str, ...] | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    columns: Mapping[str, str] | None = None
    missing: tuple[str, ...] = ()
    stream: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        if self.resize not in ("crop", "fit"):
            raise DataError(f"`resize` must be crop or fit; got {self.resize!r}.")
        if self.size is not None and min(self.size) < 1:
            raise DataError(f"`size` must be positive; got {self.size}.")
        if self.levels is not None and self.levels < 2:
            raise DataError(f"`levels` must be at least 2; got {self.levels}.")
        if self.data_range is not None and not self.data_range[0] < self.data_range[1]:
            raise DataError(f"`data_range` must be lo < hi; got {self.data_range}.")
        for name in ("validation_fraction", "test_fraction"):
            if not 0.0 < getattr(self, name) < 0.5:
                raise DataError(f"`{name}` must lie between 0 and 0.5; got {getattr(self, name)}.")
        if isinstance(self.condition, list | tuple):
            object.__setattr__(self, "condition", _names_of_conditions(self.condition))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions.

        Examples:
            >>> DataOptions(condition=("age", "sex")).conditions, DataOptions(condition="label").conditions
            (('age', 'sex'), ('label',))
        """
        if self.condition is None:
            return ()
        return (self.condition,) if isinstance(self.condition, str) else self.condition

    @property
    def types(self) -> Mapping[str, str] | None:
        """Types that were asked for of columns that are modelled; `None` if none were, where types of conditions count as none."""
        if self.columns is None:
            return None
        found = {name: kind for name, kind in self.columns.items() if name not in self.conditions}
        return None if self.columns and not found else found


def _names_of_conditions(names: Sequence[str]) -> str | tuple[str, ...] | None:
    """One name alone, several in their order.

    Raises:
        DataError: if one comes twice.
    """
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise DataError(f"each condition must be named once; got {', '.join(double)} more than once.")
    return tuple(names) if len(names) > 1 else names[0] if names else None


@dataclass(frozen=True, slots=True)
class Request:
    """A request to read data.

    Attributes:
        options: how to read them.
        trained: schema of the data that a model was trained on, by which new data are read; `None` for data to train on.
    """

    options: DataOptions
    trained: Schema | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Data as a reader gives them: numbers as they came, whose meaning is not settled.

    Attributes:
        name: name or path that the user gave.
        parts: arrays `[N, *data]` of numbers; perhaps memory-mapped.
        fingerprint: hash of the content; computed from the arrays where it is empty.
        columns: names of a table's columns.
        words: words that the codes `0, 1, ...` of a column stand for, by its name.
        dates: format of a column of dates, by its name; its numbers are days or seconds since 1970.
        dtypes: type in which a column came, by its name.
        units: unit of a column by its name, where one was given.
        names: file name of each example of a part, where it has a file of its own.
        labels: conditions by name, `[N]` or `[N, k]` for each part, in the order of its examples.
        notes: sentences that say each assumption and each omission.
        resolution: relative spacing of the floats as they came, where they were widened since (bfloat16).
        encoded: whether the numbers are decoded pictures or sounds, whose range their format tells.
        place: name or absolute path under which they can be opened again; `None` for data from Python.
        rate: samples a second of sounds.
        is_named: whether columns came with names; else each has that of its place.
        tables: Arrow table of each part as it came, where its columns are mixed.
        separator: character between the columns of a text file.
        decimal: decimal point of its numbers.
    """

    name: str
    parts: Mapping[Part, Array]
    fingerprint: str = ""
    columns: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    dates: Mapping[str, str] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[Part, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[Part, Array]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    resolution: float | None = None
    encoded: bool = False
    place: str | None = None
    rate: int | None = None
    is_named: bool = True
    tables: Mapping[Part, Any] = field(default_factory=dict)
    separator: str = ""
    decimal: str = "."


@dataclass(frozen=True, slots=True)
class Source:
    """Examples whose meaning is settled, in the parts in which they came.

    Attributes:
        name: name or path that the user gave.
        parts: arrays `[N, *data]`; whole numbers from 0 where the schema has levels, else as they came; perhaps memory-mapped.
        fingerprint: hash of the content.
        schema: meaning of each column or channel.
        names: file name of each example of a part, where it has a file of its own.
        labels: conditions by name, `[N]` or `[N, k]` for each part, in the order of its examples.
        notes: sentences that say each assumption and each omission.
        place: name or absolute path under which they can be opened again; `None` for data from Python.
        origins: where a part comes from, if it was not given.
    """

    name: str
    parts: Mapping[Part, Array]
    fingerprint: str
    schema: Schema
    names: Mapping[Part, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[Part, Array]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())
    place: str | None = None
    origins: Mapping[Part, str] = field(default_factory=dict)

    @property
    def levels(self) -> int | None:
        """Number of integer values that an element can take; `None` for data that are not counts of levels."""
        return self.schema.levels

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of a table's columns."""
        return self.schema.columns


def words_in(name: str) -> list[str]:
    """Words of a file or array name, in lower case.

    Examples:
        >>> words_in("t10k-images.idx3")
        ['t10k', 'images', 'idx3']
    """
    return [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]


def part_of(name: str) -> Part | None:
    """Find the part that a file name speaks of, in any of its words.

    Examples:
        >>> part_of("t10k-images-idx3-ubyte.gz"), part_of("cifar10-train.parquet"), part_of("cats")
        ('test', 'train', None)
    """
    return next((PART_NAMES[word] for word in words_in(name) if word in PART_NAMES), None)


def speaks_of_labels(name: str) -> bool:
    """Tell whether a file or array name is that of labels.

    Examples:
        >>> speaks_of_labels("y_train"), speaks_of_labels("train_labels"), speaks_of_labels("train_images")
        (True, True, False)
    """
    return bool(LABEL_WORDS & set(words_in(name)))


def listed(names: Sequence[str], most: int = 5) -> str:
    """Name a few things and count the rest.

    Examples:
        >>> listed(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def counted(count: int, one: str, many: str = "") -> str:
    """Count things.

    Examples:
        >>> counted(1, "file"), counted(1200, "file")
        ('1 file', '1,200 files')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"
