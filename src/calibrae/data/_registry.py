"""Registry of readers: each says what it reads, and gives `Raw`, or a `Source` whose meaning was settled before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from ._source import Raw, Request, Source

Read: TypeAlias = Callable[[Any, Request], Raw | Source]
ReadType = TypeVar("ReadType", bound=Read)
ReadFiles: TypeAlias = Callable[[Sequence[Path], Path, Request], Raw]


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of things in Python.

    Attributes:
        name: words for people.
        accepts: tells whether it reads a thing.
        read: reads it.
        rank: readers of a lower rank are asked first.
    """

    name: str
    accepts: Callable[[Any], bool]
    read: Read
    rank: int


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: words for people, in the plural.
        suffixes: how such files are called, for messages.
        accepts: tells whether a file is of this kind.
        read: reads the files of one folder, or one file.
        rank: place in the order of kinds: that of the lowest rank is read where a folder holds several.
        is_nested: whether a folder's folders are searched too; `"if alone"`: where the folder itself holds no file of the kind.
    """

    name: str
    suffixes: tuple[str, ...]
    accepts: Callable[[Path], bool]
    read: ReadFiles
    rank: int
    is_nested: bool | Literal["if alone"] = False


READERS: list[Reader] = []
FILE_KINDS: list[FileKind] = []


def reads(name: str, accepts: Callable[[Any], bool], *, rank: int) -> Callable[[ReadType], ReadType]:
    """Register a function as the reader of what `accepts` accepts."""

    def register(read: ReadType) -> ReadType:
        READERS.append(Reader(name, accepts, read, rank))
        READERS.sort(key=lambda reader: reader.rank)
        return read

    return register


def reads_files(
    name: str,
    suffixes: Sequence[str],
    *,
    rank: int,
    accepts: Callable[[Path], bool] | None = None,
    is_nested: bool | Literal["if alone"] = False,
) -> Callable[[ReadFiles], ReadFiles]:
    """Register a function as the reader of files of a kind; by default those whose name ends in one of the suffixes."""
    endings = tuple(suffixes)

    def by_suffix(file: Path) -> bool:
        return file.suffix.lower() in endings

    def register(read: ReadFiles) -> ReadFiles:
        FILE_KINDS.append(FileKind(name, endings, accepts or by_suffix, read, rank, is_nested))
        FILE_KINDS.sort(key=lambda kind: kind.rank)
        return read

    return register


def known_files() -> str:
    """All kinds of files, for messages."""
    return ", ".join(f"{kind.name} ({', '.join(kind.suffixes)})" for kind in FILE_KINDS)


def kind_of(file: Path) -> FileKind | None:
    """Kind of a file; `None` if no reader knows it."""
    return next((kind for kind in FILE_KINDS if kind.accepts(file)), None)


def read(data: Any, request: Request) -> Raw | Source | None:
    """Let the first reader that accepts the data read them; `None` if none does."""
    for reader in READERS:
        if reader.accepts(data):
            return reader.read(data, request)
    return None
