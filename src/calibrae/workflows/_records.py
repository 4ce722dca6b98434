"""Records that a run writes about itself: what was asked for, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from .._plain import plain
from .._registry import create, describe
from ..data import Data, DataOptions, keep_source
from ..errors import ArgumentError, RunError
from ..evaluation import Evaluation, evaluate_model, training_baseline
from ..models import VAE
from ..objectives import Objective
from ..runs import RunFolder, hardware, peak_memory, save_baseline
from ..training import FREE_ON_RESUME, Trainer, TrainSettings
from ._run import Run
from ._stored import options_from, options_to_dict

OWN = "own modules"
EVALUATED = 512  # examples at once


def write_start(
    folder: RunFolder,
    model: VAE,
    data: Data,
    options: DataOptions,
    settings: TrainSettings,
    objective: Objective,
    request: Mapping[str, Any],
) -> None:
    """Write `config.toml` and `run.json` of a run that begins."""
    config = {
        "data": {"source": _place_of(data), **options_to_dict(options)},
        "model": _model_record(model),
        "objective": _objective_record(objective),
        "training": asdict(settings),
        "request": dict(request),
    }
    folder.commit(
        {"config.toml": folder.config_writer(config)}, seed=settings.seed, data=data.describe(), finished=False
    )


def write_again(folder: RunFolder, data: Data, settings: TrainSettings) -> None:
    """Note what is new about a run that goes on: where its data are now, and the settings that may change.

    If it is to be longer, it is not finished any more, and the numbers of its validation split are no longer those of its end.
    """
    config, before = folder.read_config(), dict(folder.read_config()["training"])
    now = plainly(asdict(settings))
    changed = {name: now.get(name) for name in FREE_ON_RESUME if now.get(name) != before.get(name)}
    if data.source.place is not None:
        config["data"]["source"] = data.source.place
    config["training"] |= changed
    config["request"] = config.get("request", {}) | {k: v for k, v in changed.items() if k in config.get("request", {})}
    is_longer = bool({"epochs", "patience"} & set(changed))
    entries: dict[str, Any] = {"finished": False, "validation": {}} if is_longer else {}
    if config != folder.read_config() or entries:
        folder.commit({"config.toml": folder.config_writer(config)}, **entries)


def _model_record(model: VAE) -> dict[str, Any]:
    if model.config is not None:
        return {"name": model.config.name, **model.config.parts}
    return {"name": OWN, "architecture": architecture(model)}


def _objective_record(objective: Objective) -> dict[str, Any]:
    described = describe(objective)
    if described is not None:
        return described
    settings = {k: v for k, v in vars(objective).items() if isinstance(v, bool | int | float | str)}
    return {"name": OWN, "class": type(objective).__qualname__, "samples": objective.samples, "settings": settings}


def architecture(model: VAE) -> str:
    """Hash of the classes of a model's modules and the shapes of its tensors.

    Examples:
        >>> from calibrae.workflows._records import architecture
        >>> one, other = (build("vae", data_shape=(4,), latent_dim=d) for d in (2, 3))
        >>> architecture(one) == architecture(other)
        False
    """
    modules = [(name, type(module).__qualname__) for name, module in model.named_modules()]
    tensors = [(name, tuple(value.shape)) for name, value in model.state_dict().items() if hasattr(value, "shape")]
    return hashlib.blake2b(repr((modules, tensors)).encode(), digest_size=8).hexdigest()


def _place_of(data: Data) -> str | None:
    """Name or path under which the data can be opened again; data from Python are kept in the cache."""
    return data.source.place or keep_source(data.source)


def write_end(run: Run, trainer: Trainer) -> None:
    """Complete `run.json`: how far the run is, on which machine, and what it took."""
    settings, state = trainer.settings, trainer.state
    ended = state.is_settled if settings.epochs is None else len(run.history) >= settings.epochs
    ended = ended or (settings.patience > 0 and state.epoch - state.best_epoch >= settings.patience)
    known: dict[str, Any] = {"finished": ended, "epochs": len(run.history), "seed": settings.seed}
    known |= {"selected_epoch": state.best_epoch, "selected_by": "validation_loss"}
    known |= {"training_seconds": run.history[-1]["seconds"]} if run.history else {}
    known |= {"hardware": hardware(trainer.device, trainer.world.size), **peak_memory(trainer.device)}
    run.folder.commit(**known)


def keep_numbers(run: Run) -> Evaluation:
    """Store the linear baseline with the run, and the numbers of the validation split, which lists of runs show."""
    linear = training_baseline(run.model, run.data)[0] if run.model.is_probabilistic else None
    if linear is not None:
        save_baseline(linear, run.folder)
    found = evaluate_model(
        run.model, run.data, split="validation", baseline=linear or "unknown", history=run.history, batch_size=EVALUATED
    )
    run.folder.commit(validation=found.to_dict())
    return found


@final
@dataclass(frozen=True)
class StoredRequest:
    """Request that a run was trained from.

    Attributes:
        path: folder of the run.
        source: name or path of the data, if it has one.
        data: stored data options.
        options: the data options as a record.
        model: name and parts of the model, or `own modules` and their architecture.
        training: fields of `TrainSettings`.
        objective: name and arguments of the objective, or `own modules` and its class.
        request: the command line's values, if it came from there.
    """

    path: Path
    source: str | None
    data: dict[str, Any]
    options: DataOptions
    model: dict[str, Any]
    training: dict[str, Any]
    objective: dict[str, Any]
    request: dict[str, Any]

    @property
    def is_own(self) -> bool:
        """Tell whether the model has parts whose code is not stored."""
        return bool(self.model["name"] == OWN)

    def require_model(self, model: VAE) -> None:
        """Raise `RunError` unless a model is composed as the run's."""
        now = plainly(_model_record(model))
        then = self.model
        if now == then:
            return
        if now["name"] == OWN and then["name"] == OWN:
            raise RunError(
                f"{self.path} was trained with another architecture of own modules; a resumed run keeps it. Compose it as before, or "
                "train anew."
            )
        changed = [
            f"{key} was {then.get(key)}, now {now.get(key)}"
            for key in sorted({*now, *then})
            if now.get(key) != then.get(key)
        ]
        raise RunError(f"a resumed run keeps its model; got {'; '.join(changed)}. Compose it as before, or train anew.")

    def require_objective(self, objective: Objective) -> None:
        """Raise `RunError` unless an objective is the run's."""
        now = plainly(_objective_record(objective))
        if now != self.objective:
            raise RunError(f"a resumed run keeps its objective, {self.objective}; got {now}. Leave it out.")

    def make_objective(self, own: Objective) -> Objective:
        """The run's objective: built from its description, or the model's own if that is it."""
        if plainly(_objective_record(own)) == self.objective:
            return own
        if self.objective["name"] == OWN:
            raise RunError(
                f"{self.path} was trained with the objective {self.objective.get('class')}; pass one: fit(..., objective=...)."
            )
        made: Objective = create("objective", self.objective)
        return made


def plainly(value: Any) -> Any:
    """Convert as a TOML file does: lists for tuples, entries without a value left out."""
    if isinstance(value, Mapping):
        return {key: plainly(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, list | tuple):
        return [plainly(entry) for entry in value]
    return value


def stored_request(folder: RunFolder) -> StoredRequest:
    """Read what a run was asked for.

    Raises:
        RunError: if `config.toml` is not complete.
    """
    config = folder.read_config()
    try:
        data = config["data"]
        for part in ("model", "objective"):
            plain(config[part]["name"], str, f"{part}.name")
        return StoredRequest(
            folder.path,
            data.get("source"),
            data,
            options_from(data),
            config["model"],
            config["training"],
            config["objective"],
            config.get("request", {}),
        )
    except (KeyError, TypeError, ArgumentError) as error:
        raise RunError(f"{folder.config_file} is not complete: {error}. Restore the file, or train again.") from error
