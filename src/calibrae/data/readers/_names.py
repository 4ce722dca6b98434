"""Well-known data by name: the bundled digits, and the hub's data sets through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._registry import reads
from .._source import LABEL, Array, Part, Raw, Request, part_of


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
OF_RUNS = ("config.toml", ".lock")  # what a run's folder holds, as soon as it is made


def _is_name(data: Any) -> bool:
    """Tell whether this is a name; a run may be called like the data that it was trained on."""
    if not isinstance(data, str) or data not in NAMES:
        return False
    return not Path(data).exists() or any((Path(data) / name).exists() for name in OF_RUNS)


@reads(f"a name ({', '.join(NAMES)})", _is_name, rank=10)
def read_name(name: str, request: Request) -> Raw:
    """`digits`, or a data set of the hub, fetched once by `datasets` and decoded once into the cache."""
    return replace(_digits() if name == "digits" else _from_hub(name, HUB[name], request), place=name)


def _digits() -> Raw:
    """The digits of scikit-learn, from the cache after the first time: they are read in milliseconds, and importing it takes a second."""
    known: dict[Any, Array] = {}
    key = None
    with suppress(PackageNotFoundError, DataError, OSError):  # a cache that cannot be used is no reason to stop
        key = _cache.key_of("digits", _cache.REVISION, version("scikit-learn"))
        known = dict(_cache.read(key)[0]) if _cache.has(key) else {}
    if not known:
        from sklearn.datasets import load_digits

        digits = load_digits()
        known = {"all": digits.images.astype(np.uint8)[:, None], LABEL: digits.target}
        with suppress(DataError, OSError):
            if key is not None:
                _cache.write(key, {name: [values] for name, values in known.items()}, dict)
    return Raw("digits", {"all": known["all"]}, labels={LABEL: {"all": known[LABEL]}})


def _from_hub(name: str, entry: HubEntry, request: Request) -> Raw:
    import datasets

    from ._pictures import Openers, decode

    options = request.options
    try:
        loaded = datasets.load_dataset(entry.path, entry.config)
    except Exception as error:  # the hub's client raises many kinds, all of which mean the same to the user
        raise DataError(
            f"{name} ({entry.path}) cannot be fetched from the hub: {first_line(error, 300)} Go online once, or pass the path of a copy on disk."
        ) from error
    parts: dict[Part, Openers] = {}
    fingerprints, left_out = [], []
    for split, table in loaded.items():
        part = part_of(str(split))
        if part is None:
            left_out.append(str(split))
            continue
        parts[part] = partial(_cells, f"{name} {split}", table, entry.column)
        fingerprints.append(str(getattr(table, "_fingerprint", len(table))))
    raw = decode(name, _cache.key_of(name, *fingerprints), parts, request)
    if left_out:
        raw = replace(raw, notes=(*raw.notes, f"splits that were left out: {', '.join(left_out)}"))
    labels: dict[str, dict[Part, Array]] = {}
    for condition in options.conditions:
        for split, table in loaded.items():
            part = part_of(str(split))
            if part is not None and condition in table.column_names:
                labels.setdefault(condition, {})[part] = np.asarray(table[condition])
    return replace(raw, labels=labels) if options.conditions else raw


def _cells(name: str, table: Any, column: str) -> Iterator[Any]:
    import datasets

    encoded = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    for row in range(len(encoded)):
        yield f"{name} row {row}", partial(_open_row, encoded, row, column)


def _open_row(table: Any, row: int, column: str) -> Any:
    from ._pictures import open_bytes

    return open_bytes(table[row][column]["bytes"])
