"""Labels that came with the data, though no condition asks for them: they tell examples apart in pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from .._types import AnySplit, Split
from ._condition import hashable, labels_by_split
from ._source import LABEL, Array, Source
from ._view import View


def whole_labels(source: Source) -> list[str]:
    """Names of the labels that each example of each part has."""
    sizes = {part: len(array) for part, array in source.parts.items()}
    return [name for name, known in source.labels.items() if {p: len(known.get(p, ())) for p in sizes} == sizes]


def class_labels(
    source: Source, views: Mapping[Split, View], most: int, without: Collection[str] = ()
) -> tuple[str, dict[AnySplit, Array]] | None:
    """Name and values of the labels by which examples can be told apart.

    Args:
        source: the data.
        views: its splits.
        most: classes at most.
        without: names that do not count.

    Returns:
        `label` if there is one, else the only one; `None` if there is none, or there are several, if one is missing, if they have several
        columns or kinds, or have one value or too many.
    """
    names = [name for name in whole_labels(source) if name not in without]
    names = [LABEL] if LABEL in names else names
    if len(names) != 1 or not _is_one_kind(list(source.labels[names[0]].values())):
        return None
    labels = labels_by_split(source, views, names[0])
    everything = hashable(labels["all"])
    if everything.dtype.kind == "f" and np.isnan(everything).any():
        return None
    return (names[0], labels) if 2 <= len(np.unique(everything)) <= most else None


def _is_one_kind(parts: list[Array]) -> bool:
    """Tell whether labels are one value an example, and numbers or words in all parts."""
    kinds = {"i" if part.dtype.kind == "u" else part.dtype.kind for part in parts}
    return len(kinds) == 1 and all(part.ndim == 1 for part in parts)
