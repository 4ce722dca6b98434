"""Paths: one file, or a folder in which one kind of file is read and all others are counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import DataError
from .._registry import FILE_KINDS, FileKind, kind_of, known_files, reads
from .._source import Raw, Request, counted, listed, part_of
from ._names import NAMES


def _is_path(data: Any) -> bool:
    return isinstance(data, str | Path)


@reads("the path of a file or folder", _is_path, rank=20)
def read_path(data: str | Path, request: Request) -> Raw:
    """A file by its kind, or a folder.

    Raises:
        DataError: if there is nothing there that a reader knows.
    """
    if not str(data).strip():
        raise DataError("the path of the data is empty. Name a file or a folder; the current one is called `.`.")
    path = Path(data).expanduser()
    if not path.exists():
        hint = " The link leads nowhere." if path.is_symlink() else " Check the spelling."
        raise DataError(f"{data} is neither a path that exists nor one of {', '.join(NAMES)}.{hint}")
    kind = None if path.is_dir() else kind_of(path)
    if kind is None and not path.is_dir():
        raise DataError(f"{shown(path)}: unknown kind of file. Known: {known_files()}.")
    raw = read_folder(path, request) if kind is None else kind.read([path], path, request)
    return replace(raw, name=shown(path), place=str(path.resolve()))


def read_folder(folder: Path, request: Request) -> Raw:
    """The files of one kind in a folder: pictures from any nesting, others from the folder itself or where there is but one folder."""
    inventory = _Inventory(folder)
    if not inventory.files and not inventory.deep:
        raise DataError(
            f"{shown(folder)} holds no pictures and no other files that can be read. Known: {known_files()}. Check the path."
        )
    kind, files = inventory.chosen()
    raw = kind.read(files, inventory.root_of(kind), request)
    return replace(raw, notes=(*raw.notes, *inventory.left_out(kind, files)))


class _Inventory:
    """All files below a folder, by kind. Links are followed, each folder once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dead: list[str] = []
        self.by_kind: dict[str, list[Path]] = {}
        self.unknown: list[Path] = []
        everything = sorted(self._walk(folder))
        self.home = _only_folder(folder, everything)
        self.files = [file for file in everything if file.parent == self.home]
        self.deep = [file for file in everything if file.parent != self.home]
        for file in everything:
            kind = kind_of(file)
            if kind is None:
                self.unknown.append(file)
            elif kind.is_nested is True or file.parent == self.home or _is_part_folder(file.parent, self.home):
                self.by_kind.setdefault(kind.name, []).append(file)
            else:
                self.unknown.append(file)
        for kind in (kind for kind in FILE_KINDS if kind.is_nested == "if alone" and kind.name not in self.by_kind):
            found = [file for file in self.unknown if kind.accepts(file)]
            if found:
                self.by_kind[kind.name] = found
                self.unknown = [file for file in self.unknown if file not in found]

    def _walk(self, folder: Path) -> Iterator[Path]:
        seen: set[str] = set()
        for place, folders, files in os.walk(folder, followlinks=True):
            real = os.path.realpath(place)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if real in seen:  # a link to a folder that was read
                folders.clear()
                continue
            seen.add(real)
            for name in files:
                file = Path(place) / name
                if name.startswith("."):
                    continue
                if not file.exists():
                    self.dead.append(name)
                elif file.is_file():
                    yield file

    def chosen(self) -> tuple[FileKind, list[Path]]:
        """The kind that is read, and its files."""
        for kind in FILE_KINDS:
            if kind.name in self.by_kind and not self._belongs_to_pictures(kind):
                return kind, self.by_kind[kind.name]
        names = [shown(file.relative_to(self.folder)) for file in self.unknown]
        raise DataError(
            f"{shown(self.folder)} holds no pictures and no other files that can be read: {listed(names)}. Known: {known_files()}."
        )

    def _belongs_to_pictures(self, kind: FileKind) -> bool:
        """Tell whether a table beside pictures holds what is known of them."""
        return kind.rank > PICTURES_RANK and "pictures" in self.by_kind

    def root_of(self, kind: FileKind) -> Path:
        """Folder that the names of the files start from."""
        return self.folder if kind.is_nested is True else self.home

    def left_out(self, kind: FileKind, files: Sequence[Path]) -> Iterator[str]:
        """Notes on what was there and was not read."""
        taken = set(files)
        others = {
            name: [f for f in found if f not in taken] for name, found in self.by_kind.items() if name != kind.name
        }
        for name, found in others.items():
            if found:
                yield f"{kind.name} were read; {counted(len(found), 'file')} of {name} left out ({listed([f.name for f in found], 3)})"
        strangers = Counter(file.suffix.lower() or "without a suffix" for file in self.unknown)
        if strangers:
            common = sorted(strangers.items(), key=lambda item: (-item[1], item[0]))
            each = listed([f"{suffix} ({count})" for suffix, count in common])
            yield f"{counted(sum(strangers.values()), 'other file')} left out: {each}"
        if self.dead:
            yield f"{counted(len(self.dead), 'dead link')} left out: {listed([shown(Path(n)) for n in self.dead])}"


PICTURES_RANK = 20  # tables and arrays come after it


def _only_folder(folder: Path, files: Sequence[Path]) -> Path:
    """The folder itself, or the one folder below it that holds everything."""
    while files and not any(file.parent == folder for file in files):
        below = {file.relative_to(folder).parts[0] for file in files}
        if len(below) != 1:
            break
        folder = folder / next(iter(below))
    return folder


def _is_part_folder(folder: Path, home: Path) -> bool:
    """Tell whether a folder right below is called like a part: `train/a.csv`."""
    return folder.parent == home and part_of(folder.name) is not None


def shown(path: Path) -> str:
    """Path for messages and records: bytes that are not UTF-8 are written out.

    Examples:
        >>> shown(Path("a/b.png"))
        'a/b.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")
