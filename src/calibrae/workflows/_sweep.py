"""Many runs that differ in beta, sigma or latent size: trained side by side, compared, and one recommended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any, final

from .._types import Split
from ..data import NAMES
from ..errors import ArgumentError, RunError
from ..evaluation import (
    RatePoint,
    Recommendation,
    linear_curve,
    recommend,
    summarise_split,
    training_spectrum,
)
from ..figures import save_rate_distortion
from ..functional import LinearCode, Spectrum, active_latents
from ..runs import RunFolder, replace_json
from ._run import load
from ._stored import run_data
from ._study import Axis, Point, Study, require_sweep_folder, sqlite_address

LOOKS_EVERY = 0.2  # seconds
GRACE = 30.0  # seconds that an interrupted run has to write what it has
USAGE_ERROR = 2
SPLIT: Split = "validation"

Say = Callable[[str], None]
Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Sweep:
    """Trained points, and what follows from them.

    Attributes:
        path: folder of the sweep; each point is a run under `points/`.
        points: by value.
        linear: what the best linear models reach, by latent size; empty for binary data.
        recommendation: which point to take; `None` while none is trained.
        failed: what went wrong, by point.
        held: points that others are training.
    """

    path: Path
    points: list[RatePoint]
    linear: dict[int, list[LinearCode]]
    recommendation: Recommendation | None
    failed: dict[str, str]
    held: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            "split": SPLIT,
            "points": [point.to_dict() for point in self.points],
            "linear": {str(d): [asdict(code) for code in codes] for d, codes in self.linear.items()},
            "recommendation": asdict(self.recommendation) if self.recommendation else None,
            "failed": self.failed,
            "held": self.held,
        }


def sweep(
    data: str | Path,
    out: str | Path,
    *,
    beta: str | Sequence[float] = (),
    sigma: str | Sequence[float] = (),
    latent_dim: str | Sequence[int] = (),
    trials: int = 0,
    jobs: int | None = None,
    storage: str | None = None,
    take_over: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Sweep:
    """Train a run for each value of beta, sigma or latent size (all combinations), and recommend one.

    Several runs train side by side, each in a process with its share of the cores. A sweep that was stopped goes on where it was
    when it is called again with the same settings; more values add points. Runs are compared on the validation split alone.

    Args:
        data: a name or a path, as `calibrae train` takes it.
        out: folder of the sweep.
        beta: weights of the KL, numbers or a range to search such as `"0.1:10"`.
        sigma: standard deviation of the decoder, likewise; by default optimal.
        latent_dim: sizes of the latent, likewise.
        trials: how many points to try in all, where a range is searched.
        jobs: runs at once; by default one for each core, or one with an accelerator.
        storage: address of a database that several machines share; by default `study.db` in the folder.
        take_over: take the points that a machine which is gone had begun.
        quiet: say nothing.
        settings: other options of `calibrae train`, by name: `epochs=5, horizontal_flip=True`.

    Raises:
        CalibraeError: if an option, the data or the folder is not usable, saying what to do.
    """
    axes = {"beta": beta, "sigma": sigma, "latent_dim": latent_dim}
    return run_sweep(
        str(data), Path(out), {name: given for name, given in axes.items() if given}, _as_arguments(settings), trials=trials,
        jobs=jobs, storage=storage, take_over=take_over, say=None if quiet else print,
    )  # fmt: skip


def run_sweep(
    data: str,
    out: Path,
    axes: Mapping[str, str | Sequence[float]],
    arguments: Sequence[str],
    *,
    trials: int = 0,
    jobs: int | None = None,
    storage: str | None = None,
    take_over: bool = False,
    say: Say | None = None,
    tick: Tick | None = None,
) -> Sweep:
    """Run a sweep with the other options as `calibrae train` takes them on its command line."""
    if not axes:
        raise ArgumentError(
            "a sweep varies something: pass --beta, --sigma or --latent-dim with several values, as in 0.5,1,2."
        )
    if jobs is not None and jobs < 1:
        raise ArgumentError(f"--jobs must be at least 1; got {jobs}.")
    chosen = [Axis.of(name, given) for name, given in axes.items()]
    source = data if data in NAMES else str(Path(data).resolve())
    if data not in NAMES and not Path(data).exists():
        raise ArgumentError(f"{data} is neither a name of data ({', '.join(NAMES)}) nor a path that exists.")
    require_sweep_folder(out)
    (out / "points").mkdir(parents=True, exist_ok=True)
    request = {"data": source, "arguments": list(arguments)}
    is_empty = not any((out / "points").glob("*/checkpoints/last.pt"))
    study = Study(storage or sqlite_address(out), chosen, trials, request, take_over=take_over, is_empty=is_empty)
    at_once = jobs or _default_jobs(arguments)
    crew = _Crew(study, source, out / "points", list(arguments), at_once, say or (lambda _: None))
    crew.say(_said_at_start(study, at_once))
    try:
        crew.work(tick)
    except KeyboardInterrupt:
        message = f"stopped; {len(study.done())} points are done, the others keep what they have. To go on, give the same command again"
        crew.say(message)
        raise KeyboardInterrupt(message) from None
    found = _compared(out, study.done(), tick)
    result = Sweep(out, *found, crew.failed, study.held())
    replace_json(out / "sweep.json", result.to_dict())
    if result.points:
        save_rate_distortion(
            result.points, result.linear, result.recommendation, [axis.name for axis in chosen], out / "sweep.png"
        )
    return result


def _said_at_start(study: Study, at_once: int) -> str:
    left, done, held = study.left(), len(study.done()), len(study.held())
    others = f", {held} under way elsewhere" if held else ""
    if not left:
        return f"nothing is left to train: {done} points are done{others}"
    return f"{left} points to train, {min(left, at_once)} at once; {done} done already{others}"


def _as_arguments(settings: Mapping[str, Any]) -> list[str]:
    """`epochs=5, horizontal_flip=True` as a command line has them."""
    found = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found += [f"--{option}", ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
    return found


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_jobs(arguments: Sequence[str]) -> int:
    """One run a core; one alone on an accelerator, which it fills."""
    from ..training import find_device

    named = arguments[arguments.index("--device") + 1] if "--device" in arguments[:-1] else "auto"
    return _cores() if find_device(named).type == "cpu" else 1


@final
class _Crew:
    """Trains the points of a study, several at once, each in a process of its own."""

    def __init__(self, study: Study, data: str, folder: Path, arguments: list[str], jobs: int, say: Say) -> None:
        self.study = study
        self.data = data
        self.folder = folder
        self.arguments = arguments
        self.jobs = jobs
        self.say = say
        self.failed: dict[str, str] = {}
        self._lock = Lock()
        self._stop = Event()
        self._fatal: str | None = None

    def work(self, tick: Tick | None) -> None:
        """Until nothing is left to begin.

        Raises:
            RunError: if the options are not usable.
            KeyboardInterrupt: once all runs have written what they have.
        """
        from ..training import interruptible

        with interruptible() as interrupt, ThreadPoolExecutor(self.jobs) as pool:
            workers = [pool.submit(self._worker) for _ in range(self.jobs)]
            try:
                while not all(worker.done() for worker in workers):
                    time.sleep(LOOKS_EVERY)
                    if interrupt.is_set():
                        raise KeyboardInterrupt
                    if tick is not None:
                        tick("epochs", *self._progress())
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
                done += len(run.read_history())
                total += int(run.read_config()["training"]["epochs"])
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
        """The validation ELBO of a point, once it is trained; `None` if it failed."""
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
        self.say(
            f"{point.name}: best validation ELBO of its epochs {max(scores):.1f} nats, {time.monotonic() - started:.0f} s"
        )
        return max(scores)

    def _run(self, point: Point, folder: Path) -> str | None:
        """Train in a process of its own; what went wrong, or `None`."""
        values = [
            part for name, value in point.values.items() for part in (f"--{name.replace('_', '-')}", f"{value:g}")
        ]
        state = (
            ["--resume"]
            if (folder / "checkpoints" / "last.pt").exists()
            else ["--overwrite"]
            if folder.exists()
            else []
        )
        command = [
            sys.executable,
            "-m",
            "calibrae",
            "train",
            self.data,
            "--out",
            str(folder),
            *values,
            *self.arguments,
            *state,
        ]
        environment = os.environ | {"OMP_NUM_THREADS": str(max(1, _cores() // self.jobs))}
        with (self.folder / f"{point.name}.log").open("a", encoding="utf-8") as log:
            process = subprocess.Popen(  # noqa: S603 (our own command line, without a shell)
                command, stdout=log, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
            )
            with self._lock:
                self.study.hold(point, process.pid)
            problem = self._awaited(process)
            log.write(problem)
        if process.returncode == 0:
            return None
        last = (problem.strip().splitlines() or [f"exit code {process.returncode}"])[-1].removeprefix("calibrae: ")
        if process.returncode == USAGE_ERROR:
            self._give_up(f"{point.name}: {last}")
        return last

    def _awaited(self, process: subprocess.Popen[str]) -> str:
        """Collect what a process says on standard error, until it ends; it is interrupted if work stops."""
        while True:
            try:
                return process.communicate(timeout=LOOKS_EVERY)[1]
            except subprocess.TimeoutExpired:
                if self._stop.is_set():
                    break
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=GRACE)[1]
        except subprocess.TimeoutExpired:
            process.kill()
            return process.communicate()[1]

    def _give_up(self, why: str) -> None:
        """Stop all: no point can do better."""
        self._fatal = self._fatal or why
        self._stop.set()


def _is_finished(folder: Path) -> bool:
    return (folder / "run.json").exists() and bool(RunFolder.open(folder).read_run().get("finished"))


def _compared(
    out: Path, done: Sequence[Point], tick: Tick | None
) -> tuple[list[RatePoint], dict[int, list[LinearCode]], Recommendation | None]:
    """Every trained point on the validation split, the linear curves, and the recommendation."""
    points = []
    for number, point in enumerate(done, 1):
        points.append(_rate_point(out / "points" / point.name, point))
        if tick is not None:
            tick("comparing", number, len(done))
    if not points:
        return [], {}, None
    spectrum = None
    if points[0].sigma is not None:
        spectrum = training_spectrum(run_data(out / "points" / done[0].name), max(p.latent_dim for p in points))
    return points, _linear(points, spectrum), recommend(points, spectrum)


def _rate_point(folder: Path, point: Point) -> RatePoint:
    model, data = load(folder), run_data(folder)
    summary = summarise_split(model, data, SPLIT)
    scale, variance = model.likelihood.scale, summary.posterior_mean_var
    return RatePoint(
        name=point.name,
        axes=dict(point.values),
        beta=float(RunFolder.open(folder).read_config()["objective"].get("beta", 1.0)),
        sigma=None if scale is None else scale.std(),
        latent_dim=model.latent_dim,
        elbos=summary.elbos,
        kl_nats=summary.kl or 0.0,
        reconstruction_nats=summary.nll,
        sse=summary.mse * data.spec.data_dim,
        active_units=model.latent_dim if variance is None else int(active_latents(variance).sum()),
    )


def _linear(points: Sequence[RatePoint], spectrum: Spectrum | None) -> dict[int, list[LinearCode]]:
    if spectrum is None:
        return {}
    most = 1.1 * max(point.kl_nats for point in points)
    return {d: linear_curve(spectrum, d, most) for d in sorted({point.latent_dim for point in points})}
