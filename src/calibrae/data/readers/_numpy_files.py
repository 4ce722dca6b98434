"""NumPy files: `.npy`, `.npz`, and folders of one `.npy` an example."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import DataError, first_line
from .. import _cache
from .._mapped import in_memory_if_small
from .._registry import reads_files
from .._source import Array, Part, Raw, Request, counted, listed, part_of, speaks_of_labels
from ._frames import is_structured, read_frame
from ._labels import CLASS, add_part, labelled, pool, with_classes
from ._mappings import read_mapping
from ._pictures import split_by_folder

BLOCK = 256


@reads_files("NumPy archives", (".npz",), rank=45)
def read_npz(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """An archive with one array, or arrays called `train`, `test`, ... (`x_train`, ... too)."""
    if len(files) > 1:
        raise DataError(f"{root} holds {len(files)} .npz files ({listed([f.name for f in files])}). Pass one of them.")
    path = files[0]
    arrays = _load_npz(path)
    named: dict[Part, Array] = {}
    labels: dict[Part, Array] = {}
    for key, array in arrays.items():
        part = part_of(key)
        if speaks_of_labels(key) and array.ndim > 0 and array.size == len(array):  # [N], or [N, 1]
            labels[part or "all"] = array.reshape(-1)
        elif part is not None and not speaks_of_labels(key) and (array.ndim > 1 or is_structured(array)):
            add_part(named, part, array, f"{path} ({key})")
    others = [key for key in arrays if not speaks_of_labels(key)]
    if not named and len(others) == 1:
        named = {"all": arrays[others[0]]}
    if not named:
        raise DataError(
            f"{path} must hold one array, or arrays called train, test (x_train, ...); got {listed(list(arrays))}. "
            "Save the one that is meant as .npy."
        )
    unused = [key for key in others if not any(arrays[key] is array for array in named.values())]
    notes = (f"arrays that were left out: {listed(unused)}",) if unused else ()
    return labelled(_raw(path, pool(named), request, notes), pool(labels, named), request.options)


@reads_files("NumPy files", (".npy",), rank=50, is_nested="if alone")
def read_npy(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """One array; files called `train`, `test`, ...; or one array an example."""
    if root.is_file():
        return _raw(root, {"all": load_numpy(root)}, request)
    if len({file.parent for file in files}) == 1:
        root = files[0].parent
    named = {file: part_of(file.stem) for file in files}
    parts: dict[Part, Array] = {}
    labels: dict[Part, Array] = {}
    for file, part in named.items():
        if part is not None and file.parent == root:
            add_part(labels if speaks_of_labels(file.stem) else parts, part, load_numpy(file), file.name)
    if "train" in parts:
        unused = [file.name for file, part in named.items() if part is None]
        notes = (f"arrays that were left out: {listed(unused)}",) if unused else ()
        return labelled(_raw(root, parts, request, notes), labels, request.options)
    told = [file for file in files if speaks_of_labels(file.stem) and file.parent == root]
    others = [file for file in files if file not in told]
    if len(others) == 1:
        found: dict[Part, Array] = {"all": load_numpy(told[0]).reshape(-1)} if len(told) == 1 else {}
        return labelled(_raw(root, {"all": load_numpy(others[0])}, request), found, request.options)
    return _one_each(others, root, request)


def _raw(root: Path, parts: dict[Part, Array], request: Request, notes: tuple[str, ...] = ()) -> Raw:
    """The arrays, column by column where their columns have names."""
    if not any(is_structured(array) for array in parts.values()):
        return Raw(str(root), parts, notes=notes)
    raw = read_frame(parts["all"], request) if "all" in parts else read_mapping(parts, request)
    return replace(raw, name=str(root), notes=(*raw.notes, *notes))


def _one_each(files: Sequence[Path], root: Path, request: Request) -> Raw:
    """A folder of one array an example, in the order of the names; its folders tell the parts."""
    groups, notes, home = split_by_folder(files, root)
    key = _cache.hash_files(
        files, root, kind="one .npy an example", parts={part: len(group) for part, group in groups.items()}
    )
    if not _cache.has(key):
        _cache.write(key, {part: _stacked(group, files[0]) for part, group in groups.items()}, dict)
    arrays = _cache.read(key)[0]
    parts: dict[Part, Array] = {part: _as_pictures(arrays[part]) for part in groups}
    shape = next(iter(parts.values())).shape[1:]
    notes.append(f"one array of shape {shape} an example, {counted(len(files), 'file')} in the order of their names")
    names = {part: [str(file.relative_to(root)) for file in group] for part, group in groups.items()}
    raw = Raw(str(root), parts, key, names=names, notes=tuple(notes))
    return with_classes(raw, home, asked=CLASS in request.options.conditions)


def _as_pictures(array: Array) -> Array:
    """Slices `[N, H, W]` of floats with a channel."""
    return array[:, None] if array.ndim == 3 and array.dtype.kind == "f" else array


def _stacked(files: Sequence[Path], example: Path) -> Iterator[Array]:
    first = load_numpy(example)
    rest = iter(files)
    while group := list(itertools.islice(rest, BLOCK)):
        arrays = [load_numpy(file) for file in group]
        wrong = next((f for f, a in zip(group, arrays, strict=True) if a.shape != first.shape), None)
        other = next(
            (f for f, a in zip(group, arrays, strict=True) if a.dtype.kind != first.dtype.kind and a.ndim > 1), None
        )
        if wrong is None and other is not None:
            raise DataError(
                f"arrays of one folder must hold numbers of one kind; {example.name} and {other.name} differ. Convert them to one."
            )
        if wrong is not None:
            shape = load_numpy(wrong).shape
            raise DataError(
                f"a folder of one .npy an example must hold arrays of one shape; {example.name} has {first.shape}, {wrong.name} has "
                f"{shape}. Stack the examples into one array, and save it with numpy.save."
            )
        yield np.stack(arrays)


def load_numpy(path: Path) -> Array:
    """One `.npy` file, memory-mapped if it is large."""
    try:
        array: Array = in_memory_if_small(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # NumPy raises many kinds for damaged headers
        raise DataError(f"{path} cannot be read as a NumPy file: {_plainly(error)}.") from error
    return array


def _load_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            found = {key: stored[key] for key in stored.files}
    except Exception as error:  # zip, zlib and NumPy raise many kinds for damaged files
        raise DataError(f"{path} cannot be read as a NumPy file: {_plainly(error)}.") from error
    strange = [key for key, array in found.items() if not isinstance(array, np.ndarray)]  # NumPy gives their bytes
    if strange:
        raise DataError(
            f"{path} must hold arrays alone; got other files: {ascii(listed(strange))[1:-1]}. Save the arrays anew."
        )
    return found


def _plainly(error: Exception) -> str:
    """First line of a message, with what cannot be printed written out."""
    return ascii(first_line(error, 200))[1:-1]
