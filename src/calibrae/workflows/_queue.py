"""A queue of trainings in a folder: one after another, each the command line in a process of its own, which outlives its starter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

from .._plain import record_of
from ..errors import ArgumentError, CalibraeError
from ..runs import Lock, process_runs, process_start, replace_json

NAME = ".queue"
WAITING, TRAINING, ENDED = "waiting", "training", "ended"
MOST_WAITING = 100
ENDED_KEPT = 30  # entries that are over, with their logs
TAIL = 20_000  # bytes of a log that are shown
UNKNOWN = -1000  # exit code of a process that another program has started
REFUSAL = "another workbench serves {folder}: {who}. Use that one, or stop it, or choose another folder."


@final
@dataclass(frozen=True, slots=True)
class Training:
    """Training in a queue.

    Attributes:
        key: its number in the queue.
        run: name of the run.
        arguments: arguments of the command `calibrae`.
        place: folder in which the command runs.
        process: number of its process; 0 before it begins.
        started: start of the process, in seconds since 1970.
        code: exit code; `None` until it has ended.
    """

    key: int
    run: str
    arguments: tuple[str, ...]
    place: str
    process: int = 0
    started: float = 0.0
    code: int | None = None

    @property
    def state(self) -> str:
        """Whether it waits, trains or has ended."""
        if self.code is not None:
            return ENDED
        return TRAINING if self.process else WAITING


@final
class Queue:
    """Trainings of a folder, in the order in which they were asked for.

    Entries and logs lie in `FOLDER/.queue`, so a queue that is opened again knows what has happened meanwhile: a training goes on
    when its starter is gone, and what waits begins when the queue is opened again.

    Args:
        folder: folder of the runs.

    Raises:
        ArgumentError: if the folder cannot be made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder) / NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(f"{folder} cannot be written: {error.strerror}. Choose another folder.") from error
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.RLock()

    def held(self) -> AbstractContextManager[None]:
        """Keep other processes from starting what waits here.

        Raises:
            RunError: if another process does.
        """
        return Lock(self.folder, refusal=REFUSAL.replace("{folder}", str(self.folder.parent)))()

    def entries(self) -> list[Training]:
        """All entries, the oldest first; those that cannot be read are left out."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            with suppress(CalibraeError, OSError, ValueError, TypeError, KeyError):
                stored = json.loads(path.read_text(encoding="utf-8"))
                found.append(record_of(Training, stored | {"arguments": tuple(stored["arguments"])}))
        return found

    def add(self, run: str, arguments: Sequence[str]) -> Training:
        """Ask for a training.

        Args:
            run: name of the run.
            arguments: arguments of the command `calibrae`.

        Raises:
            ArgumentError: if the run is in the queue already, or the queue is full.
        """
        with self._lock:
            entries = self.entries()
            going = [entry for entry in entries if entry.state != ENDED]
            if run in {entry.run for entry in going}:
                raise ArgumentError(f"{run} is in the queue already. Wait for it, or choose another name.")
            if len(going) >= MOST_WAITING:
                raise ArgumentError(f"the queue holds at most {MOST_WAITING} trainings. Wait until some have ended.")
            entry = Training(max((e.key for e in entries), default=0) + 1, run, tuple(arguments), str(Path.cwd()))
            self._write(entry)
            self.advance()
            return entry

    def advance(self) -> None:
        """Note what has ended, and begin the next training if none goes on. To be called now and then."""
        with self._lock:
            entries = [self._now(entry) for entry in self.entries()]
            if not any(entry.state == TRAINING for entry in entries):
                waiting = next((entry for entry in entries if entry.state == WAITING), None)
                if waiting is not None:
                    self._begin(waiting)
            for entry in [entry for entry in entries if entry.state == ENDED][:-ENDED_KEPT]:
                self._remove(entry)

    def stop(self, run: str) -> str:
        """Take a training out of the queue; one that goes on saves its state and ends.

        Returns:
            What has come of it, in a sentence.

        Raises:
            ArgumentError: if there is no such training.
        """
        with self._lock:
            entry = next((e for e in map(self._now, self.entries()) if e.run == run and e.state != ENDED), None)
            if entry is None:
                raise ArgumentError(f"{run} is not in the queue. It has ended, or was never asked for.")
            if entry.state == WAITING:
                self._remove(entry)
                return "It is out of the queue, and has not begun."
            if process_runs(entry.process, entry.started):
                with suppress(ProcessLookupError):
                    os.kill(entry.process, signal.SIGTERM)
            return "It saves its state and ends."

    def log(self, run: str) -> str:
        """End of what the last training of a run has printed."""
        entry = next((entry for entry in reversed(self.entries()) if entry.run == run), None)
        if entry is None:
            return ""
        try:
            with self._log_file(entry).open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - TAIL))
                return stream.read(TAIL).decode("utf-8", errors="replace")
        except OSError:
            return ""

    def _begin(self, entry: Training) -> None:
        with self._log_file(entry).open("wb") as log:
            try:
                child = subprocess.Popen(  # noqa: S603 (a list of arguments, no shell)
                    [sys.executable, "-m", "calibrae", *entry.arguments],
                    cwd=entry.place, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            except OSError as error:  # its folder is gone, or there is no memory
                log.write(
                    f"calibrae: this could not be started in {entry.place}: {error.strerror}. Ask for it again.\n".encode()
                )
                self._write(replace(entry, code=UNKNOWN))
                return
        self._children[entry.key] = child
        self._write(replace(entry, process=child.pid, started=process_start(child.pid) or time.time()))

    def _now(self, entry: Training) -> Training:
        """The entry as it is now, written down if it has ended."""
        if entry.state != TRAINING:
            return entry
        child = self._children.get(entry.key)
        code = child.poll() if child is not None else None
        if child is None and not process_runs(entry.process, entry.started):
            code = UNKNOWN  # it was started by a process that is gone
        if code is None:
            return entry
        self._children.pop(entry.key, None)
        ended = replace(entry, code=code)
        self._write(ended)
        return ended

    def _log_file(self, entry: Training) -> Path:
        return self.folder / f"{entry.key:06d}.log"

    def _write(self, entry: Training) -> None:
        replace_json(self.folder / f"{entry.key:06d}.json", asdict(entry))

    def _remove(self, entry: Training) -> None:
        for path in (self.folder / f"{entry.key:06d}.json", self._log_file(entry)):
            path.unlink(missing_ok=True)
