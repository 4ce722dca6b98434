"""Train a model and look at it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .._optional import missing_extra, names_missing
from .._plain import record_of
from .._types import World
from ..acceleration import find_device
from ..data import KEPT, Data, DataOptions, load_data, names_of
from ..errors import ArgumentError, CalibraeError, RunError
from ..models import VAE
from ..objectives import BetaELBO, Objective
from ..runs import RunFolder, require_storable
from ..training import (
    AbstractReporter,
    Bar,
    Silent,
    Stopped,
    Trainer,
    TrainSettings,
    in_turn,
    join_world,
    local_device,
    progress_bar,
    trainable_parameters,
    was_restarted,
)
from ._announce import announce
from ._draw import draw_run
from ._records import StoredRequest, keep_numbers, stored_request, write_again, write_end, write_start
from ._run import Run
from ._stored import require_same, run_condition, run_preparation, stored_data

PICTURES = "CALIBRAE_PICTURES"
YES_OR_NO = dict.fromkeys(("", "1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
NOT_KEPT = (
    "the data are not kept with the run (over a gigabyte, or the cache cannot be written): evaluate(run, data=...)"
)
SETTINGS = tuple(field.name for field in fields(TrainSettings))


@names_missing
def fit(
    model: VAE,
    data: Any,
    out: str | Path | None = None,
    *,
    epochs: int | None = None,
    condition: Any = None,
    objective: Objective | None = None,
    beta: float | None = None,
    kl_warmup: float | None = None,
    options: DataOptions | None = None,
    batch_size: int | None = None,
    micro_batches: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    lr_warmup: float | None = None,
    grad_clip_norm: float | None = None,
    horizontal_flip: bool | None = None,
    ema_decay: float | None = None,
    patience: int | None = None,
    seed: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] | None = None,
    compile: Literal["auto", "on", "off"] | None = None,  # noqa: A002 (torch's name for it)
    acceleration: Literal["on", "off"] | None = None,
    device: str | None = None,
    accelerator: str | None = None,
    eval_batch_size: int | None = None,
    threads: int | Literal["auto"] | None = None,
    retain_memory: bool | None = None,
    save_every: str | int | None = None,
    keep: int | None = None,
    max_minutes: float | None = None,
    fsdp: bool | None = None,
    stop_after: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    pictures: bool | None = None,
    request: Mapping[str, Any] | None = None,
) -> Run:
    """Train a model, select it by the validation value of its objective, fix its scale on the training set, and save it.

    Options that are left at `None` have the defaults of `TrainSettings`; when a run is resumed, its own values.

    Args:
        model: any `VAE`; trained in place. Submodules in eval mode stay so.
        data: a name, a path, an array `[N, *data]`, a tensor, a dict of arrays, or a Dataset; `None` on resuming: those of the run.
        out: run folder; by default a new temporary one.
        epochs: passes over the training set; by default until the validation loss has settled, or 18,000 steps are over.
        condition: condition of each example, for a conditional model: an array `[N]` or `[N, k]`, a dict of such by split, or the name
            of a column (several as a list), or `class` for folders of pictures, or `label` for label files. Classes become one-hot,
            numbers standardised.
        objective: loss to minimise; by default the model's.
        beta: weight of the summed KL beside the full NLL, in place of an objective.
        kl_warmup: share of all steps over which beta rises from 0, in place of an objective.
        options: how the data are read and split.
        batch_size: examples per optimiser step.
        micro_batches: pieces that a batch is cut into to save memory.
        lr: peak learning rate of AdamW.
        weight_decay: AdamW's weight decay; by default 0.1, and 0 for a linear network.
        lr_warmup: share of all steps over which the learning rate rises.
        grad_clip_norm: largest norm of the gradient, in nats per data dimension; 0 for none.
        horizontal_flip: mirror training examples at random.
        ema_decay: decay of an exponential moving average of the weights; 0 for none.
        patience: epochs without a better validation loss after which training stops; 0 for never.
        seed: seed of order and noise, and of the global generators while the run trains.
        precision: `fp32`, `bf16` or `auto`.
        compile: `on`, `off` or `auto`.
        acceleration: `on`, or `off` for the plain step.
        device: `cpu`, `cuda`, `mps`, or `auto`: CUDA if it can be used, else the CPU.
        accelerator: word of Lightning for `device`, read as such.
        eval_batch_size: examples at once without gradients.
        threads: threads of the CPU, or `auto`; a setting of the whole process.
        retain_memory: hold on to freed memory between steps; a setting of the whole process.
        save_every: how often the state is saved within an epoch, in steps (`1000`) or in time (`"5min"`).
        keep: states that are kept.
        fsdp: cut the networks into a piece for each process (FSDP), where they are too large for one card.
        max_minutes: minutes after which to save and stop for now; the run can be resumed.
        stop_after: epochs after which to stop for now; the run can be resumed.
        resume: go on from the last checkpoint in `out`.
        overwrite: replace a run that is already there.
        quiet: say nothing.
        verbose: also tell how it is done: device, precision, threads, compilation, and what beta is called in other code.
        pictures: draw curves, reconstructions, samples and a traversal at the end; by default unless the environment variable
            `CALIBRAE_PICTURES` is 0.
        request: the user's own words, kept in `config.toml`.

    Returns:
        The run: folder, model, data and history, with the verbs of the command line.

    Raises:
        CalibraeError: if the data, a setting or the folder is not usable, saying what to do.

    Examples:
        >>> model = build("sigma-vae", data_shape=(1, 8, 8), latent_dim=2)
        >>> run = fit(model, "digits", epochs=1, quiet=True, pictures=False)
        >>> run.evaluate().n
        180
    """
    device = device or accelerator
    asked = {name: value for name, value in locals().items() if name in SETTINGS and value is not None}
    draws = _wanted(PICTURES) if pictures is None else pictures
    _require_extras(pictures=draws)
    trainable_parameters(model)
    world = join_world(device or "auto")
    reporter: AbstractReporter = Silent() if quiet or not world.is_first else Bar(verbose=verbose)
    chosen_objective = _objective(objective, beta, kl_warmup)
    place, resume = world.from_first(partial(_place, out, resume=resume, overwrite=overwrite, reporter=reporter))
    with ExitStack() as stack:
        world.from_first(lambda: stack.enter_context(RunFolder(place).held()))
        if resume:
            stored = stored_request(RunFolder(place))
            chosen = _settings({**stored.training, "max_minutes": None, **asked})  # a limit is of one part of a run
            with progress_bar(show=not quiet and world.is_first):
                ready = in_turn(partial(_resumed_data, place, data, options, condition, stored), world)
            goal = _resumed_objective(stored, chosen_objective, model)
            stored.require_model(model)
            world.from_first(partial(write_again, RunFolder(place), ready, chosen))
        else:
            chosen = _settings(asked)
            with progress_bar(show=not quiet and world.is_first):
                ready = in_turn(partial(load_data, data, options, condition=condition), world)
            goal = chosen_objective or model.objective
        chosen = replace(chosen, device=local_device(chosen.device, world))
        find_device(chosen.device)
        require_storable(model)
        ready = _suited(model, ready, chosen)
        for note in ready.source.notes:
            reporter.say(f"note: {note}")
        job = _Job(model, ready, place, chosen, goal, reporter, dict(request or {}), stop_after, world)
        trainer, history = job.train(resume=resume, overwrite=overwrite)
        run = Run(trainer.keeper.folder, model, ready, history)
        world.from_first(partial(_conclude, run, trainer, reporter, pictures=draws))
    return run


def _conclude(run: Run, trainer: Trainer, reporter: AbstractReporter, *, pictures: bool) -> None:
    """Complete the records of a run, and draw it."""
    write_end(run, trainer)
    baseline = _numbers(run, reporter)
    if pictures:
        for failed in draw_run(run, baseline):
            reporter.say(f"note: {failed}")


def _numbers(run: Run, reporter: AbstractReporter) -> tuple[str, float] | None:
    """Keep the numbers of the validation split; returns the baseline's name and log-likelihood, if there is one."""
    try:
        found = keep_numbers(run)
    except CalibraeError as error:  # the model is trained and saved
        reporter.say(f"note: the numbers of the validation split were not kept: {error}")
        return None
    if found.baseline is None or found.baseline_log_likelihood_nats is None:
        return None
    return found.baseline, found.baseline_log_likelihood_nats


def _settings(asked: dict[str, Any]) -> TrainSettings:
    return record_of(TrainSettings, {name: value for name, value in asked.items() if name in SETTINGS})


def _place(out: str | Path | None, *, resume: bool, overwrite: bool, reporter: AbstractReporter) -> tuple[Path, bool]:
    """Folder of the run, and whether it goes on there.

    Raises:
        RunError: if the folder cannot be used so.
    """
    if out is None:
        if resume:
            raise ArgumentError("to resume a run, name its folder: fit(model, data, out, resume=True).")
        return Path(tempfile.mkdtemp(prefix="calibrae-")) / "run", False
    place = Path(out)
    if was_restarted() and not resume and RunFolder(place).has_begun:
        reporter.say(f"note: the launcher has started this again: going on with the run in {place}")
        resume = True
    if resume:
        RunFolder.open(place)
    else:
        RunFolder.require_free(place, overwrite=overwrite)
    return place, resume


def _objective(objective: Objective | None, beta: float | None, kl_warmup: float | None) -> Objective | None:
    if beta is None and kl_warmup is None:
        return objective
    if objective is not None:
        raise ArgumentError("give beta and kl_warmup to the objective itself; got both them and an objective.")
    return BetaELBO(1.0 if beta is None else beta, kl_warmup or 0.0)


def _wanted(variable: str) -> bool:
    """Read yes or no from an environment variable, as the command line does; yes where it is not set."""
    word = os.environ.get(variable, "")
    if word.strip().lower() not in YES_OR_NO:
        raise ArgumentError(f"the environment variable {variable} must be 1 or 0, yes or no; got {word!r}.")
    return YES_OR_NO[word.strip().lower()]


def _require_extras(*, pictures: bool) -> None:
    """Raise before the first step what would be missing after the last."""
    import importlib.util

    needed = ["lightning_fabric", "safetensors", "tomli_w", "psutil", *(["matplotlib"] if pictures else [])]
    for package in needed:
        if importlib.util.find_spec(package) is None:
            raise missing_extra(ModuleNotFoundError(name=package))


@dataclass
class _Job:
    """A training run that is about to begin."""

    model: VAE
    data: Data
    place: Path
    settings: TrainSettings
    objective: Objective
    reporter: AbstractReporter
    request: dict[str, Any]
    stop_after: int | None
    world: World

    def train(self, *, resume: bool, overwrite: bool) -> tuple[Trainer, list[dict[str, float]]]:
        """Train in a folder that is left as it was if nothing begins."""
        folder, first = RunFolder(self.place), self.world.is_first
        try:
            if not resume:
                self.world.from_first(partial(self._begin, folder, overwrite=overwrite))
            trainer = Trainer(
                self.model,
                self.data,
                folder,
                self.settings,
                self.objective,
                self.reporter,
                self.stop_after,
                self.world,
            )
            announce(
                self.model,
                self.data,
                self.objective,
                self.reporter,
                trainer.round_end,
                until_settled=self.settings.epochs is None,
            )
            return trainer, trainer.run(resume=resume)
        except BaseException as error:
            if first and not resume and not folder.has_begun:
                folder.abandon()
                if isinstance(error, KeyboardInterrupt):
                    message = "interrupted before the first step: there is nothing to keep, and the folder is as it was"
                    self.reporter.say(message)
                    raise Stopped(message, getattr(error, "code", 130)) from None
            raise
        finally:
            if first and folder.has_begun:
                folder.discard_old()

    def _begin(self, folder: RunFolder, *, overwrite: bool) -> None:
        """Write what was asked for."""
        RunFolder.create(self.place, overwrite=overwrite)
        condition = None if self.data.condition is None else self.data.condition.names
        options = replace(self.data.options, condition=condition)
        write_start(folder, self.model, self.data, options, self.settings, self.objective, self.request)
        if folder.read_config()["data"].get("source") is None:
            self.reporter.say(f"note: {NOT_KEPT}")


def _resumed_data(place: Path, data: Any, options: DataOptions | None, condition: Any, stored: StoredRequest) -> Data:
    """The data of a run that goes on, which must be those that it began with."""
    folder = RunFolder.open(place)
    if options is not None and replace(options, condition=stored.options.condition) != stored.options:
        raise RunError(f"a resumed run keeps its data options, {stored.options}; got {options}. Leave them out.")
    known = stored_data(folder)
    chosen, coding = stored.options, run_condition(place)
    data = stored.source if data is None else data
    if condition is not None and names_of(condition, data) is None:
        chosen = replace(chosen, condition=None)
    elif coding is not None and coding.name == "condition" and stored.source is not None:
        data = stored.source  # kept with its condition
    ready = load_data(data, chosen, run_preparation(place), condition=condition, coding=coding)
    try:
        require_same(folder.path, ready, known)
    except RunError as error:
        if (stored.source or "").startswith(KEPT):
            raise RunError(f"{error} Pass None as the data to go on with those that were kept.") from None
        raise
    return ready


def _resumed_objective(stored: StoredRequest, given: Objective | None, model: VAE) -> Objective:
    """The objective of a run that goes on.

    Raises:
        RunError: if another was given, or it is of a class that is not registered and the model has another.
    """
    if given is not None:
        stored.require_objective(given)
        return given
    return stored.make_objective(model.objective)


def _suited(model: VAE, data: Data, settings: TrainSettings) -> Data:
    """The data as this model's likelihood needs them.

    Raises:
        ArgumentError: if the model, its likelihood or a setting has no meaning for them.
    """
    name, shape = data.source.name, data.spec.data_shape
    known = model.likelihood.data_shape if model.likelihood.knows_data_shape else shape
    if tuple(known) != shape:
        raise ArgumentError(
            f"the model was built for data of shape {tuple(known)}; {name} has {shape}. Build it with data_shape={shape}."
        )
    if settings.horizontal_flip and len(shape) != 3:
        raise ArgumentError(f"--horizontal-flip mirrors pictures; got {name} of shape {shape}. Drop it.")
    dim = 0 if data.condition is None else data.condition.dim
    if dim != model.context_dim:
        what = "no condition" if data.condition is None else data.condition.describe()
        raise ArgumentError(
            f"the model takes a context of {model.context_dim} features; got {what}. Build it with context_dim={dim}, or change the "
            "condition."
        )
    return data.prepared_for(model.likelihood.support, is_density=model.likelihood.is_density)
