"""Whether compiling pays, by measuring this model on this machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch

from ..errors import NonFiniteError
from ..models import seconds_in_turns
from ..objectives import BetaELBO
from ._descent import Descent
from ._settings import TrainSettings
from ._terms import MicroBatch

WARM, TIMED = 2, 5
HOPED = 0.25  # share of a step that a compiler saves where it does well
COST = {"cpu": 25.0, "cuda": 40.0}  # seconds that a first compilation takes
FEWEST = 500  # steps, under which nothing is even timed
WORTH = 0.03  # share of a step for which to keep it


@final
@dataclass(frozen=True)
class StepTrial:
    """A step without its consequences.

    Attributes:
        descent: fresh.
        micro: a batch in the pieces that a step takes.
    """

    descent: Descent
    micro: Sequence[MicroBatch]

    def __call__(self) -> None:
        """One step; to be taken while `descent.undisturbed`."""
        self.descent(self.micro, BetaELBO(), 0)

    def seconds(self) -> float:
        """Median of a few, after some to warm up."""
        return _medians([self], self.device)[0]

    def seconds_eager_and_compiled(self) -> tuple[float, float]:
        """The same both ways, in turns, so that a busy machine hurts both."""

        def eager() -> None:
            with self.descent.eagerly():
                self()

        before, after = _medians([eager, self], self.device)
        return before, after

    @property
    def device(self) -> torch.device:
        """Where it is taken."""
        return self.micro[0].noise.device


def choose_compile(settings: TrainSettings, trial: StepTrial, steps: int) -> str:
    """Compile the steps where that pays, and say what was chosen and why.

    A run is timed for a few steps. Where even a good gain over all its steps would not repay the compiler's own seconds,
    nothing is compiled; otherwise it is, timed again, and kept if it is faster. Nothing that the trial touches, weights, buffers,
    gradients, generators or the optimisers' state, is changed by it.

    Args:
        settings: `compile` is `on`, `off` or `auto`.
        trial: a step.
        steps: of the run.
    """
    if settings.compile == "off":
        return "not compiled (as asked)"
    if settings.compile == "auto" and steps < FEWEST:
        return f"not compiled ({steps} steps cannot repay it)"
    try:
        with trial.descent.undisturbed():
            return _compile_as_asked(trial) if settings.compile == "on" else _compile_if_it_pays(trial, steps)
    except NonFiniteError:  # which the first step raises again, with batch and cause
        trial.descent.leave_uncompiled()
        return "not compiled (a first step is not finite)"


def _compile_as_asked(trial: StepTrial) -> str:
    """Now rather than in the first step, whose epoch would be charged with it."""
    failure = trial.descent.compile(trial.micro)
    return _compiled("as asked", trial) if failure is None else f"not compiled (the compiler failed: {failure})"


def _compile_if_it_pays(trial: StepTrial, steps: int) -> str:
    eager = trial.seconds()
    if HOPED * eager * steps < COST.get(trial.device.type, COST["cuda"]):
        return f"not compiled (the steps take about {_duration(eager * steps)}, too short to repay it)"
    failure = trial.descent.compile(trial.micro)
    if failure is not None:
        return f"not compiled (the compiler failed: {failure})"
    eager, compiled = trial.seconds_eager_and_compiled()
    measured = f"measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g}"
    if compiled > (1.0 - WORTH) * eager:
        trial.descent.leave_uncompiled()
        return f"not compiled ({measured})"
    return _compiled(measured, trial)


def _compiled(why: str, trial: StepTrial) -> str:
    part = trial.descent.part
    return f"compiled ({why}; {part})" if part else f"compiled ({why})"


def _medians(steps: Sequence[Callable[[], None]], device: torch.device) -> list[float]:
    """Seconds of each of some steps, after some to warm up."""
    return [statistics.median(seconds[WARM:]) for seconds in seconds_in_turns(steps, device, WARM + TIMED)]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
