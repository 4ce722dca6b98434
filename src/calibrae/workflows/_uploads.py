"""Files that people send: kept below one folder, whatever they are called, and never more than fits."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..errors import CalibraeError, DataError, first_line
from ..runs import RunFolder
from ._runs import runs_in

UPLOADS = ".uploads"
MOST_BYTES, MOST_FILES = 4 << 30, 200_000
PIECE = 1 << 20
ODD = re.compile(r"[^A-Za-z0-9._ -]")
IGNORED = ("__MACOSX", ".DS_Store")


def keep_uploads(files: Sequence[str | Path], folder: str | Path) -> Path:
    """Keep files that somebody has sent, in a new folder below `folder/.uploads`; a zip file is unpacked.

    Args:
        files: where they are now.
        folder: folder of the runs.

    Returns:
        The file, if it is one; else the folder that holds them.

    Raises:
        DataError: if there are none, they are too many or too large, or a zip file is damaged, encrypted, or has names that climb
            out of it. Nothing of it stays.
    """
    paths = [Path(file) for file in files]
    is_zip = any(path.suffix.lower() == ".zip" for path in paths)
    if not paths:
        raise DataError("choose one file at least; got none.")
    if is_zip and len(paths) > 1:
        raise DataError("a zip file must come alone; got others beside it. Put all into one zip file.")
    place = Path(folder) / UPLOADS / _digest(paths)
    if not place.is_dir():  # what came before is there already
        beside = place.with_name(f"{place.name}.{os.urandom(4).hex()}")
        beside.mkdir(parents=True)
        try:
            _unpack(paths[0], beside) if is_zip else _copy(paths, beside)
            beside.rename(place)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return _single(place)


def forget_uploads(folder: str | Path, wanted: Iterable[str] = ()) -> None:
    """Remove what was sent and no run was trained on.

    Args:
        folder: folder of the runs.
        wanted: places that are still needed.
    """
    uploads = Path(folder) / UPLOADS
    if not uploads.is_dir():
        return
    used = {str(Path(place).resolve()) for place in wanted}
    for path in runs_in(Path(folder)):
        with suppress(CalibraeError, OSError, KeyError, AttributeError):
            used.add(str(RunFolder(path).read_config()["data"].get("source")))
    for place in uploads.iterdir():
        inside = str(place.resolve())
        if not any(source == inside or source.startswith(inside + os.sep) for source in used):
            shutil.rmtree(place, ignore_errors=True)


def _digest(paths: Sequence[Path]) -> str:
    """Name that files have by what is in them, and what they are called."""
    found = hashlib.blake2b(digest_size=8)
    for path in sorted(paths, key=lambda path: path.name):
        found.update(path.name.encode(errors="replace"))
        with path.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()


def _copy(paths: Sequence[Path], place: Path) -> None:
    if len(paths) > MOST_FILES or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        raise DataError(_too_much())
    for path in paths:
        target = place / safe_name(path.name)
        if target.exists():
            raise DataError(f"files must have different names; got {target.name} twice.")
        shutil.copyfile(path, target)


def safe_name(name: str) -> str:
    """A file name without what a file system or a shell could take for something else; its ending stays.

    Examples:
        >>> safe_name("../../etc/passwd"), safe_name("a$(rm).png"), safe_name("..")
        ('passwd', 'a__rm_.png', 'file')
    """
    cleaned = ODD.sub("_", PurePosixPath(name.replace("\\", "/")).name)[-120:].lstrip(". -")
    return cleaned or "file"


def _unpack(path: Path, place: Path) -> None:
    """Unpack a zip file, counting what really comes out of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir() and not _is_ignored(entry.filename)]
            if len(entries) > MOST_FILES:
                raise DataError(_too_much())
            left = MOST_BYTES
            for entry in entries:
                left -= _extract(archive, entry, place / _inside(entry), left)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(f"{path.name} cannot be unpacked: {first_line(error)}. Pack it again.") from error
    if not any(place.iterdir()):
        raise DataError(f"{path.name} holds no files.")


def _inside(entry: zipfile.ZipInfo) -> Path:
    """Place of an entry below the folder it is unpacked to.

    Raises:
        DataError: if it would be elsewhere, or is no file.
    """
    name = entry.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    mode = entry.external_attr >> 16
    if name.startswith("/") or ".." in parts or ":" in name or (mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode)):
        raise DataError(f"a zip file must hold plain files inside it; got {entry.filename[:100]!r}. Pack it again.")
    return Path(*(safe_name(part) for part in parts))


def _is_ignored(name: str) -> bool:
    """Tell whether a file was put there by an operating system."""
    return any(part in IGNORED for part in PurePosixPath(name).parts)


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, most: int) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as source, target.open("xb") as stream:
        while piece := source.read(PIECE):
            written += len(piece)
            if written > most:
                raise DataError(_too_much())
            stream.write(piece)
    return written


def _too_much() -> str:
    return (
        f"at most {MOST_FILES:,} files and {MOST_BYTES >> 30} GB can be sent; got more. Put them into a folder of this machine and "
        "name it."
    )


def _single(place: Path) -> Path:
    """The only file or folder of a folder, going down; the folder itself if it holds several."""
    entries = list(place.iterdir())
    if len(entries) != 1:
        return place
    return _single(entries[0]) if entries[0].is_dir() else entries[0]
