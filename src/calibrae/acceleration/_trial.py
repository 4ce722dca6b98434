"""Compilation of training steps where it pays, by measuring this model on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from ..errors import NonFiniteError
from ._accelerated import AcceleratedStep
from ._protocol import Compiled, undisturbed
from ._timing import time_interleaved

WARM_STEPS, TIMED_STEPS = 2, 5
EXPECTED_GAIN = 0.25  # share of a step that a compiler saves where it does well
COMPILE_SECONDS = {"cpu": 25.0, "cuda": 40.0}  # of a first compilation
MIN_STEPS = 500  # under which nothing is even timed
MIN_GAIN = 0.03  # share of a step for which to keep it


@final
@dataclass(frozen=True)
class StepTrial:
    """A step whose effects are rolled back, for timing.

    Attributes:
        step: fresh.
        pieces: a batch as a step takes it.
    """

    step: AcceleratedStep
    pieces: Sequence[Any]

    def __call__(self) -> None:
        """Take one step; to be called within `undisturbed`."""
        self.step(self.pieces, 0)

    def seconds(self) -> float:
        """Median of a few steps, after some to warm up."""
        return _medians([self], self.step.device)[0]

    def seconds_eager_and_compiled(self) -> tuple[float, float]:
        """Medians of both ways, in turns, so that a busy machine slows both."""

        def eager() -> None:
            with self.step.eagerly():
                self()

        before, after = _medians([eager, self], self.step.device)
        return before, after


def choose_compile(choice: str, trial: StepTrial, steps: int) -> str:
    """Compile the steps where that pays, and say what was chosen and why.

    A run is timed for a few steps. Where even a good gain over all its steps would not repay the compiler's own seconds,
    nothing is compiled; otherwise it is, timed again, and kept if it is faster. The trial changes no weights, buffers,
    gradients, generators or optimiser state.

    Args:
        choice: `on`, `off` or `auto`.
        trial: a step.
        steps: number of steps of the run.
    """
    if choice == "off":
        return "not compiled (as asked)"
    if choice == "auto" and steps < MIN_STEPS:
        return f"not compiled ({steps} steps are too few to repay it)"
    try:
        with undisturbed(trial.step.eager):
            return _compile_as_asked(trial) if choice == "on" else _compile_if_it_pays(trial, steps)
    except NonFiniteError:  # which the first step raises again, with batch and cause
        trial.step.leave_uncompiled()
        return "not compiled (a first step is not finite)"


def compile_as_before(compiled: Compiled, trial: StepTrial) -> str:
    """Compile of a step what an earlier part of its run had compiled, without measuring, and say how that went."""
    if compiled == "none":
        return "not compiled (as before)"
    try:
        with undisturbed(trial.step.eager):
            return _compile_as_asked(trial, "as before")
    except NonFiniteError:  # which the first step raises again, with batch and cause
        trial.step.leave_uncompiled()
        return "not compiled (a first step is not finite)"


def _compile_as_asked(trial: StepTrial, why: str = "as asked") -> str:
    """Compile now rather than in the first step, whose epoch would be charged with it."""
    trial()  # what is set up in a first call, such as a table of dispatch, would be compiled in and the step compiled again without it
    failure = trial.step.compile(trial.pieces)
    return _compiled(why, trial) if failure is None else f"not compiled (the compiler failed: {failure})"


def _compile_if_it_pays(trial: StepTrial, steps: int) -> str:
    eager = trial.seconds()
    device = trial.step.device.type
    if EXPECTED_GAIN * eager * steps < COMPILE_SECONDS.get(device, COMPILE_SECONDS["cuda"]):
        return f"not compiled (the steps take about {_duration(eager * steps)}, too short to repay it)"
    failure = trial.step.compile(trial.pieces)
    if failure is not None:
        return f"not compiled (the compiler failed: {failure})"
    eager, compiled = trial.seconds_eager_and_compiled()
    measured = f"measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g}"
    if compiled > (1.0 - MIN_GAIN) * eager:
        trial.step.leave_uncompiled()
        return f"not compiled ({measured})"
    return _compiled(measured, trial)


def _compiled(why: str, trial: StepTrial) -> str:
    part = trial.step.part
    return f"compiled ({why}; {part})" if part else f"compiled ({why})"


def _medians(steps: Sequence[Callable[[], None]], device: torch.device) -> list[float]:
    """Median seconds of each of some steps, after some to warm up."""
    return [
        statistics.median(seconds[WARM_STEPS:]) for seconds in time_interleaved(steps, device, WARM_STEPS + TIMED_STEPS)
    ]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
