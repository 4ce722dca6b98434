"""`run.json`: what is known of a run, and the checksum of every file that is read again."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, final

from ..errors import RunError, first_line
from ._atomic import Writer, checksum, checksum_of, json_text, place_file, remove_beside, replace_text, write_beside

FORMAT = 1  # of a run's files; older ones are read, newer ones refused
FILES, CHECKSUM = "files", "checksum"
MOST_TEXT = 1 << 26  # bytes of a text file that is ours
PACKAGES = (
    "calibrae",
    "torch",
    "lightning-fabric",
    "safetensors",
    "datasets",
    "pyarrow",
    "pillow",
    "numpy",
    "scikit-learn",
)


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The file `run.json` of a run folder.

    Its entry `files` has, by name, the checksum of each file as it is to be, and until that file is in its place that of the one
    before: whenever a process is killed, each file is one of the two. Its entry `checksum` is its own.

    Attributes:
        folder: folder of the run.
    """

    folder: Path

    @property
    def file(self) -> Path:
        """Place of the file."""
        return self.folder / "run.json"

    def read(self) -> dict[str, Any]:
        """Everything that it says.

        Raises:
            RunError: if it is missing, damaged, or of a newer version.
        """
        stored = read_json(self.file)
        require_format(self.file, stored)
        claimed = stored.pop(CHECKSUM, None)
        try:
            is_whole = claimed == checksum_of(stored) and isinstance(stored[FILES], dict)
        except (ValueError, KeyError, RecursionError):
            is_whole = False
        if not is_whole:
            raise RunError(f"{self.file} is damaged: its checksum is wrong. Restore it from a copy, or train again.")
        return stored

    def commit(self, writers: Mapping[str, Writer], drop: Collection[str] = (), **entries: Any) -> None:
        """Write files, and entries of `run.json`; a process that is killed meanwhile leaves old and new files that are whole.

        Args:
            writers: by name of the file within the folder.
            drop: names of files that are removed, once the new ones are in their places.
            entries: entries of `run.json`.

        Raises:
            RunError: if there is no space or no right to write; all files are as before then.
        """
        known: dict[str, Any] = {"format": FORMAT, "command": sys.argv, "versions": versions()}
        if self.file.exists():
            known = self.read()
        listed: dict[str, list[str]] = known.get(FILES, {})
        beside: dict[str, Path] = {}
        try:
            for name, write in writers.items():
                beside[name] = write_beside(self.folder / name, write)
            for name, path in beside.items():
                listed[name] = [checksum(path), *self._present(name, listed)]
            kept = {name: sums for name, sums in listed.items() if name not in drop}
            stored = {**known, **entries, FILES: kept}
            replace_text(self.file, json_text({**stored, CHECKSUM: checksum_of(json.loads(json_text(stored)))}))
            for name in list(beside):
                place_file(beside.pop(name), self.folder / name)
        finally:
            for path in beside.values():
                remove_beside(path)
        for name in drop:
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)

    def _present(self, name: str, listed: Mapping[str, list[str]]) -> list[str]:
        """Checksum of the file that is there now, if it is one of those that are listed."""
        path = self.folder / name
        if name not in listed or not path.is_file():
            return []
        if len(listed[name]) == 1:
            return listed[name]
        found = checksum(path)
        return [found] if found in listed[name] else []

    def require_whole(self, name: str) -> Path:
        """Place of a file whose content is as it was written.

        Raises:
            RunError: if it is missing or damaged.
        """
        path, listed = self.folder / name, self.read()[FILES].get(name)
        if not path.is_file():
            raise RunError(f"{path} is missing. Restore it from a copy, or train again.")
        try:
            is_whole = listed is not None and checksum(path) in listed
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}.") from error
        if not is_whole:
            raise RunError(
                f"{path} is not as it was written: its checksum is wrong. Restore it from a copy, or train again."
            )
        return path


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of ours, which holds an object.

    Raises:
        RunError: if it is missing, too large, or something else.
    """
    text = read_text(path)
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read: {first_line(error)}. Restore it from a copy, or train again."
        ) from error
    if not isinstance(stored, dict):
        raise RunError(
            f"{path} must hold an object; got {type(stored).__name__}. Restore it from a copy, or train again."
        )
    return stored


def read_text(path: Path) -> str:
    """Read a text file of ours.

    Raises:
        RunError: if it is missing, too large, or no text.
    """
    try:
        if path.stat().st_size > MOST_TEXT:
            raise RunError(
                f"{path} is too large to be ours: {path.stat().st_size:,} bytes. Restore it from a copy, or train again."
            )
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise RunError(f"{path} cannot be read: {reason}. Restore it from a copy, or train again.") from error


def require_format(path: Path, stored: Mapping[str, Any]) -> None:
    """Raise `RunError` unless a file is of a version that is known here."""
    version = stored.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RunError(
            f"{path} does not say its format, so it is not of calibrae, or damaged. Restore it from a copy, or train again."
        )
    if version > FORMAT:
        raise RunError(
            f"{path} is of format {version}, written by a newer calibrae; this one reads up to {FORMAT}. Update: pip install -U calibrae"
        )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that move numbers."""
    return dict(_versions())


@cache
def _versions() -> Mapping[str, str]:
    """Versions, read once: each of them is a file that is searched for and parsed."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
