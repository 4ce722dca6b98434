"""Whether compiling pays, by measuring this model on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ..models import optimal_sigma_of
from ._hardware import synchronise
from ._settings import TrainSettings
from ._step import Autocast
from ._terms import MicroBatch, StepTerms

WARM, TIMED = 2, 5
HOPED = 0.25  # share of a step that a compiler saves where it does well
COST = {"cpu": 15.0, "cuda": 40.0}  # seconds that a first compilation takes
FEWEST = 500  # steps, under which nothing is even timed
WORTH = 0.03  # share of a step for which to keep it


@final
@dataclass(frozen=True)
class StepTrial:
    """A step without its consequences: forward and backward on one batch, nothing of which stays.

    Attributes:
        terms: of the model.
        batch: as a step takes it.
        backward: of a scalar, under the run's precision.
        autocast: of the networks.
        holds_sigma: whether a step holds an optimal sigma, as it does over several micro-batches: other code is compiled for it.
    """

    terms: StepTerms
    batch: MicroBatch
    backward: Callable[[Tensor], None]
    autocast: Autocast = nullcontext
    holds_sigma: bool = False

    def __call__(self) -> None:
        """Forward and backward."""
        with self.autocast():
            loss, _ = self.terms(self.batch, self.batch.noise.new_ones(2))
        self.backward(loss)

    def seconds(self) -> float:
        """Median of a few, after some to warm up."""
        return _seconds_in_turns([self], self.batch.noise.device)[0]

    def seconds_eager_and_compiled(self) -> tuple[float, float]:
        """The same both ways, in turns, so that a busy machine hurts both."""

        def eager() -> None:
            with self.terms.eagerly():
                self()

        before, after = _seconds_in_turns([eager, self], self.batch.noise.device)
        return before, after

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Buffers, gradients and the global generators as they were before."""
        buffers = {name: buffer.clone() for name, buffer in self.terms.named_buffers()}
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        sigma = optimal_sigma_of(self.terms.model) if self.holds_sigma else None
        if sigma is not None:
            sigma.freeze(self.batch.noise.new_ones(sigma.sigma_shape))
        try:
            with torch.random.fork_rng(devices=devices):
                yield
        finally:
            if sigma is not None:
                sigma.unfreeze()
            with torch.no_grad():
                for name, buffer in self.terms.named_buffers():
                    buffer.copy_(buffers[name])
            self.terms.zero_grad(set_to_none=True)


def choose_compile(settings: TrainSettings, trial: StepTrial, steps: int) -> str:
    """Compile the terms where that pays, and say what was chosen and why.

    A run is timed for a few steps. Where even a good gain over all its steps would not repay the compiler's own seconds,
    nothing is compiled; otherwise it is, timed again, and kept if it is faster. Nothing that the trial touches, buffers,
    gradients or generators, is changed by it.

    Args:
        settings: `compile` is `on`, `off` or `auto`.
        trial: a step.
        steps: of the run.
    """
    terms = trial.terms
    if settings.compile == "off":
        return "not compiled (as asked)"
    if settings.compile == "on":
        with trial.undisturbed():  # now rather than in the first step, whose epoch would be charged with it
            terms.compile_terms()
            trial()
        return (
            "compiled (as asked)" if terms.failure is None else f"not compiled (the compiler failed: {terms.failure})"
        )
    if steps < FEWEST:
        return f"not compiled ({steps} steps cannot repay it)"
    with trial.undisturbed():
        eager = trial.seconds()
        cost = COST.get(trial.batch.noise.device.type, COST["cuda"])
        if HOPED * eager * steps < cost:
            return f"not compiled (the steps take about {_duration(eager * steps)}, too short to repay it)"
        terms.compile_terms()
        eager, compiled = trial.seconds_eager_and_compiled()
    if terms.failure is not None:
        return f"not compiled (the compiler failed: {terms.failure})"
    if compiled > (1.0 - WORTH) * eager:
        terms.leave_uncompiled()
        return f"not compiled (measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g})"
    return f"compiled (measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g})"


def _seconds_in_turns(steps: Sequence[Callable[[], None]], device: torch.device) -> list[float]:
    """Median of each of some steps, forward and backward, after some to warm up."""
    found: list[list[float]] = [[] for _ in steps]
    for _ in range(WARM + TIMED):
        for step, seconds in zip(steps, found, strict=True):
            synchronise(device)
            started = time.perf_counter()
            step()
            synchronise(device)
            seconds.append(time.perf_counter() - started)
    return [statistics.median(seconds[WARM:]) for seconds in found]


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
