"""Files that appear whole or not at all, and stay after a power cut."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import RunError, first_line

PARTIAL = ".partial"  # in the names of files that are being written
Writer = Callable[[Path], None]


def replace_file(path: Path, write: Writer) -> None:
    """Write a file beside its place, bring it to the disk, and move it to its place when it is whole.

    Args:
        path: the file's place; its folder is made if need be.
        write: writes the content to the path that it is given.

    Raises:
        RunError: if there is no space or no right to write.
    """
    place_file(write_beside(path, write), path)


def write_beside(path: Path, write: Writer) -> Path:
    """Write the content of a file beside its place and bring it to the disk; the process's umask decides who may read it.

    Returns:
        Place of the content, for `place_file`.

    Raises:
        RunError: if there is no space or no right to write.
    """
    beside = path.parent / f".{secrets.token_hex(4)}{PARTIAL}" / path.name
    try:
        beside.parent.mkdir(parents=True)  # a folder of its own, as libraries write through files of their own
        beside.touch(exist_ok=False)
        mode = beside.stat().st_mode
        write(beside)
        beside.chmod(mode)
        _bring_to_disk(beside)
    except BaseException as error:
        remove_beside(beside)
        cause = _disk_error(error)
        if cause is None:
            raise
        raise _unwritable(path, cause) from error
    return beside


def place_file(beside: Path, path: Path) -> None:
    """Move what `write_beside` wrote to its place."""
    try:
        beside.replace(path)
        _bring_to_disk(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        remove_beside(beside)


def remove_beside(beside: Path) -> None:
    """Remove what `write_beside` wrote, with its folder."""
    shutil.rmtree(beside.parent, ignore_errors=True)


def _bring_to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk and not in memory alone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():  # not every system opens folders
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (
            errno.EINVAL,
            errno.ENOTSUP,
            errno.EBADF,
        ):  # a file system that cannot, or a system that must write to do it
            raise
    finally:
        os.close(handle)


def _disk_error(error: BaseException) -> OSError | None:
    """Find the system's error behind one of a library that writes files by itself; `None` for an error of another kind."""
    if isinstance(error, OSError):
        return error
    found = re.search(
        r"\(os error (\d+)\)|Os \{ code: (\d+)", str(error)
    )  # as Rust shows it to people, and to programmers
    code = int(found[1] or found[2]) if found else None
    return None if code is None else OSError(code, os.strerror(code))


def _unwritable(path: Path, error: OSError) -> RunError:
    reason = error.strerror or first_line(error)
    return RunError(
        f"{path} cannot be written: {reason}. Free some space there, or choose a place with space and rights."
    )


def replace_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    replace_file(path, text_writer(text))


def text_writer(text: str) -> Writer:
    """Writer of a text file."""

    def write(beside: Path) -> None:
        beside.write_text(text, encoding="utf-8")

    return write


def json_text(value: Any) -> str:
    """Write a value as JSON, with a line for each entry."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def replace_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    replace_text(path, json_text(value))


def remove_partial(folder: Path) -> None:
    """Remove what killed processes have left half-written in a folder; to be called by its one writer."""
    for left in folder.glob(f".*{PARTIAL}"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def checksum(path: Path) -> str:
    """Hash of a file's content, 128 bits of BLAKE2b."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def checksum_of(value: Any) -> str:
    """Hash of plain data, whatever the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
