"""Whether compiling pays, by measuring this model on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ._hardware import synchronise
from ._settings import TrainSettings
from ._terms import StepTerms

WARM, TIMED = 2, 5
HOPED = 0.25  # share of a step that a compiler saves where it does well
COST = {"cpu": 20.0, "cuda": 40.0}  # seconds that a first compilation takes
FEWEST = 500  # steps, under which nothing is even timed
WORTH = 0.03  # share of a step for which to keep it

Step = Callable[[], None]


def choose_compile(
    settings: TrainSettings,
    terms: StepTerms,
    forward: nn.Module,
    backward: Callable[[Tensor], None],
    batch: tuple[Tensor, Tensor],
    steps: int,
) -> str:
    """Compile the terms where that pays, and say what was chosen and why.

    A run is timed for a few steps. Where even a good gain over all its steps would not repay the compiler's own seconds,
    nothing is compiled; otherwise it is, timed again, and kept if it is faster. Nothing that the trial touches, buffers,
    gradients or generators, is changed by it.

    Args:
        settings: `compile` is `on`, `off` or `auto`.
        terms: of the model.
        forward: the same under the run's precision.
        backward: of a scalar, under the same.
        batch: data and noise, as a step takes them.
        steps: of the run.
    """
    if settings.compile == "off":
        return "not compiled (as asked)"
    if settings.compile == "on":
        with _undisturbed(terms):  # now rather than in the first step, whose epoch would be charged with it
            terms.compile_terms()
            backward(_loss(forward, batch))
        return (
            "compiled (as asked)" if terms.failure is None else f"not compiled (the compiler failed: {terms.failure})"
        )
    if steps < FEWEST:
        return f"not compiled ({steps} steps cannot repay it)"
    device = batch[0].device
    with _undisturbed(terms):

        def seconds() -> float:
            return _seconds_of_a_step(lambda: backward(_loss(forward, batch)), device)

        eager = seconds()
        cost = COST.get(device.type, COST["cuda"])
        if HOPED * eager * steps < cost:
            return f"not compiled (the steps take about {_duration(eager * steps)}, too short to repay it)"
        terms.compile_terms()
        compiled = seconds()
    if terms.failure is not None:
        return f"not compiled (the compiler failed: {terms.failure})"
    if compiled > (1.0 - WORTH) * eager:
        terms.leave_uncompiled()
        return f"not compiled (measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g})"
    return f"compiled (measured: {1e3 * compiled:.3g} ms a step instead of {1e3 * eager:.3g})"


def _loss(forward: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    nll, kl, _ = forward(*batch)
    loss: Tensor = nll.sum() + kl.sum()
    return loss


def _seconds_of_a_step(step: Step, device: torch.device) -> float:
    """Median of a few steps, forward and backward, after some to warm up."""
    for _ in range(WARM):
        step()
    found = []
    for _ in range(TIMED):
        synchronise(device)
        started = time.perf_counter()
        step()
        synchronise(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found)


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """Buffers, gradients and the global generators as they were before."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
    module.zero_grad(set_to_none=True)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
