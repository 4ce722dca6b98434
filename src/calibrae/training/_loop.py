"""The training loop."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import NonFiniteError
from ._close import close_epoch
from ._optimiser import set_rates
from ._progress import REFRESH_EVERY

if TYPE_CHECKING:
    from ._interrupt import Interrupt
    from ._tracker import Tracker
    from ._trainer import Trainer

SMOOTHING = 0.95**REFRESH_EVERY  # of the terms on the progress bar


def train_epochs(trainer: Trainer, tracker: Tracker, interrupt: Interrupt) -> None:
    """Train, validate, select and save, epoch after epoch, until the run is done or is to stop.

    Raises:
        Stopped: if a signal came, once the state is on disk.
    """
    while not trainer.is_done():
        if train_epoch(trainer, interrupt):
            close_epoch(trainer, tracker)
        halt = trainer.look_up(interrupt)
        if halt.code:
            trainer.stop(halt.code)
        if halt.is_late:
            break
    trainer.save()


def train_epoch(trainer: Trainer, interrupt: Interrupt) -> bool:
    """Take the steps of an epoch that are left; returns whether all are taken, which a signal or the end of the time prevents."""
    state = trainer.state
    if state.steps_in_epoch == 0:
        state.sums = {}
    while state.steps_in_epoch < trainer.pieces.steps_per_epoch:
        _take_steps(trainer, interrupt)
        if trainer.halt.is_over:
            return False
        if state.steps_in_epoch < trainer.pieces.steps_per_epoch:
            trainer.save()
    state.epoch += 1
    state.steps_in_epoch = 0
    return True


def _take_steps(trainer: Trainer, interrupt: Interrupt) -> None:
    """Take steps until the epoch is over, the state is to be saved, or the run is to stop."""
    state, started = trainer.state, time.perf_counter()
    seen, shown = dict(state.sums), dict[str, float]()
    with closing(trainer.batches()) as batches:
        for pieces in batches:
            sums = take_step(trainer, [piece.to(trainer.device) for piece in pieces])
            state.sums = {name: state.sums.get(name, 0.0) + value for name, value in sums.items()}
            state.step += 1
            state.steps_in_epoch += 1
            if state.step % REFRESH_EVERY == 0:
                since = {name: value - seen.get(name, 0.0) for name, value in state.sums.items()}
                seen, means = state.sums, trainer.means(since)
                shown = {k: SMOOTHING * shown.get(k, v) + (1 - SMOOTHING) * v for k, v in means.items()}
                trainer.reporter.step(state.step, shown)
            halt = trainer.look_up(interrupt)
            if halt.is_over or halt.is_due:
                break
    state.seconds += time.perf_counter() - started


def take_step(trainer: Trainer, pieces: list) -> dict[str, float]:  # type: ignore[type-arg]
    """Set the rates, take one step, follow with the average."""
    state, settings = trainer.state, trainer.settings
    set_rates(trainer.optimisers, trainer.rate())
    try:
        sums = trainer.step(pieces, state.step)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"epoch {state.epoch + 1}, batch {state.steps_in_epoch + 1} (step {state.step + 1}): {error}. {trainer.last_good()} "
            f"Go on from there with --resume and a lower --lr (now {settings.lr:g}) or --grad-clip-norm (now "
            f"{settings.grad_clip_norm:g}), or look for extreme values in the data."
        ) from error
    if trainer.average is not None:
        trainer.average.update_parameters(trainer.model)
    return sums
