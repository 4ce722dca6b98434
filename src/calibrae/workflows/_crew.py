"""Points of a sweep, trained side by side in worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, final

from .._cores import cores
from .._progress import seen
from ..errors import RunError
from ..runs import RunFolder
from ..training import Stopped, interruptible
from ._job import Factory, Job, pack
from ._study import BEAT, Point, Study
from ._train import TrainRequest

LOOKS_EVERY = 0.2  # seconds
GRACE = 30.0  # seconds that an interrupted run has to write what it has

Say = Callable[[str], None]


@final
class Crew:
    """Trains the points of a study, several at once, each in a process of its own.

    Args:
        study: points and their state.
        request: settings that all of them share.
        factory: makes a model of one's own, or `None`.
        folder: folder of the runs.
        jobs: runs at once; each has its share of the cores.
        say: told what happens, a line at a time.
    """

    def __init__(
        self, study: Study, request: TrainRequest, factory: Factory | None, folder: Path, jobs: int, say: Say
    ) -> None:
        self.study = study
        self.request = request
        self.factory = factory
        self.folder = folder
        self.jobs = jobs
        self.threads = max(1, cores() // jobs)
        self.say = say
        self.failed: dict[str, str] = {}
        self._lock = Lock()
        self._stop = Event()
        self._fatal: str | None = None

    def work(self) -> None:
        """Train until nothing is left to begin.

        Raises:
            RunError: if the request is not usable.
            KeyboardInterrupt: once all runs have written what they have.
        """
        with interruptible() as interrupt, ThreadPoolExecutor(self.jobs) as pool:
            workers = [pool.submit(self._worker) for _ in range(self.jobs)]
            try:
                beaten = time.monotonic()
                while not all(worker.done() for worker in workers):
                    time.sleep(LOOKS_EVERY)
                    if time.monotonic() - beaten >= BEAT:
                        beaten = time.monotonic()
                        with self._lock:
                            self.study.beat()
                    if interrupt.is_set():
                        raise Stopped("", interrupt.code)
                    seen("epochs", *self._progress())
            finally:
                self._stop.set()
        for worker in workers:
            worker.result()
        if self._fatal is not None:
            raise RunError(self._fatal)

    def _progress(self) -> tuple[int, int]:
        """Epochs that are done, and how many the points that have begun will take."""
        done = total = 0
        for folder in self.folder.iterdir():
            if (folder / "history.csv").exists():
                run = RunFolder(folder)
                epochs = len(run.read_history())
                done += epochs
                total += int(
                    run.read_config()["training"].get("epochs") or epochs + 1
                )  # until it has settled: one more
        return done, max(total, 1)

    def _worker(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                point = self.study.claim()
            if point is None:
                return
            elbo = None
            try:
                elbo = self._train(point)
            finally:
                with self._lock:
                    if elbo is None and self._stop.is_set() and self._fatal is None:
                        self.study.put_back(point)
                    else:
                        self.study.finish(point, elbo)

    def _train(self, point: Point) -> float | None:
        """Best validation ELBO of a point, once it is trained; `None` if it failed."""
        folder = self.folder / point.name
        started = time.monotonic()
        if not _is_finished(folder):
            problem = self._run(point, folder)
            if problem is not None:
                if not self._stop.is_set():
                    self.failed[point.name] = problem
                    self.say(f"{point.name}: failed: {problem}")
                return None
        scores = [row["validation_elbo"] for row in RunFolder.open(folder).read_history() if "validation_elbo" in row]
        if not scores:
            self._give_up("a plain autoencoder has no KL, so there is no rate to sweep. Take another --model.")
            return None
        seconds = time.monotonic() - started
        self.say(f"{point.name}: best validation ELBO of its epochs {max(scores):.1f} nats, {seconds:.0f} s")
        return max(scores)

    def _run(self, point: Point, folder: Path) -> str | None:
        """Train in a process of its own; what went wrong, or `None`."""
        packed = pack(self._job(point, folder))
        with (self.folder / f"{point.name}.log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "calibrae.workflows._worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # a Ctrl-C is for the sweep, which passes it on
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            with self._lock:
                self.study.hold(point, process.pid)
            answer = _read(self._awaited(process, packed), process.returncode)
        if answer["end"] == "refused":
            self._give_up(f"{point.name}: {answer['reason']}")
        return None if answer["end"] == "done" else answer["reason"]

    def _job(self, point: Point, folder: Path) -> Job:
        request, threads = self.request, self.request.settings.threads
        chosen = threads if isinstance(threads, int) else self.threads
        values: dict[str, Any] = dict(point.values)
        request = replace(
            request,
            out=folder,
            settings=replace(request.settings, threads=chosen, retain_memory=True),
            words={**request.words, **values} if request.words else {},
            overwrite=folder.exists() and not RunFolder(folder).has_begun,
            **(values if self.factory is None else {}),
        )
        return Job(request, self.factory, values)

    def _environment(self) -> dict[str, str]:
        """Environment of a run: its share of the cores, of which runs side by side have none to spare for readers of a stream."""
        readers = {"CALIBRAE_READERS": "0"} if self.jobs > 1 else {}
        return readers | os.environ | {"OMP_NUM_THREADS": str(self.threads)}

    def _awaited(self, process: subprocess.Popen[bytes], packed: bytes) -> bytes:
        """Send a job; return the standard output once the process has ended. It is interrupted if work stops."""
        unsent: bytes | None = packed
        while True:
            try:
                return process.communicate(unsent, timeout=LOOKS_EVERY)[0]
            except subprocess.TimeoutExpired:
                unsent = None  # what is left goes on by itself
                if self._stop.is_set():
                    break
        _ask_to_stop(process)
        try:
            return process.communicate(timeout=GRACE)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[0]

    def _give_up(self, why: str) -> None:
        """Stop all: no point can do better."""
        self._fatal = self._fatal or why
        self._stop.set()


def _ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, as Ctrl-C does; on Windows as Ctrl-Break does, which a process in a group of its own can be sent."""
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))


def _read(said: bytes, code: int | None) -> dict[str, str]:
    """The answer of a worker; one that died has said nothing."""
    lines = said.decode(errors="replace").splitlines()
    if not lines:
        return {"end": "failed", "reason": f"its process ended with exit code {code}"}
    answer: dict[str, str] = json.loads(lines[-1])
    return answer


def _is_finished(folder: Path) -> bool:
    return (folder / "run.json").exists() and bool(RunFolder.open(folder).read_run().get("finished"))
