"""The end of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NonFiniteError
from ..models import optimal_scale_of
from ._budget import close_round
from ._checkpoint import Kept

if TYPE_CHECKING:
    from ._tracker import Tracker
    from ._trainer import Trainer


def close_epoch(trainer: Trainer, tracker: Tracker) -> None:
    """Validate, select by the objective that was asked for, save and report."""
    state = trainer.state
    trainer.complete_kept()
    try:
        summary = trainer.validate()
    except NonFiniteError as error:
        raise NonFiniteError(
            f"epoch {state.epoch}: {error}. {trainer.last_good()} Look for extreme values in the data, or lower --lr."
        ) from error
    row = trainer.row(summary)
    score = -row["validation_loss"]
    state.history.append(row)
    if is_best := score > state.best_score:
        state.best_score, state.best_epoch = score, state.epoch
        trainer.best = Kept.of(state.epoch, trainer.kept.state_dict())
    close_round(trainer)
    scale = optimal_scale_of(trainer.kept)
    if scale is not None:
        scale.release()
    if trainer.halt.is_due or trainer.halt.is_cheap:
        trainer.save()
    tracker.log(row, state.step)
    trainer.reporter.epoch(row, is_best)
