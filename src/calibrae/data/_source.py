"""Stored data, before any split or preparation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from ..errors import DataError

Array: TypeAlias = npt.NDArray[Any]
Part: TypeAlias = Literal["all", "train", "validation", "test"]

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
        skip_broken: leave out files that cannot be read instead of stopping.
        levels: number of integer values, if the guess from the data is wrong.
        data_range: `(lo, hi)` of float data; mapped to [0, 1], and the shift of the log-density recorded.
        standardise: columns to zero mean and unit variance on the training set; by default for float tables.
        binarise: replace each value by a Bernoulli draw with that mean, anew in every epoch.
        condition: name of the condition: `class` for folders of pictures, a column, or `label` for label files.
        validation_fraction: share of the training examples (at most 5,000), where no validation set is given.
        test_fraction: share of all examples (at most 10,000), where no test set is given.
        split_seed: seed of those splits.
    """

    size: tuple[int, int] | None = None
    resize: Literal["crop", "fit"] = "crop"
    skip_broken: bool = False
    levels: int | None = None
    data_range: tuple[float, float] | None = None
    standardise: bool | None = None
    binarise: bool = False
    condition: str | None = None
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0

    def __post_init__(self) -> None:
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


@dataclass(frozen=True, slots=True)
class Source:
    """Examples as they are stored, in the parts in which they came.

    Attributes:
        name: name or path that the user gave.
        parts: arrays `[N, *data]`, integer or float; perhaps memory-mapped.
        fingerprint: hash of the content.
        levels: number of integer values, or `None` for float data.
        columns: names of a table's columns.
        names: file name of each example of a part, where it has a file of its own.
        labels: conditions by name, `[N]` or `[N, k]` for each part, in the order of its examples.
        notes: sentences that say each assumption and each omission.
    """

    name: str
    parts: Mapping[Part, Array]
    fingerprint: str
    levels: int | None = None
    columns: tuple[str, ...] = ()
    names: Mapping[Part, Sequence[str]] = field(default_factory=dict)
    labels: Mapping[str, Mapping[Part, Array]] = field(default_factory=dict)
    notes: tuple[str, ...] = field(default=())


def part_of(name: str) -> Part | None:
    """Find the part that a file name speaks of, in any of its words.

    Examples:
        >>> part_of("t10k-images-idx3-ubyte.gz"), part_of("cifar10-train.parquet"), part_of("cats")
        ('test', 'train', None)
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    return next((PART_NAMES[word] for word in words if word in PART_NAMES), None)


def speaks_of_labels(name: str) -> bool:
    """Tell whether a file or array name is that of labels.

    Examples:
        >>> speaks_of_labels("y_train"), speaks_of_labels("train_labels"), speaks_of_labels("train_images")
        (True, True, False)
    """
    return bool(LABEL_WORDS & set(re.split(r"[^a-z0-9]+", name.lower())))
