"""The training loop."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from ..errors import NonFiniteError
from ..models import optimal_scale_of
from ._budget import close_round
from ._optimiser import set_rates
from ._progress import REFRESH_EVERY

if TYPE_CHECKING:
    from ._tracker import Tracker
    from ._trainer import Trainer

SMOOTHING = 0.95**REFRESH_EVERY  # of the terms on the progress bar


def train_epochs(trainer: Trainer, tracker: Tracker, interrupt: threading.Event) -> None:
    """Train, validate, select and save, epoch after epoch, until the run is done or is to stop."""
    while not trainer.is_done():
        train_epoch(trainer, interrupt)
        close_epoch(trainer, tracker)


def train_epoch(trainer: Trainer, interrupt: threading.Event) -> None:
    """Take the steps of an epoch that are left.

    Raises:
        KeyboardInterrupt: once the state is on disk.
    """
    state, started = trainer.state, time.perf_counter()
    if state.steps_in_epoch == 0:
        state.sums = {}
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
            if interrupt.is_set():
                break
    state.seconds += time.perf_counter() - started
    if interrupt.is_set():
        trainer.stop()
    state.epoch += 1
    state.steps_in_epoch = 0


def take_step(trainer: Trainer, pieces: list) -> dict[str, float]:  # type: ignore[type-arg]
    """Set the rates, take one step, follow with the average."""
    state, settings = trainer.state, trainer.settings
    set_rates(trainer.optimisers, trainer.rate())
    try:
        sums = trainer.step(pieces, state.step)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"epoch {state.epoch + 1}, batch {state.steps_in_epoch + 1} (step {state.step + 1}): {error}. The last good "
            f"state is in {trainer.keeper.last}. Go on from there with --resume and a lower --lr (now "
            f"{settings.lr:g}) or --grad-clip-norm (now {settings.grad_clip_norm:g}), or look for extreme values in the data."
        ) from error
    if trainer.average is not None:
        trainer.average.update_parameters(trainer.model)
    return sums


def close_epoch(trainer: Trainer, tracker: Tracker) -> None:
    """Validate, select by the objective that was asked for, save and report."""
    state = trainer.state
    trainer.complete_average()
    try:
        summary = trainer.validate()
    except NonFiniteError as error:
        raise NonFiniteError(
            f"epoch {state.epoch}: {error}. The last good state is in {trainer.keeper.last}. Look for extreme values in the data, "
            "or lower --lr."
        ) from error
    row = trainer.row(summary)
    score = -row["validation_loss"]
    state.history.append(row)
    if is_best := score > state.best_score:
        state.best_score, state.best_epoch = score, state.epoch
        trainer.keeper.save_best(trainer.kept, state)
    close_round(trainer)
    scale = optimal_scale_of(trainer.kept)
    if scale is not None:
        scale.release()
    trainer.save()
    trainer.keeper.folder.write_history(state.history)
    tracker.log(row, state.step)
    trainer.reporter.epoch(row, is_best)
