"""One writer of a folder at a time, who can be named; on one machine or on several that share the folder."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from ..errors import RunError

NAME = ".lock"
BEAT = 5.0  # seconds between two signs of life
WATCH = 30.0  # seconds of watching, after which an owner without a sign of life is dead
LOOK = 0.5  # seconds between two looks
SAME_START = 2.0  # seconds by which two readings of a process's start may differ
MOST = 4096  # bytes of a lock that is ours
REFUSAL = "another process is training in {folder}: {who}. Wait for it or stop it, or choose another --out."


@final
@dataclass(frozen=True)
class Owner:
    """Process that writes a folder.

    Attributes:
        host: name of its machine.
        space: space of process numbers within the machine, such as a container's.
        process: number of the process.
        started: its start, in seconds since 1970.
        since: when it took the folder, in seconds since 1970.
    """

    host: str
    space: str
    process: int
    started: float
    since: float

    @classmethod
    def this(cls) -> Owner:
        """The process that asks."""
        return cls(socket.gethostname(), _space(), os.getpid(), _start_of(os.getpid()) or 0.0, time.time())

    @property
    def is_this(self) -> bool:
        """Tell whether it is the process that asks."""
        return self.is_here and self.process == os.getpid()

    @property
    def is_here(self) -> bool:
        """Tell whether its machine, and its space of process numbers, are those of this process."""
        return (self.host, self.space) == (socket.gethostname(), _space())

    @property
    def runs(self) -> bool | None:
        """Tell whether the process runs; asked of one that is here.

        `None` if its number belongs to a process that seems to have begun at another time: a number that was given anew, or a clock
        that was set.
        """
        started = _start_of(self.process)
        if started is None:
            return False
        return True if abs(started - self.started) < SAME_START else None

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.process} on {self.host}, since {since}"


def process_runs(process: int, started: float | None) -> bool:
    """Tell whether a process of this machine runs, which began at a time if that is known."""
    found = _start_of(process)
    return found is not None and (not started or abs(found - started) < SAME_START)


def process_start(process: int) -> float:
    """Start of a process of this machine, in seconds since 1970; 0 if it is gone."""
    return _start_of(process) or 0.0


def _start_of(process: int) -> float | None:
    """Start of a process, in seconds since 1970; `None` if there is none, or it has ended and waits for its parent."""
    import psutil

    try:
        found = psutil.Process(process)
        return None if found.status() == psutil.STATUS_ZOMBIE else float(found.create_time())
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return None
    except psutil.AccessDenied:
        return 0.0


def _space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (not a path)
    except OSError:
        return ""


@final
class Lock:
    """Lock of a folder, a file in it that names its owner and is touched while the owner lives.

    A file that only one process can create works where a kernel's locks do not, on file systems that machines share. A process that
    is gone from this machine is known at once; one of another machine is watched, and taken for dead if its file stays untouched.

    Args:
        folder: must exist.
        beat: seconds between two signs of life.
        watch: seconds without one after which an owner on another machine is taken for dead.
        refusal: sentence for those who come while another holds it, with `{folder}` and `{who}`.
    """

    def __init__(self, folder: Path, beat: float = BEAT, watch: float = WATCH, refusal: str = REFUSAL) -> None:
        self._refusal = refusal
        self.file = folder / NAME
        self._watch = watch
        self._folder = folder
        self._beat = beat
        self._own = ""
        self._ended = threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the lock for a while.

        Raises:
            RunError: if another process holds it, or the folder cannot be written.
        """
        self._take()
        self._ended.clear()
        sign = threading.Thread(target=self._live, name="calibrae-lock", daemon=True)
        sign.start()
        try:
            yield
        finally:
            self._ended.set()
            sign.join()
            if self.is_ours:
                with suppress(OSError):
                    self.file.unlink(missing_ok=True)

    @property
    def is_ours(self) -> bool:
        """Tell whether this lock is held, and nobody has taken it away."""
        return bool(self._own) and self._read() == self._own

    @property
    def owner(self) -> Owner | None:
        """Process that holds the lock; `None` if nobody does, or somebody who has not said."""
        content = self._read()
        return None if content is None else _owner(content)

    def _take(self) -> None:
        own = json.dumps(asdict(Owner.this()) | {"token": os.urandom(8).hex()})
        while True:
            try:
                handle = os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                self._remove_dead()
                continue
            except OSError as error:
                raise RunError(
                    f"{self._folder} cannot be written: {error.strerror}. Choose a folder with space and rights."
                ) from error
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(own)
            self._own = own
            return

    def _remove_dead(self) -> None:
        """Remove the lock of an owner that is dead.

        Raises:
            RunError: if the owner lives.
        """
        content = self._read()
        if content is None:
            return
        owner = _owner(content)
        if self._is_held(owner):
            who = "it has not said which" if owner is None else str(owner)
            raise RunError(self._refusal.format(folder=self._folder, who=who))
        aside = self.file.with_name(f"{NAME}.{os.urandom(4).hex()}")
        with suppress(FileNotFoundError):  # another process was faster
            self.file.rename(aside)
            if _content(aside) != content:  # and holds it now
                with suppress(OSError):
                    os.link(aside, self.file)
            aside.unlink(missing_ok=True)

    def _is_held(self, owner: Owner | None) -> bool:
        runs = owner.runs if owner is not None and owner.is_here else None
        return self._shows_life() if runs is None else runs

    def _shows_life(self) -> bool:
        """Watch for a sign of life, which no clock but this one is needed for."""
        before, until = self._touched(), time.monotonic() + self._watch
        while time.monotonic() < until:
            time.sleep(min(LOOK, self._watch))
            if self._touched() != before:
                return True
        return False

    def _touched(self) -> int | None:
        """Time of the last sign of life; through an open file, whose times a network file system asks for anew."""
        try:
            with self.file.open("rb") as stream:
                return os.fstat(stream.fileno()).st_mtime_ns
        except OSError:
            return None

    def _live(self) -> None:
        """Give signs of life until the end."""
        while not self._ended.wait(self._beat):
            with suppress(OSError):
                if self._read() == self._own:
                    os.utime(self.file)

    def _read(self) -> str | None:
        """Content of the lock; `None` if there is none."""
        return _content(self.file)


def _content(file: Path) -> str | None:
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(MOST)
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _owner(content: str) -> Owner | None:
    try:
        stored = json.loads(content)
        return Owner(
            str(stored["host"]),
            str(stored["space"]),
            int(stored["process"]),
            float(stored["started"]),
            float(stored["since"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
