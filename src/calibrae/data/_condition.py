"""Conditions: labels as one-hot vectors, numbers standardised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import numpy as np
import torch
from torch import Tensor

from .._plain import record_of
from .._types import AnySplit, Split
from ..errors import ArgumentError, DataError
from ._source import Array, Part, Source, counted, part_of
from ._view import View

GIVEN = "condition"  # name of a condition that comes as an array
MOST_CLASSES = 1000  # distinct integers from which a column of integers is read as numbers
SHOWN = 8


@final
@dataclass(frozen=True)
class Condition:
    """Coding of a condition, fitted on the training split and stored with the run.

    Attributes:
        name: column, or `class` for folders of pictures, or `condition` for an array.
        kind: `classes`, coded as one-hot vectors, or `numbers`, standardised.
        values: the classes, sorted, as text or numbers.
        mean: mean of each number.
        std: standard deviation of each.

    Examples:
        >>> from calibrae.data import Condition
        >>> Condition("label", "classes", (0, 1, 7))([7, 0])
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """

    name: str
    kind: Literal["classes", "numbers"]
    values: tuple[Any, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def dim(self) -> int:
        """Number of features of the context."""
        return len(self.values) if self.kind == "classes" else len(self.mean)

    def typed(self, text: str) -> Any:
        """A condition as somebody types it: `'cat'` or `'007'` is a class, `'1.5,2'` are numbers.

        Raises:
            ArgumentError: if numbers are needed and none came.
        """
        if self.kind == "classes":
            return text
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            raise ArgumentError(
                f"the condition must be {counted(self.dim, 'number')}, as in 1.5,2; got {text[:60]!r}."
            ) from None
        return values[0] if len(values) == 1 else values

    def __call__(self, raw: Any) -> Tensor:
        """Code conditions, `[N]` or `[N, k]`, as contexts `[N, dim]`, float32.

        Raises:
            DataError: for a class that the training data do not have, or numbers of another width.
        """
        values = np.asarray(raw)
        if self.kind == "classes":
            return self._one_hot(values)
        try:
            numbers = values.astype(np.float64).reshape(len(values), -1)
        except (TypeError, ValueError):
            numbers = np.full((1, 0), np.nan)
        if numbers.shape[1] != self.dim or not np.isfinite(numbers).all():
            raise DataError(
                f"the condition {self.name!r} must be {self.dim} finite numbers an example; got {_shortly(values)}."
            )
        return torch.from_numpy((numbers - np.array(self.mean)) / np.array(self.std)).float()

    def _one_hot(self, values: Array) -> Tensor:
        known = {value: position for position, value in enumerate(self.values)}
        given = values.reshape(-1).tolist()
        asked = [_plain(value, text=isinstance(self.values[0], str)) for value in given]
        wrong = sorted({str(value) for value, plain in zip(given, asked, strict=True) if plain not in known})
        if wrong:
            raise DataError(
                f"the condition {self.name!r} must be one of {self._shown()}; got {', '.join(wrong[:SHOWN])}."
            )
        return torch.nn.functional.one_hot(torch.tensor([known[v] for v in asked]), self.dim).float()

    def _shown(self) -> str:
        more = ", ..." if len(self.values) > SHOWN else ""
        return ", ".join(map(str, self.values[:SHOWN])) + more

    def describe(self) -> str:
        """One sentence for people."""
        if self.kind == "classes":
            return f"condition {self.name!r}: {self.dim} classes as one-hot vectors ({self._shown()})"
        return f"condition {self.name!r}: {self.dim} {'number' if self.dim == 1 else 'numbers'}, standardised on the training set"

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "values": list(self.values),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Condition:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: if an entry is missing, unknown or of another type.
        """
        return record_of(cls, stored)


def fit_condition(name: str, train: Array, everything: Array) -> Condition:
    """Choose and fit the coding: text, booleans and few integers are classes, anything else is numbers.

    Args:
        name: name of the condition.
        train: conditions of the training split, from which mean and deviation are taken.
        everything: conditions of all splits, from which the classes are taken.

    Raises:
        DataError: for missing values, a single class, or a number that does not vary.
    """
    if everything.dtype.kind == "O":
        missing = sum(_is_missing(value) for value in everything.reshape(-1).tolist())
        if missing:
            raise DataError(f"the condition {name!r} must have no missing values; got {missing}. Drop or fill them.")
        everything, train = everything.astype(str), train.astype(str)
    is_whole = everything.dtype.kind in "iub" and everything.ndim == 1
    if everything.dtype.kind in "US" or (is_whole and len(np.unique(everything)) <= MOST_CLASSES):
        values = tuple(_plain(v, text=everything.dtype.kind in "US") for v in np.unique(everything).tolist())
        if len(values) < 2:
            raise DataError(f"the condition {name!r} must have two classes at least; got {values}. Leave it out.")
        return Condition(name, "classes", values)
    if not np.isfinite(everything.astype(np.float64)).all():
        raise DataError(f"the condition {name!r} must be finite; got NaN or infinity. Drop or fill those examples.")
    numbers = train.astype(np.float64).reshape(len(train), -1)
    std = numbers.std(0)
    if not (std > 1e-12 * np.abs(numbers).max(0)).all():  # less is the rounding of a mean
        raise DataError(f"the condition {name!r} must vary over the training examples; a constant tells nothing.")
    return Condition(name, "numbers", (), tuple(numbers.mean(0).tolist()), tuple(std.tolist()))


def _plain(value: Any, *, text: bool) -> Any:
    """Class as text or as an integer; `None` for what is no integer."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if text:
        return str(value)
    try:
        return int(value) if isinstance(value, str) or int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


def _is_missing(value: Any) -> bool:
    """Tell whether this is `None`, or what pandas and NumPy write in its place."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) in ("<NA>", "NaT")


def _shortly(values: Array) -> str:
    """Shape of conditions, or themselves where there are few."""
    return str(values.tolist()) if values.size <= SHOWN else f"an array of shape {values.shape}"


def with_condition(source: Source, condition: Any) -> Source:
    """Add a condition that comes as an array, or as a dict of arrays by part.

    Raises:
        DataError: if it has not one entry for each example.
    """
    given = {part_of(str(k)) or str(k): v for k, v in condition.items()} if isinstance(condition, Mapping) else None
    if given is None and len(source.parts) > 1:
        raise DataError(
            f"{source.name} comes in parts ({', '.join(source.parts)}), so the condition must be a dict with an array for each."
        )
    by_part: dict[Part, Array] = {}
    for part, array in source.parts.items():
        if given is not None and part not in given:
            raise DataError(f"the condition lacks the part {part}; it has {', '.join(map(str, given))}.")
        values = condition if given is None else given[part]
        if np.ma.isMaskedArray(values) and np.ma.getmaskarray(values).any():
            raise DataError("the condition must have no masked entries. Drop those examples, or fill them.")
        values = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
        if values.ndim not in (1, 2) or len(values) != len(array):
            raise DataError(
                f"the condition must be [N] or [N, k] with one entry for each of the {len(array)} examples ({part}); got "
                f"{values.shape}."
            )
        by_part[part] = values
    return replace(source, labels={**source.labels, GIVEN: by_part})


def labels_by_split(source: Source, views: Mapping[Split, View], name: str) -> dict[AnySplit, Array]:
    """Conditions of each split, in the order of its rows.

    Raises:
        DataError: if there is no such condition, or not one for each example.
    """
    known = source.labels
    if name not in known:
        there = f"it has {', '.join(known)}" if known else "it has none"
        raise DataError(f"{source.name} has no condition {name!r}; {there}. Name a column, or pass an array.")
    by_part = known[name]
    for part, array in source.parts.items():
        if len(by_part.get(part, ())) != len(array):
            raise DataError(
                f"{source.name}: there must be one {name!r} for each example; the part {part} has {len(array)} examples and "
                f"{len(by_part.get(part, ()))} of them."
            )
    labels: dict[AnySplit, Array] = {}
    everything = np.concatenate([by_part[part] for part in source.parts])
    for split, view in views.items():
        owner = next((p for p, array in source.parts.items() if array is view.array), None)
        mine = everything if owner is None else by_part[owner]  # of all parts, joined
        labels[split] = mine if view.index is None else mine[view.index]
    labels["all"] = everything
    return labels


def hashable(labels: Array) -> Array:
    """Labels whose bytes are their content: text in place of objects."""
    return labels.astype(str) if labels.dtype.kind == "O" else labels
