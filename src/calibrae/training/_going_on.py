"""Going on from the last state of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ..errors import RunError
from ._checkpoint import Stored
from ._choices import changes, surroundings
from ._random import set_random_states
from ._settings import FREE_ON_RESUME
from ._sharded import load_optimiser, load_weights

if TYPE_CHECKING:
    from ._trainer import Trainer


def newest_state(trainer: Trainer) -> Stored:
    """The newest whole state, of a run with these settings.

    Raises:
        RunError: if there is none, or a setting that must stay has changed.
    """
    stored, damaged = trainer.keeper.load()
    for error in damaged:
        trainer.reporter.say(f"note: {error} Going on from the state before it.")
    then, now = stored.settings, asdict(trainer.settings)
    changed = [f"{k} was {then[k]}, now {now[k]}" for k in now if k not in FREE_ON_RESUME and then.get(k) != now[k]]
    if changed:
        raise RunError(
            f"a resumed run keeps its settings; got {'; '.join(changed)}. Drop those options, or train anew."
        )
    return stored


def restore(trainer: Trainer, stored: Stored) -> None:
    """Take over weights, optimisers, generators and counts."""
    parts = stored.parts
    load_weights(trainer.trained, parts["model"])
    for optimiser, values in zip(trainer.optimisers, parts["optimisers"], strict=True):
        load_optimiser(optimiser, values)
    for group in trainer.optimisers[0].param_groups:
        group["peak_lr"] = trainer.settings.lr
    trainer.generator.set_state(parts["generator"].cpu())
    if trainer.average is not None:
        trainer.average.load_state_dict(parts["average"])
    if len(parts["random"]) == trainer.world.size:
        set_random_states(parts["random"][trainer.world.rank], trainer.device)
    trainer.state, trainer.best = stored.state, stored.best
    trainer.is_saved_at(trainer.state)
    trainer.reporter.say(f"going on after epoch {trainer.state.epoch}, step {trainer.state.step}")
    changed = changes(parts["surroundings"], surroundings(trainer.device, trainer.world.size))
    if changed:
        trainer.reporter.say(f"note: {changed}: from here on the numbers are those of an unbroken run but for rounding")
    if trainer.state.history and trainer.world.is_first:
        trainer.keeper.folder.commit({"history.csv": trainer.keeper.folder.history_writer(trainer.state.history)})
