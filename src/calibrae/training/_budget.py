"""Length of a run: so many epochs, or rounds of the learning rate until it has settled, within a number of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from ._trainer import Trainer

STEPS = 18_000  # of a run whose epochs are not given: twenty epochs of 57,000 examples
FIRST_EPOCHS = 20  # of the first round
GROWTH = 2  # each round is so many times longer than the one before
PROGRESS = 2e-4  # share of the whole fall of the validation loss that a round must bring


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """Steps of a run.

    With a number of epochs there is one round: the learning rate rises and falls as a cosine to zero at their end. Without, a round
    of twenty epochs is followed by rounds of twice the length (warm restarts, Loshchilov and Hutter 2017), each from the best weights
    so far, until one of them brings nothing or the steps are over. So small data take the epochs that they need, and large data take
    no more steps than these.

    Args:
        epochs: passes over the training set; `None` for until it has settled.
        steps_per_epoch: optimiser steps of an epoch.

    Examples:
        >>> Budget(None, 703).first, Budget(None, 22).first, Budget(None, 22).most, Budget(3, 22).first
        (14060, 440, 17996, 66)
    """

    epochs: int | None
    steps_per_epoch: int

    @property
    def most(self) -> int:
        """Most steps that the run takes, in whole epochs."""
        epochs = self.epochs if self.epochs is not None else max(1, STEPS // self.steps_per_epoch)
        return epochs * self.steps_per_epoch

    @property
    def first(self) -> int:
        """Steps of the first round."""
        return self.most if self.epochs is not None else min(self.most, FIRST_EPOCHS * self.steps_per_epoch)

    def next_round(self, start: int, end: int) -> int | None:
        """Last step of the round after the one from `start` to `end`; `None` if too few steps are left for a longer one.

        Examples:
            >>> Budget(None, 22).next_round(0, 440), Budget(None, 703).next_round(0, 14060)
            (1320, None)
        """
        length = end - start
        left = self.most - end
        if self.epochs is not None or left < length:
            return None
        return end + min(GROWTH * length, left)

    @staticmethod
    def has_progressed(losses: Sequence[float], before: int) -> bool:
        """Tell whether the epochs after the first `before` have lowered the validation loss by what counts.

        Examples:
            >>> Budget.has_progressed([9.0, 5.0, 4.9], 2), Budget.has_progressed([9.0, 5.0, 5.0], 2)
            (True, False)
        """
        if not before:
            return True
        least = PROGRESS * (losses[0] - min(losses))
        return min(losses[before:], default=losses[0]) < min(losses[:before]) - least


def losses_of(history: Sequence[Mapping[str, float]]) -> list[float]:
    """Validation losses of the rows of a history."""
    return [row["validation_loss"] for row in history]


def close_round(trainer: Trainer) -> None:
    """Begin another round of the learning rate, of a run without a number of epochs, if the last one helped and steps are left."""
    state, budget = trainer.state, trainer.budget
    if state.step < trainer.round_end or state.is_settled:
        return
    end = budget.next_round(state.round_start, trainer.round_end)
    state.is_settled = end is None or not budget.has_progressed(losses_of(state.history), state.round_epoch)
    if state.is_settled or end is None:
        return
    trainer.take_best()
    state.round_start, state.round_end, state.round_epoch = state.step, end, state.epoch
    trainer.reporter.retarget(end)
    trainer.reporter.say(f"not settled yet: another round of {end - state.step:,} steps, from epoch {state.best_epoch}")
