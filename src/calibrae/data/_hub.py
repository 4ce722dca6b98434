"""Well-known data by name: the bundled digits, and the hub's data sets through `datasets`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from PIL.Image import Image

from ..errors import DataError, first_line
from . import _pictures
from ._arrays import from_array
from ._source import Array, DataOptions, Part, Source, part_of


@dataclass(frozen=True, slots=True)
class HubEntry:
    """Place of a data set on the hub.

    Attributes:
        path: repository.
        column: its column of images.
        config: its configuration, if it has several.
    """

    path: str
    column: str
    config: str | None = None


HUB: dict[str, HubEntry] = {
    "mnist": HubEntry("ylecun/mnist", "image"),
    "fashion-mnist": HubEntry("zalando-datasets/fashion_mnist", "image"),
    "cifar10": HubEntry("uoft-cs/cifar10", "img"),
    "cifar100": HubEntry("uoft-cs/cifar100", "img"),
    "svhn": HubEntry("ufldl-stanford/svhn", "image", "cropped_digits"),
    "celeba": HubEntry("flwrlabs/celeba", "image"),
}
NAMES = ("digits", *HUB)


def open_name(name: str, options: DataOptions) -> Source:
    """`digits`, or a data set of the hub, fetched once by `datasets` and decoded once into the cache."""
    if name == "digits":
        return _digits(options)
    return _from_hub(name, HUB[name], options)


def _digits(options: DataOptions) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    source = from_array("digits", {"all": digits.images.astype(np.uint8)[:, None]}, options)
    return replace(source, labels={"label": {"all": digits.target}})


def _from_hub(name: str, entry: HubEntry, options: DataOptions) -> Source:
    import datasets

    try:
        loaded = datasets.load_dataset(entry.path, entry.config)
    except Exception as error:  # the hub's client raises many kinds, all of which mean the same to the user
        raise DataError(
            f"{name} ({entry.path}) cannot be fetched from the hub: {first_line(error, 300)} Go online once, or pass the path of a copy on disk."
        ) from error
    parts: dict[Part, _pictures.Openers] = {}
    fingerprints = []
    for split, table in loaded.items():
        part = part_of(str(split))
        if part is not None:
            parts[part] = partial(_cells, f"{name} {split}", table, entry.column)
            fingerprints.append(str(getattr(table, "_fingerprint", len(table))))
    described = [name, *fingerprints, str(options.size), options.resize, str(options.skip_broken)]
    key = hashlib.blake2b("\0".join(described).encode(), digest_size=16).hexdigest()
    source = _pictures.decode(name, key, parts, options)
    if options.condition is None:
        return source
    labels: dict[Part, Array] = {}
    for split, table in loaded.items():
        part = part_of(str(split))
        if part is not None and options.condition in table.column_names:
            labels[part] = np.asarray(table[options.condition])
    return replace(source, labels={options.condition: labels} if labels else {})


def _cells(name: str, table: Any, column: str) -> Iterator[_pictures.Opener]:
    import datasets

    encoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    for row in range(len(encoded)):
        yield f"{name} row {row}", partial(_open_row, encoded, row, column)


def _open_row(table: Any, row: int, column: str) -> Image:
    return _pictures.open_bytes(table[row][column]["bytes"])
