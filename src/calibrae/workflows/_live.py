"""A training as it looks from outside while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import final

from torch import Tensor

from ..data import Preparation
from ..errors import RunError
from ..models import VAE
from ..runs import Lock, RunFolder, load_model
from ..training import Budget, Keeper
from ._draw import examples, reconstruct
from ._picture import save_picture
from ._records import stored_request
from ._stored import run_data, stored_data
from ._train import model_of

SHOWN, ROWS = 10, 300  # pictures, and rows of a table


@final
@dataclass(frozen=True, slots=True)
class Progress:
    """State of a training.

    Attributes:
        history: terms per epoch so far.
        epochs: number of epochs at its end; at most, where it ends when the validation loss has settled.
        is_at_most: whether it may end before.
        seconds_left: time until then, from the epochs so far; `None` before the first.
        state: `training`, `finished`, `stopped after epoch N` or `not begun`.
    """

    history: list[dict[str, float]]
    epochs: int
    is_at_most: bool
    seconds_left: float | None
    state: str


def progress_of(run: str | Path) -> Progress:
    """Look at a training. Nothing is written, and nobody is disturbed.

    Raises:
        RunError: if there is no run yet, or it is damaged.
    """
    folder = RunFolder.open(run)
    config, known, history = folder.read_config(), folder.read_run(), folder.read_history()
    asked = config["training"].get("epochs")
    patience = int(config["training"].get("patience") or 0)
    steps = max(1, -(-stored_data(folder)["sizes"].get("train", 1) // int(config["training"]["batch_size"])))
    epochs = Budget(asked, steps).most // steps
    state = state_of(folder, finished=bool(known.get("finished")), epochs=len(history))
    left = None
    if history and state == "training":
        left = history[-1].get("seconds", 0.0) / len(history) * max(0, epochs - len(history))
    return Progress(history, epochs, asked is None or patience > 0, left, state)


def state_of(folder: RunFolder, *, finished: bool, epochs: int) -> str:
    """State of a run in a word or a few: whether a process trains it, and how far it came."""
    owner = Lock(folder.path).owner
    if owner is not None and (owner.runs if owner.is_here else True):
        return "training" if owner.is_here else f"training on {owner.host}, or cut off there"
    if finished:
        return "finished"
    return f"stopped after epoch {epochs}" if folder.has_begun else "not begun"


def model_so_far(run: str | Path) -> VAE:
    """The best model of a run up to now, in eval mode: its weights after the best epoch, or those that it ended with.

    Raises:
        RunError: if no epoch has ended yet, the run is of own modules, or its files are damaged.
    """
    folder = RunFolder.open(run)
    if (folder.path / "model.safetensors").exists() and folder.read_run().get("finished"):
        return load_model(folder.path)
    stored = Keeper(folder).load()[0]
    if not stored.best.epoch:
        raise RunError(f"{run} has not ended its first epoch yet. Wait a little.")
    model = model_of(stored_request(folder))
    model.load_state_dict(stored.best.weights)
    return model.eval()


def draw_so_far(run: str | Path, path: Path) -> Path:
    """Draw some validation examples and their reconstructions by the best model up to now.

    Raises:
        CalibraeError: if there is none yet, or the data are gone.
    """
    model, (x, context, preparation, names) = model_so_far(run), _some_examples(str(run), _how_read(run))
    restore, fields = preparation.restore, () if preparation.schema is None else preparation.schema.fields
    x_hat = restore(reconstruct(model, x, context))
    title = "validation examples and their reconstructions, best epoch so far"
    return save_picture(x_hat, path, columns=SHOWN, reference=restore(x), names=names, title=title, fields=fields)


def _how_read(run: str | Path) -> str:
    """All that decides which examples a run has, and what its model sees of them."""
    return repr(stored_data(RunFolder.open(run)))


@lru_cache(maxsize=8)
def _some_examples(
    run: str,
    how_read: str,  # noqa: ARG001 (a part of the key: a run of the same name may be another)
) -> tuple[Tensor, Tensor | None, Preparation, tuple[str, ...]]:
    """A few prepared validation examples of a run, which are looked at again and again."""
    data = run_data(run)
    chosen = examples(data, "validation", ROWS if len(data.spec.data_shape) == 1 else SHOWN)
    return chosen.x, chosen.context, data.preparation, data.source.columns
