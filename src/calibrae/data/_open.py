"""Open any data: a name, a path, an array, a tensor, or a Dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from ..errors import DataError
from . import _cache, _files, _hub, _pictures
from ._arrays import from_array, from_iterable
from ._condition import hashable
from ._source import Array, DataOptions, Part, Source, part_of, speaks_of_labels

KEPT = "cache:"  # what the place of data begins with that came from Python and are kept
MOST_KEPT = 1 << 30  # bytes
TABLE_SUFFIXES = (".parquet", ".csv", ".tsv")
NUMPY_SUFFIXES = (".npy", ".npz")


def open_source(data: Any, options: DataOptions | None = None) -> Source:
    """Stored data from whatever the user has.

    Args:
        data: a name (`digits`, `mnist`, `fashion-mnist`, `cifar10`, `cifar100`, `svhn`, `celeba`); the path of a folder
            of pictures, of IDX, Parquet or CSV files, or of one such file or `.npy`/`.npz`; an array or tensor
            `[N, *data]`; a dict of such with the keys `train`, `validation`, `test`; a map-style or finite iterable
            Dataset.
        options: how to read it.

    Raises:
        DataError: if it cannot be read, with what was found and what to do.
    """
    options = options or DataOptions()
    if isinstance(data, Source):
        return data
    if isinstance(data, str | Path):
        return _open_path_or_name(data, options)
    if isinstance(data, Mapping):
        return _open_mapping(data, options)
    if (
        options.condition is not None
        and hasattr(data, "to_numpy")
        and options.condition in getattr(data, "columns", ())
    ):
        column = np.asarray(data[options.condition])
        source = open_source(data.drop(columns=[options.condition]), replace(options, condition=None))
        return replace(source, labels={options.condition: {"all": column}})
    array = _as_array(data)
    if array is not None:
        columns = tuple(map(str, getattr(data, "columns", ())))  # of a data frame
        return from_array("array", {"all": array}, options, columns=columns)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, IterableDataset):
        return from_iterable(type(data).__name__, (data[i] for i in range(len(data))), options)
    if isinstance(data, Iterable):
        return from_iterable(type(data).__name__, data, options)
    raise DataError(f"data must be a name, a path, an array, a tensor or a Dataset; got {type(data).__name__}.")


def _as_array(data: Any) -> Array | None:
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        array: Array = (data.float() if data.dtype == torch.bfloat16 else data).numpy()
        return array
    if hasattr(data, "to_numpy") and hasattr(data, "columns"):  # a data frame
        return np.asarray(data.to_numpy())
    return data if isinstance(data, np.ndarray) else None


def _open_mapping(data: Mapping[str, Any], options: DataOptions) -> Source:
    parts: dict[Part, Array] = {}
    for name, value in data.items():
        part, array = part_of(str(name)), _as_array(value)
        if part is None or array is None:
            raise DataError(
                f"a dict of data must map train, validation or test to arrays; got {name!r}: {type(value).__name__}."
            )
        parts[part] = array
    if "train" not in parts:
        raise DataError(f"a dict of data must have the key train; got {', '.join(data)}.")
    return from_array("arrays", parts, options)


def _open_path_or_name(data: str | Path, options: DataOptions) -> Source:
    path = Path(data).expanduser()
    if str(data).startswith(KEPT):
        return _open_kept(str(data).removeprefix(KEPT))
    if str(data) in _hub.NAMES and (not path.exists() or (path / "config.toml").exists()):
        return _hub.open_name(str(data), options)  # a run may be called like the data that it was trained on
    if not path.exists():
        raise DataError(f"{data} is neither a path that exists nor one of {', '.join(_hub.NAMES)}. Check the spelling.")
    if path.is_dir():
        return _open_folder(path, options)
    if _files.is_idx(path):
        return _files.open_idx([path], path, options)
    if path.suffix in TABLE_SUFFIXES:
        return _files.open_tables([path], path, options)
    if path.suffix in NUMPY_SUFFIXES:
        return _files.open_numpy(path, options)
    if path.suffix.lower() in _pictures.SUFFIXES:
        raise DataError(f"{path} is one picture; a model needs many. Pass the folder that holds them.")
    raise DataError(
        f"{path}: unknown kind of file. Known: IDX .gz, .npy, .npz, .parquet, .csv, .tsv, folders of pictures."
    )


def _open_folder(folder: Path, options: DataOptions) -> Source:
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    idx = [f for f in files if _files.is_idx(f)]
    if idx:
        return _files.open_idx(idx, folder, options)
    has_pictures = bool(_pictures.list_pictures(folder))
    for suffix in TABLE_SUFFIXES:
        tables = [f for f in files if f.suffix == suffix]
        if tables and not (has_pictures and suffix != ".parquet"):  # beside pictures, a CSV holds their labels
            return _files.open_tables(tables, folder, options)
    arrays = [f for f in files if f.suffix == ".npy"]
    if arrays and not has_pictures:
        return _open_npy_folder(arrays, folder, options)
    return _pictures.open_folder(folder, options)


def _open_npy_folder(files: list[Path], folder: Path, options: DataOptions) -> Source:
    parts: dict[Part, Array] = {}
    for file in files:
        part = part_of(file.stem)
        if part is not None and not speaks_of_labels(file.stem):
            parts[part] = _files.load_numpy(file)
    if "train" not in parts:
        raise DataError(
            f"{folder} must hold train.npy (and test.npy); got {', '.join(f.name for f in files)}. Pass one file."
        )
    return from_array(str(folder), parts, options)


def keep_source(source: Source) -> str | None:
    """Keep data that came from Python in the cache, so that their run can be evaluated from its folder; returns their place.

    Returns:
        `cache:KEY`; `None` if they are over a gigabyte.
    """
    size = sum(array.nbytes for array in source.parts.values())
    if size > MOST_KEPT:
        return None
    labels = {name: {part: hashable(values) for part, values in parts.items()} for name, parts in source.labels.items()}
    facts = {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "levels": source.levels,
        "columns": list(source.columns),
        "notes": list(source.notes),
        "labels": list(labels),
    }
    hashes = [_cache.hash_array(values) for by_part in labels.values() for values in by_part.values()]
    key = hashlib.blake2b(repr(("kept", facts, list(source.parts), hashes)).encode(), digest_size=16).hexdigest()
    if not _cache.has(key):
        blocks: dict[Any, Any] = {part: [array] for part, array in source.parts.items()}
        for number, by_part in enumerate(labels.values()):
            blocks |= {f"labels{number}@{part}": [values] for part, values in by_part.items()}
        _cache.write(key, blocks, lambda: facts)
    return KEPT + key


def _open_kept(key: str) -> Source:
    """Data that `keep_source` kept.

    Raises:
        DataError: if they are no longer in the cache.
    """
    if not _cache.has(key):
        raise DataError(
            f"the run's data came from Python and are no longer in the cache {_cache.cache_root()}. Pass them: evaluate(run, data=...)."
        )
    arrays, facts = _cache.read(key)
    entries: dict[str, Any] = {str(name): array for name, array in arrays.items()}
    labels: dict[str, dict[Part, Array]] = {}
    for entry in [name for name in entries if "@" in name]:
        number, _, part = entry.removeprefix("labels").partition("@")
        labels.setdefault(facts["labels"][int(number)], {})[part] = entries.pop(entry)  # type: ignore[index]
    return Source(
        facts["name"],
        entries,  # type: ignore[arg-type]
        facts["fingerprint"],
        facts["levels"],
        tuple(facts["columns"]),
        labels=labels,
        notes=tuple(facts["notes"]),
    )
