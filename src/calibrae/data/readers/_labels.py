"""Parts and labels of files whose names tell them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError
from .._source import LABEL, Array, DataOptions, Part, Raw, part_of

CLASS = "class"  # name of the condition that folders of examples have


def add_part(parts: dict[Part, Array], part: Part, array: Array, name: str) -> None:
    """Add a part, of which there must be one."""
    if part in parts:
        raise DataError(f"{name}: a second array for the part `{part}`. Keep one per part, or pass one file.")
    parts[part] = array


def pool(parts: Mapping[Part, Array], order: Mapping[Part, Array] | None = None) -> dict[Part, Array]:
    """Parts as given, or one pool where there is no training part.

    Args:
        parts: arrays by part.
        order: parts in whose order they are pooled; by default their own.
    """
    order = parts if order is None else order
    if "train" in order or not parts.keys() & order.keys():
        return dict(parts)
    chosen = [parts[part] for part in order if part in parts]
    shapes = sorted({array.shape[1:] for array in chosen})
    if len(shapes) > 1:
        raise DataError(f"all parts must have examples of one shape; got {shapes}.")
    return {"all": np.concatenate(chosen)}


def labelled(raw: Raw, labels: Mapping[Part, Array], options: DataOptions, name: str = LABEL) -> Raw:
    """Data with labels that belong to its examples, and a note if no condition asks for them.

    Raises:
        DataError: if there is not one for each example, and the condition was asked for.
    """
    if not labels:
        return raw
    if name not in options.conditions:
        return _beside(raw, labels, name)
    wrong = [part for part, array in raw.parts.items() if len(labels.get(part, ())) != len(array)]
    if wrong:
        raise DataError(
            f"{raw.name}: there must be one label for each example; the part {wrong[0]} has {len(raw.parts[wrong[0]])} examples "
            f"and {len(labels.get(wrong[0], ()))} labels."
        )
    return replace(raw, labels={**raw.labels, name: {part: labels[part] for part in raw.parts}})


def _beside(raw: Raw, labels: Mapping[Part, Array], name: str) -> Raw:
    """Data with labels that nobody asked for, if there is one for each example."""
    own = {part: np.asarray(labels.get(part, ())) for part in raw.parts}
    own = {part: values[:, 0] if values.shape[1:] == (1,) else values for part, values in own.items()}
    if any(values.shape != (len(raw.parts[part]),) for part, values in own.items()):
        return replace(raw, notes=(*raw.notes, "labels are left out: there is not one for each example"))
    note = f"labels are not modelled (--condition {name} conditions on them)"
    return replace(raw, labels={**raw.labels, name: own}, notes=(*raw.notes, note))


def with_classes(raw: Raw, shared: tuple[str, ...], *, asked: bool) -> Raw:
    """The folder of each file, below that of its split, as its class, if every file has one.

    Raises:
        DataError: if a file has none, and the condition `class` was asked for.
    """
    labels: dict[Part, Array] = {}
    for part, names in raw.names.items():
        folders = [name.rpartition(os.sep)[0] for name in names]
        classes = {folder: _class_of(folder, len(shared), part) for folder in set(folders)}
        lacking = next((name for name, folder in zip(names, folders, strict=True) if not classes[folder]), None)
        if lacking is not None and not asked:
            return raw
        if lacking is not None:
            raise DataError(
                f"{raw.name}: with the condition `class` every file must lie in the folder of its class; {lacking} does not."
            )
        labels[part] = np.array([classes[folder] for folder in folders])
    return replace(raw, labels={**raw.labels, CLASS: labels})


def _class_of(folder: str, shared: int, part: Part) -> str:
    """Class of the files of a folder, below the folders that all share and that of the split; empty for none."""
    path = Path(folder).parts[shared:]
    if part != "all" and path and part_of(path[0]) == part:
        path = path[1:]
    return path[0] if path else ""
