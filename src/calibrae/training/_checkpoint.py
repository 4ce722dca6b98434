"""States of training on disk: whole, several of them, and enough to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, final

from torch import Tensor

from ..errors import RunError, first_line
from ..runs import RunFolder, Writer, load_tree, require_format, save_tree
from ._choices import Choices

FORMAT = 1


@dataclass
class TrainState:
    """Everything that changes during training, but for the weights and the optimisers.

    Attributes:
        epoch: epochs finished.
        step: optimiser steps finished.
        steps_in_epoch: steps taken in the epoch that is under way.
        seconds: training time so far.
        best_score: best validation score so far, the objective's negative.
        best_epoch: its epoch.
        history: a row per epoch.
        sums: running sums of the epoch that is under way.
        round_start: step at which the round of the learning rate began.
        round_end: its last step; 0 in the first round.
        round_epoch: epochs that were finished when it began.
        is_settled: whether no further round is needed.
    """

    epoch: int = 0
    step: int = 0
    steps_in_epoch: int = 0
    seconds: float = 0.0
    best_score: float = float("-inf")
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    round_start: int = 0
    round_end: int = 0
    round_epoch: int = 0
    is_settled: bool = False


@final
@dataclass
class Kept:
    """Weights of the best epoch so far, in main memory.

    Attributes:
        epoch: the epoch; 0 before the first.
        weights: state of the model after it.
    """

    epoch: int = 0
    weights: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, epoch: int, state: Mapping[str, Any]) -> Kept:
        """The weights as they are now."""
        return cls(epoch, {name: _apart(value) for name, value in state.items()})


@final
@dataclass
class Stored:
    """A state of training as it was saved.

    Attributes:
        state: counts, sums and history of the training.
        parts: states of the model, the optimisers and the generators.
        best: weights of the best epoch.
    """

    state: TrainState
    parts: dict[str, Any]
    best: Kept

    @property
    def settings(self) -> dict[str, Any]:
        """Fields of the run's `TrainSettings`."""
        found: dict[str, Any] = self.parts["settings"]
        return found

    @property
    def choices(self) -> Choices:
        """Choices that the run made by measuring."""
        return Choices.from_dict(self.parts["choices"])


@final
class Keeper:
    """Keeps the last states of a run, and the weights of the best epoch that each of them knows.

    A state goes to a file of its own, `step-N-best-E.safetensors`, and the weights that it names to `best-E.safetensors`, so nothing
    that is whole is written over. Files that no kept state needs are removed after a newer state is on the disk.

    Args:
        folder: folder of the run.
        generations: how many states are kept.
    """

    def __init__(self, folder: RunFolder, generations: int = 2) -> None:
        self.folder = folder
        self.generations = generations
        self._best_on_disk = 0  # epoch whose weights this run, and no abandoned part of it, has put on the disk

    def states(self) -> list[Path]:
        """Files of the states that are there, the newest first."""
        return sorted(self.folder.checkpoints.glob("step-*.safetensors"), reverse=True)

    def save(self, state: TrainState, parts: Mapping[str, Any], kept: Kept) -> None:
        """Write all that is needed to go on, the history, and the best weights if they are new.

        Raises:
            RunError: if they cannot be written; the states before are untouched.
        """
        best = _best_name(kept.epoch)
        new = f"step-{state.step:09d}-{best}"
        stored = {"format": FORMAT, "state": asdict(state), "best_epoch": kept.epoch, **parts}
        writers: dict[str, Writer] = {}
        if kept.epoch != self._best_on_disk:  # before the state that needs it
            weights = {"format": FORMAT, "epoch": kept.epoch, "model": kept.weights}
            writers[self._name(best)] = partial(save_tree, tree=weights)
        writers[self._name(new)] = partial(save_tree, tree=stored)
        if state.history:
            writers["history.csv"] = self.folder.history_writer(state.history)
        self.folder.commit(writers, drop=self._needless(new, best))
        self._best_on_disk = kept.epoch

    def _needless(self, new: str, best: str) -> list[str]:
        """Names of the files that are not needed once a state and its best weights are there."""
        older = [path.name for path in self.states() if path.name < new][: self.generations - 1]
        needed = {new, best, *older, *(_best_of(name) for name in older)}
        return [
            self._name(path.name) for path in self.folder.checkpoints.glob("*.safetensors") if path.name not in needed
        ]

    def load(self) -> tuple[Stored, list[str]]:
        """The newest state that is whole, with its best weights; and what is wrong with newer ones.

        Raises:
            RunError: if there is none.
        """
        damaged: list[str] = []
        for path in self.states():
            try:
                found = self._load(path.name)
            except RunError as error:
                damaged.append(str(error))
                continue
            self._best_on_disk = found.best.epoch
            return found, damaged
        path = self.folder.path
        if not damaged:
            raise RunError(f"{path} has no checkpoint to go on from. Train it anew with --overwrite.")
        raise RunError(f"{path} has no whole checkpoint to go on from: {damaged[0]} Or train anew with --overwrite.")

    def _load(self, name: str) -> Stored:
        stored, path = self._read(name), self.folder.checkpoints / name
        try:
            values, epoch = stored.pop("state"), int(stored.pop("best_epoch"))
            kept = Kept(epoch, self._read(_best_name(epoch))["model"]) if epoch else Kept()
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path} holds no state of training: {first_line(error)}.") from error
        return Stored(_state(path, values), stored, kept)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder.manifest.require_whole(self._name(name))
        stored = load_tree(path)
        if not isinstance(stored, dict):
            raise RunError(f"{path} holds no state of training.")
        require_format(path, stored)
        del stored["format"]
        return stored

    def _name(self, name: str) -> str:
        return f"{self.folder.checkpoints.name}/{name}"


def _best_name(epoch: int) -> str:
    return f"best-{epoch:06d}.safetensors"


def _best_of(name: str) -> str:
    """Name of the best weights that a state needs."""
    return name[name.index("best-") :] if "best-" in name else ""


def _apart(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def _state(path: Path, values: Any) -> TrainState:
    """The state that a file holds."""
    names = {entry.name for entry in fields(TrainState)}
    try:
        return TrainState(**{name: value for name, value in values.items() if name in names})
    except (AttributeError, TypeError) as error:
        raise RunError(f"{path} holds no state of training: {first_line(error)}.") from error
