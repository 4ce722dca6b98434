"""Splits: given ones as they are, missing ones held out; and examples that are in two of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .._noise import mixed_seed
from .._types import Split
from ..errors import DataError
from ._source import DataOptions, Part, Source, counted
from ._view import Joined, View

MOST_VALIDATION, MOST_TEST = 5_000, 10_000
MOST_COMPARED = 1 << 30  # bytes in which equal examples are looked for
ROWS = 4096


def unsplit_views(source: Source) -> tuple[dict[Split, View], dict[str, str]]:
    """Given parts as they are; each other split is all examples."""
    names: tuple[Split, ...] = ("train", "validation", "test")
    parts = list(source.parts.values())
    everything = View(parts[0] if len(parts) == 1 else Joined(parts))
    views = {name: View(source.parts[name]) if name in source.parts else everything for name in names}
    return views, {name: "given" if name in source.parts else "all examples, as given" for name in names}


def split_views(source: Source, options: DataOptions) -> tuple[dict[Split, View], dict[str, str]]:
    """Given parts as they are; what is missing is held out of the training examples."""
    parts: dict[Part, View] = {part: View(array) for part, array in source.parts.items()}
    provenance = {str(part): source.origins.get(part, "given") for part in parts}
    if {"all", "train"} <= parts.keys():
        raise DataError(
            f"{source.name}: data beside a training part must belong to one of train, validation, test. Name their part."
        )
    if "all" in parts:
        parts["train"] = parts.pop("all")
        provenance["train"] = "all examples"
    everything = len(parts["train"]) if "train" in parts else 0
    missing: tuple[tuple[Split, float, int, int], ...] = (
        ("test", options.test_fraction, MOST_TEST, 0),
        ("validation", options.validation_fraction, MOST_VALIDATION, 1),
    )
    for name, fraction, most, stream in missing:
        if name not in parts:
            pool = parts["train"]
            count = _held_out(source.name, len(pool), fraction, most, everything)
            parts["train"], parts[name] = _part(pool, count, mixed_seed(options.split_seed, stream))
            provenance[name] = f"{count} of the {len(pool)} training examples, split seed {options.split_seed}"
            provenance["train"] = provenance["train"].split(",")[0] + ", without what was held out"
    names: tuple[Split, ...] = ("train", "validation", "test")
    return {name: parts[name] for name in names}, {name: provenance[name] for name in names}


def _held_out(name: str, count: int, fraction: float, most: int, everything: int) -> int:
    held_out = min(most, max(1, round(count * fraction)))
    if count - held_out < 2:
        raise DataError(
            f"{name}: at least 4 examples are needed to hold some out for validation and test and train on the rest; got "
            f"{everything}. Add examples."
        )
    return held_out


def _part(pool: View, count: int, seed: int) -> tuple[View, View]:
    """All but `count` rows, and `count` rows, each in the stored order."""
    order = np.random.default_rng(seed).permutation(len(pool))
    rows = np.arange(len(pool)) if pool.index is None else pool.index
    return View(pool.array, rows[np.sort(order[count:])]), View(pool.array, rows[np.sort(order[:count])])


def duplicates(views: Mapping[Split, View]) -> Iterator[str]:
    """Notes on examples of the test and validation sets that are training examples too, value for value."""
    train = views["train"]
    size = sum(len(view) for view in views.values()) * train.slice(0, 1).nbytes
    if size > MOST_COMPARED or train.sample is not None:
        place = "a stream" if train.sample is not None else f"{size / 2**30:.1f} GiB"
        yield f"equal examples in training and test set were not looked for, in {place}"
        return
    known = _digests(train)
    for name in ("test", "validation"):
        view = views[name]
        if view.array is train.array and view.index is train.index:
            continue
        shared = sum(digest in known for digest in _all_digests(view))
        if shared:
            share = shared / len(view)
            yield (
                f"{counted(shared, 'example')} of the {name} set ({share:.1%}) equal training examples: if they are copies, its numbers "
                "are better than those of new data"
            )


def _all_digests(view: View) -> Iterator[int]:
    for rows in view.sliced(ROWS):
        yield from (hash(row.tobytes()) for row in rows.numpy())


def _digests(view: View) -> set[int]:
    return set(_all_digests(view))
