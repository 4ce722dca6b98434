"""Conditions: labels as one-hot vectors, numbers standardised, several columns side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
SHOWN = 8


@final
@dataclass(frozen=True)
class Condition:
    """Coding of a condition, fitted on the training split and stored with the run.

    Attributes:
        name: column, or `class` for folders of pictures, or `condition` for an array.
        kind: `classes`, coded as one-hot vectors, `numbers`, standardised, or `several` columns, each by its own coding.
        values: the classes, sorted, as text or numbers.
        mean: mean of each number.
        std: standard deviation of each.
        parts: coding of each of several columns.
        whole: whether numbers came as whole numbers.

    Examples:
        >>> from calibrae.data import Condition
        >>> Condition("label", "classes", (0, 1, 7))([7, 0])
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
        >>> sex, age = Condition("sex", "classes", ("f", "m")), Condition("age", "numbers", mean=(40.0,), std=(10.0,))
        >>> Condition("sex, age", "several", parts=(sex, age))({"sex": "m", "age": [30, 50]})
        tensor([[ 0.,  1., -1.],
                [ 0.,  1.,  1.]])
    """

    name: str
    kind: Literal["classes", "numbers", "several"]
    values: tuple[Any, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    parts: tuple[Condition, ...] = ()
    whole: bool = False

    @property
    def dim(self) -> int:
        """Number of features of the context."""
        if self.kind == "several":
            return sum(part.dim for part in self.parts)
        return len(self.values) if self.kind == "classes" else len(self.mean)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each column."""
        return tuple(part.name for part in self.parts) or (self.name,)

    def typed(self, text: str) -> Any:
        """A condition as somebody types it: `'cat'` or `'007'` is a class, `'1.5,2'` are numbers, `'sex=f, age=40'` several columns.

        Raises:
            ArgumentError: if numbers are needed and none came, or a column is not named.
        """
        if self.kind == "several":
            return self._typed_cells(text)
        text = text.removeprefix(f"{self.name}=")
        if self.kind == "classes":
            return text
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            raise ArgumentError(
                f"the condition must be {counted(self.dim, 'number')}, as in 1.5,2; got {text[:60]!r}."
            ) from None
        if len(values) != self.dim:
            raise ArgumentError(
                f"the condition {self.name!r} must be {counted(self.dim, 'finite number')}, with a point as in 1.5; got {text[:60]!r}."
            )
        return values[0] if len(values) == 1 else values

    def __call__(self, raw: Any) -> Tensor:
        """Code conditions, `[N]` or `[N, k]`, as contexts `[N, dim]`, float32; of several columns `[N, k]`, or a dict of them.

        Raises:
            DataError: for a class that the training data do not have, or numbers of another width.
        """
        if self.kind == "several":
            return torch.cat([part(column) for part, column in zip(self.parts, self.columns(raw), strict=True)], 1)
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

    def _typed_cells(self, text: str) -> dict[str, Any]:
        starts = "|".join(re.escape(name) for name in self.names)
        pairs = [pair.partition("=") for pair in re.split(rf",\s*(?=(?:{starts})\s*=)", text)]
        found = {name.strip(): value.strip() for name, equals, value in pairs if equals}
        if set(found) != set(self.names) or len(pairs) != len(self.names):
            example = ", ".join(f"{name}=..." for name in self.names)
            raise ArgumentError(
                f"the condition must name its {len(self.parts)} columns, as in {example}; got {text[:60]!r}."
            )
        return {part.name: part.typed(found[part.name]) for part in self.parts}

    def plain(self, values: Array) -> list[Any]:
        """Values of one column as plain classes or numbers: a class that was typed gets the type that it had in training."""
        if self.kind == "classes":
            return [plain_class(value, text=isinstance(self.values[0], str)) for value in values.tolist()]
        numbers = [float(value) for value in values.tolist()]
        return [int(number) if self.whole and number.is_integer() else number for number in numbers]

    def columns(self, raw: Any) -> list[Array]:
        """Columns of several conditions, `[N]` each; one value of a dict is taken for all.

        Raises:
            DataError: if they are not those columns.
        """
        if hasattr(raw, "columns") and hasattr(raw, "__getitem__"):  # a data frame, by its names
            raw = {str(name): np.asarray(raw[name]) for name in raw.columns}
        if isinstance(raw, Mapping):
            if set(map(str, raw)) != set(self.names):
                raise DataError(
                    f"the condition must have the entries {', '.join(self.names)}; got {', '.join(map(str, raw))}."
                )
            columns = [np.atleast_1d(np.asarray(raw[name])) for name in self.names]
            sizes = {len(column) for column in columns} - {1}
            if len(sizes) > 1:
                raise DataError(
                    f"the condition must have columns of one length; got {', '.join(map(str, sorted(sizes)))}."
                )
            return [np.broadcast_to(column, (max(sizes, default=1),)) for column in columns]
        values = np.asarray(raw, object)
        if values.ndim != 2 or values.shape[1] != len(self.parts):
            raise DataError(
                f"the condition must be [N, {len(self.parts)}], a column each for {', '.join(self.names)}, or a dict of them; got "
                f"{_shortly(values)}."
            )
        return [np.array(column) for column in values.T.tolist()]

    def _one_hot(self, values: Array) -> Tensor:
        known = {value: position for position, value in enumerate(self.values)}
        given = values.reshape(-1).tolist()
        asked = [plain_class(value, text=isinstance(self.values[0], str)) for value in given]
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
        if self.kind == "several":
            return "; ".join(part.describe() for part in self.parts)
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
        } | self._further()

    def _further(self) -> dict[str, Any]:
        parts = {"parts": [part.to_dict() for part in self.parts]} if self.parts else {}
        return parts | ({"whole": True} if self.whole else {})

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Condition:
        """The inverse of `to_dict`.

        Raises:
            ArgumentError: if an entry is missing, unknown or of another type.
        """
        return record_of(cls, stored)


def plain_class(value: Any, *, text: bool) -> Any:
    """Class as text or as an integer; `None` for what is no integer."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if text:
        return str(value)
    try:
        return int(value) if isinstance(value, str) or int(value) == value else None
    except (TypeError, ValueError, OverflowError):
        return None


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


def names_of(condition: Any, data: Any) -> str | tuple[str, ...] | None:
    """Names of conditions, if that is what came: a text, a tuple of texts, or a list of columns of the data; else it is labels.

    Examples:
        >>> names_of("label", None), names_of(["age", "sex"], "people.csv"), names_of(["cat", "dog"], [1, 2])
        ('label', ('age', 'sex'), None)
    """
    if isinstance(condition, str):
        return condition
    is_words = isinstance(condition, list | tuple) and all(isinstance(name, str) for name in condition)
    if not is_words or not condition or len(set(condition)) < len(condition):  # labels come again, names do not
        return None
    if isinstance(condition, list) and not (isinstance(data, str | Path) or set(condition) <= _columns_in(data)):
        return None
    return tuple(condition) if len(condition) > 1 else str(condition[0])


def _columns_in(data: Any) -> set[str]:
    """Names of the columns of a frame, a structured array, rows as dicts, a dict of such, or annotated data."""
    if isinstance(data, Mapping):
        return set(map(str, data)).union(*(_columns_in(value) for value in data.values()))
    if isinstance(data, list | tuple):
        return set(map(str, data[0])) if data and isinstance(data[0], Mapping) else set()
    names = getattr(getattr(data, "dtype", None), "names", None) or getattr(data, "column_names", None)
    names = getattr(data, "columns", getattr(getattr(data, "obs", None), "columns", ())) if names is None else names
    return set(map(str, names)) if isinstance(names, Iterable) else set()


def labels_of_all(source: Source, views: Mapping[Split, View], names: Sequence[str]) -> dict[AnySplit, Array]:
    """Conditions of each split: one as it is, several as columns of objects, `[N, k]`.

    Raises:
        DataError: if there is no such condition, or one of several is more than a column.
    """
    each = [labels_by_split(source, views, name) for name in names]
    if len(each) == 1:
        return each[0]
    for name, labels in zip(names, each, strict=True):
        if labels["all"].ndim != 1:
            raise DataError(
                f"the condition {name!r} is {labels['all'].shape[1:]} for each example, which goes with no other. Name it alone."
            )
    return {split: np.stack([labels[split].astype(object) for labels in each], 1) for split in each[0]}


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
