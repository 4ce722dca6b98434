"""The points of a sweep in an Optuna study, which many processes and machines can share."""

from __future__ import annotations

import itertools
import math
import os
import shlex
import socket
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from ..errors import ArgumentError, MissingExtraError, RunError
from ..runs import process_runs, process_start

if TYPE_CHECKING:
    import optuna

NAME = "calibrae-sweep"
REDRAWS = 100
BEAT = 20  # seconds between two signs of life of a machine
GRACE = 120  # seconds without one after which its points are given to others
STARTS = 10  # points of a search before the sampler learns from them
ROOTS = {1: 1.6180339887498949, 2: 1.3247179572447460, 3: 1.2207440846057596}  # of x^(axes + 1) = x + 1
KINDS: dict[str, type] = {"beta": float, "sigma": float, "latent_dim": int}
EXAMPLES = {  # values, a range, and the words that are allowed as well
    "beta": ("0.5,1,2", "0.1:10", ""),
    "sigma": ("0.03,0.1", "0.01:0.3", ", or `optimal` or `learned` for all points"),
    "latent_dim": ("8,16,32", "8:64", ""),
}


@final
@dataclass(frozen=True)
class Axis:
    """Axis of a sweep: some values, or a range that is searched.

    Attributes:
        name: `beta`, `sigma` or `latent_dim`.
        values: to be tried; empty for a search.
        low: smallest value.
        high: largest value.
    """

    name: str
    values: tuple[float, ...]
    low: float
    high: float

    @classmethod
    def of(cls, name: str, given: str | float | Sequence[float]) -> Axis:
        """Read `'0.5,1,2'`, `'0.1:10'` or numbers.

        Raises:
            ArgumentError: if they are not positive numbers, or the range is empty.

        Examples:
            >>> Axis.of("beta", "0.1:10").high
            10.0
        """
        kind = KINDS[name]
        is_range = isinstance(given, str) and ":" in given
        parts: Sequence[Any] = (
            given.split(":" if is_range else ",") if isinstance(given, str) else [given] if isinstance(given, int | float) else given
        )  # fmt: skip
        try:
            values = [kind(part) for part in parts]
        except ValueError:
            values = []
        wrong = not values or any(not 0 < value < float("inf") for value in values)
        if wrong or (is_range and (len(values) != 2 or values[0] >= values[1])):
            example, between, words = EXAMPLES[name]
            raise ArgumentError(
                f"--{name.replace('_', '-')} of a sweep must be positive numbers, as in {example}, or a range to search that rises, as in "
                f"{between}{words}; got {given}."
            )
        return cls(name, () if is_range else tuple(dict.fromkeys(values)), min(values), max(values))

    def at(self, share: float) -> float:
        """A value so far from the low end, on a logarithmic scale."""
        value = float(self.low * (self.high / self.low) ** share)
        return round(value) if KINDS[self.name] is int else value

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Log-uniform."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if KINDS[self.name] is int:
            return IntDistribution(int(self.low), int(self.high), log=True)
        return FloatDistribution(self.low, self.high, log=True)


@dataclass(frozen=True)
class Point:
    """One run to be trained.

    Attributes:
        number: number of the trial.
        name: name of its folder.
        values: values of the axes.
    """

    number: int
    name: str
    values: dict[str, float]


@final
class Study:
    """The points of a sweep: which are waiting, taken, done or failed.

    Args:
        storage: address of Optuna's database, such as `sqlite:///study.db`.
        axes: axes that are varied.
        trials: how many points are tried in all, where an axis is searched.
        request: settings that all points share, which a study keeps.
        take_over: whether points that another machine holds are taken from it.
        beat: seconds between two signs of life.
        grace: seconds without one after which a machine is taken for dead, and its points are given to others.
        is_empty: whether no point has begun, so that a study of another request, whose options may have been refused, is replaced.

    Raises:
        ArgumentError: if a search has no number of trials or a grid has one, or the study is of another sweep.
        MissingExtraError: if Optuna is not installed.
    """

    def __init__(
        self,
        storage: str,
        axes: Sequence[Axis],
        trials: int,
        request: Mapping[str, Any],
        *,
        take_over: bool = False,
        is_empty: bool = False,
        beat: int = BEAT,
        grace: int = GRACE,
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise MissingExtraError("a sweep needs Optuna. Install it: pip install 'calibrae[sweep]'") from error
        self.is_search = any(not axis.values for axis in axes)
        if self.is_search != (trials > 0):
            raise ArgumentError(
                f"--trials is the number of points of a search, over a range such as --beta 0.1:10; got {trials} and "
                f"{'a range' if self.is_search else 'no range'}."
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.axes, self.trials = list(axes), trials
        self._beat, self._grace = beat, grace
        self._held: dict[int, optuna.Trial] = {}
        self._state = optuna.trial.TrialState
        known = {**request, "axes": sorted(axis.name for axis in axes)}
        self._study = self._opened(storage)
        self._release(take_over=take_over)
        if is_empty and self._is_another(known) and not self._trials(self._state.RUNNING, self._state.COMPLETE):
            optuna.delete_study(study_name=NAME, storage=self._storage)
            self._study = self._opened(storage)
        self._require_same(known)
        if not self.is_search:
            self._enqueue([dict(zip([a.name for a in axes], values, strict=True)) for values in self._grid()])
        elif not self._trials():
            self._enqueue(spread_points(self.axes, min(trials, STARTS)))

    def _grid(self) -> list[tuple[float, ...]]:
        return list(itertools.product(*(axis.values for axis in self.axes)))

    def _opened(self, storage: str) -> optuna.Study:
        import optuna

        with _quiet():
            self._storage = optuna.storages.RDBStorage(storage, heartbeat_interval=self._beat, grace_period=self._grace)
        weakref.finalize(self, self._storage.engine.dispose)  # or the connections stay open until the process ends
        study = optuna.create_study(storage=self._storage, study_name=NAME, direction="maximize", load_if_exists=True)
        # one that goes on draws others; see `claim` for two machines that begin together
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=STARTS, seed=len(study.trials))
        return study

    def _is_another(self, request: Mapping[str, Any]) -> bool:
        return self._study.user_attrs.get("request") not in (None, request)

    def _require_same(self, request: Mapping[str, Any]) -> None:
        known = self._study.user_attrs.get("request")
        if known is None:
            self._study.set_user_attr("request", dict(request))
        elif known != request:
            changed = "; ".join(
                f"{k} was {_in_words(known.get(k))}, got {_in_words(request[k])}"
                for k in request
                if known.get(k) != request[k]
            )
            raise ArgumentError(
                f"a sweep keeps its data, its axes and its other options; {changed}. Take another --out."
            )

    def _trials(self, *states: Any) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _release(self, *, take_over: bool) -> None:
        """Give up points whose process or machine is gone, and put those of a search back into the queue."""
        self._release_silent()
        for trial in self._trials(self._state.RUNNING):
            host, process = trial.user_attrs.get("host"), trial.user_attrs.get("process")
            is_here = host == socket.gethostname()
            if is_here and process is not None and process_runs(int(process), trial.user_attrs.get("started")):
                continue
            if is_here or take_over or host is None:
                self._study.tell(trial.number, state=self._state.FAIL)
                self._requeue(trial)

    def _release_silent(self) -> None:
        """Give up points whose machine has shown no sign of life for some time, by the database's clock."""
        import optuna

        running = self._trials(self._state.RUNNING)
        with _quiet():
            optuna.storages.fail_stale_trials(self._study)
        failed = {trial.number for trial in self._trials(self._state.FAIL)}
        for trial in running:
            if trial.number in failed:
                self._requeue(trial)

    def _requeue(self, trial: optuna.trial.FrozenTrial) -> None:
        """Put a point that was given up back into the queue."""
        if trial.params and not self.is_search:
            self._enqueue([{name: trial.params[name] for name in (axis.name for axis in self.axes)}])
        elif trial.params:
            self._study.enqueue_trial(trial.params)

    def beat(self) -> None:
        """Give a sign of life for the points that this process trains."""
        for trial in self._held.values():
            self._storage.record_heartbeat(trial._trial_id)

    def _enqueue(self, points: list[dict[str, float]]) -> None:
        """Queue what is neither done nor under way."""
        present = {trial.user_attrs.get("point") for trial in self._trials(*self._open_states())}
        for values in points:
            name = point_name(values)
            if name not in present:
                self._study.enqueue_trial(values, user_attrs={"point": name})
                present.add(name)

    def _open_states(self) -> tuple[Any, ...]:
        return self._state.WAITING, self._state.RUNNING, self._state.COMPLETE

    def claim(self) -> Point | None:
        """The next point, which nobody else gets; `None` if there is none left to begin.

        A search that draws a point again draws another, `REDRAWS` times at most: a range of few whole numbers has no more.
        """
        repeated = 0
        self._release_silent()
        while repeated <= REDRAWS and (self._trials(self._state.WAITING) or self._wants_more()):
            with _quiet():
                trial = self._study.ask({axis.name: axis.distribution() for axis in self.axes})
            values = {axis.name: KINDS[axis.name](trial.params[axis.name]) for axis in self.axes}
            name = point_name(values)
            earlier = [t for t in self._trials(self._state.RUNNING, self._state.COMPLETE) if t.number < trial.number]
            is_surplus = not self.is_search and "point" not in trial.user_attrs  # another machine took the last one
            if is_surplus or name in {t.user_attrs.get("point") for t in earlier}:
                self._study.tell(trial.number, state=self._state.FAIL)
                repeated += self.is_search
                self._study.sampler.reseed_rng()  # another machine may draw the same sequence
                continue
            trial.set_user_attr("point", name)
            trial.set_user_attr("host", socket.gethostname())
            point = Point(trial.number, name, values)
            self._held[point.number] = trial
            self.beat()
            self.hold(point, os.getpid())
            return point
        return None

    def _wants_more(self) -> bool:
        if not self.is_search:
            return False
        return len(self._trials(self._state.RUNNING, self._state.COMPLETE)) < self.trials

    def hold(self, point: Point, process: int) -> None:
        """Say which process trains a point."""
        self._held[point.number].set_user_attr("process", process)
        self._held[point.number].set_user_attr("started", process_start(process))

    def put_back(self, point: Point) -> None:
        """A point was interrupted: it is queued again for when the sweep goes on."""
        trial = self._held.pop(point.number)
        self._study.tell(point.number, state=self._state.FAIL)
        if self.is_search:  # a grid queues what is missing by itself
            self._study.enqueue_trial(trial.params)

    def finish(self, point: Point, elbo: float | None) -> None:
        """A point is done, with a validation ELBO, or it failed."""
        self._held.pop(point.number)
        if elbo is None:
            self._study.tell(point.number, state=self._state.FAIL)
        else:
            self._study.tell(point.number, elbo)

    def done(self) -> list[Point]:
        """The points that are trained, by anybody."""
        found = {
            trial.user_attrs["point"]: Point(trial.number, trial.user_attrs["point"], dict(trial.params))
            for trial in self._trials(self._state.COMPLETE)
        }
        return sorted(found.values(), key=lambda point: tuple(point.values.values()))

    def left(self) -> int:
        """Count the points that nobody has begun."""
        waiting = len(self._trials(self._state.WAITING))
        if not self.is_search:
            return waiting
        begun = len(self._trials(self._state.RUNNING, self._state.COMPLETE))
        return max(waiting, int(min(self.trials, self._most())) - begun)

    def _most(self) -> float:
        """Count all points, where only whole numbers are searched."""
        if any(KINDS[axis.name] is not int for axis in self.axes):
            return float("inf")
        return float(math.prod(int(axis.high) - int(axis.low) + 1 for axis in self.axes))

    def held(self) -> list[str]:
        """Who trains the points that are under way, in words."""
        return [
            f"{trial.user_attrs.get('point')} (process {trial.user_attrs.get('process')} on {trial.user_attrs.get('host')})"
            for trial in self._trials(self._state.RUNNING)
        ]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's words that signs of life are new, and usually given by a loop of its own: a user of ours cannot act on them."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", message="Heartbeat of storage")
        yield


def _in_words(value: Any) -> str:
    """Write a value as a command line has it."""
    if isinstance(value, list | tuple):
        return shlex.join(map(str, value)) or "none"
    return str(value)


def spread_points(axes: Sequence[Axis], count: int) -> list[dict[str, float]]:
    """Points that fill the ranges evenly on logarithmic scales, however few: an additive recurrence from the middle.

    References:
        Roberts 2018, *The unreasonable effectiveness of quasirandom sequences*

    Examples:
        >>> [round(point["beta"], 2) for point in spread_points([Axis.of("beta", "0.1:10")], 4)]
        [1.0, 0.17, 2.97, 0.51]
    """
    ranges = [axis.name for axis in axes if axis.low < axis.high]
    steps = {name: ROOTS[len(ranges)] ** -(j + 1) for j, name in enumerate(ranges)}
    return [{axis.name: axis.at((0.5 + k * steps.get(axis.name, 0.0)) % 1.0) for axis in axes} for k in range(count)]


def point_name(values: Mapping[str, float]) -> str:
    """Name of a point, and of its folder.

    Examples:
        >>> point_name({"beta": 0.5, "latent_dim": 16})
        'beta-0.5_latent-dim-16'
    """
    return "_".join(f"{name.replace('_', '-')}-{value:g}" for name, value in values.items())


def sqlite_address(folder: Path) -> str:
    """The database of a sweep that is on disk alone."""
    return f"sqlite:///{(folder / 'study.db').resolve()}"


def require_sweep_folder(folder: Path) -> None:
    """Raise `RunError` if something other than a sweep is there."""
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / "points").is_dir())):
        raise RunError(f"{folder} exists and is not a sweep of calibrae. Choose another place with --out.")
