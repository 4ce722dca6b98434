"""One training run: its parts, put together."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, cast, final

import torch
from torch import nn

from .._noise import mixed_seed
from .._types import ALONE, World
from ..acceleration import (
    AcceleratedStep,
    CompileChoice,
    Compiled,
    choose_precision,
    fast_gradients,
    find_device,
    prefetch,
    retain_freed_memory,
    threads,
    usual_layout_afterwards,
)
from ..data import Data
from ..models import VAE, ELBOSummary, optimal_scale_of
from ..objectives import Objective
from ..runs import RunFolder
from ._average import Averaged
from ._budget import Budget
from ._checkpoint import Keeper, Kept, Stored, TrainState
from ._choices import Choices, choose, choose_again, surroundings
from ._finish import finish
from ._fitting import fitting
from ._going_on import newest_state, restore
from ._halt import Halt, agreed
from ._hardware import one_process_fabric, quiet_fabric
from ._interrupt import OUT_OF_TIME, Interrupt, Stopped, interruptible
from ._loop import train_epochs
from ._loss import Piece, PieceLoss
from ._means import means_of
from ._optimiser import build_optimisers, rate_at
from ._pieces import TRAIN_STREAM, Pieces
from ._progress import AbstractReporter
from ._random import own_randomness, random_states, set_random_states
from ._saving import SaveClock
from ._settings import TrainSettings
from ._sharded import cut, load_weights, whole
from ._shown import show_data
from ._step import EagerStep, Step
from ._tracker import Tracker
from ._validation import Validator
from ._world import gathered, shared_scale

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@final
class Trainer:
    """Trains one model on one data set into one run folder.

    Args:
        model: any `VAE`; trained in place. Submodules that are in eval mode stay so.
        data: split and prepared.
        folder: where checkpoints, history and the model go.
        settings: how to train.
        objective: loss to minimise.
        reporter: who is told.
        world: processes that train together.
        stop_after: epochs after which to stop for now, as if interrupted; `None` to go on to the end.
    """

    def __init__(
        self,
        model: VAE,
        data: Data,
        folder: RunFolder,
        settings: TrainSettings,
        objective: Objective,
        reporter: AbstractReporter,
        stop_after: int | None = None,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.model = self.trained = model  # what steps train may be a copy that is cut over processes
        self.data = data
        self.reporter = reporter
        self.objective = objective
        self.settings = fitting(settings, data, world, reporter)
        self.stop_after = stop_after
        self.halt = Halt()
        self.state = TrainState()
        self.keeper = Keeper(folder, settings.keep)
        self.best = Kept()
        self.clock = SaveClock(settings.save_every)
        self.started = monotonic()
        self.pieces = Pieces(data, self.settings, model.latent_dim, objective.samples, world=world)
        self.generator = torch.Generator().manual_seed(mixed_seed(self.settings.seed, TRAIN_STREAM))
        self.average: Averaged | None = None
        self.kept = model
        self.optimisers: list[torch.optim.Optimizer] = []
        self.device = torch.device("cpu")
        self.step: Step
        self._fast: AcceleratedStep | None = None
        self._precision, self._is_channels_last = "fp32", False
        self._saved_step: tuple[int, int] | None = None

    @property
    def budget(self) -> Budget:
        """Length of the run."""
        return Budget(self.settings.epochs, self.pieces.steps_per_epoch)

    @property
    def round_end(self) -> int:
        """Last step of the round of the learning rate, after which the run may be over."""
        return self.state.round_end or self.budget.first

    def rate(self) -> float:
        """Share of the peak learning rate at the step that comes."""
        start = self.state.round_start
        return rate_at(self.state.step - start, self.round_end - start, self.settings.lr_warmup)

    def take_best(self) -> None:
        """Go on from the weights of the best epoch."""
        load_weights(self.trained, self.best.weights)

    @property
    def eval_batch(self) -> int:
        """Examples at once without gradients: fewer where an example is large."""
        return self.data.rows_at_once(self.settings.eval_batch_size)

    def run(self, *, resume: bool) -> list[dict[str, float]]:
        """Train, validate, select, fix the scale and save; returns the history.

        Raises:
            NonFiniteError: with batch, term and cause, once the last good state is on disk.
            Stopped: after a signal, once the state is on disk; or when the time was over before the first validation.
        """
        self.device = find_device(self.settings.device)
        with ExitStack() as stack:
            if self.settings.acceleration == "on":
                stack.enter_context(fast_gradients(self.model))
                stack.enter_context(usual_layout_afterwards(self.model))
            if self.settings.retain_memory:
                stack.enter_context(retain_freed_memory())
            stack.enter_context(threads(None if self.settings.threads == "auto" else self.settings.threads))
            stack.enter_context(own_randomness(self.settings.seed, self.device, self.world.rank))
            stack.enter_context(shared_scale(self.model, self.world))
            return self._run(resume=resume)

    def _run(self, *, resume: bool) -> list[dict[str, float]]:
        found: Stored | None = self.world.from_first(partial(newest_state, self)) if resume else None
        if self.world.size > 1:
            self.model.load_state_dict(self.world.from_first(self.model.state_dict))
        self._show_data()
        drawn = random_states(self.device)
        with quiet_fabric():
            self._set_up(found)
        set_random_states(drawn, self.device)
        if found is None:
            self.save()
        else:
            restore(self, found)
        self.reporter.start(self.round_end, self.state.step)
        tracker = Tracker(self.keeper.folder.path / "tensorboard" if self.world.is_first else None, self.state.step)
        try:
            with interruptible() as interrupt:
                train_epochs(self, tracker, interrupt)
                finish(self)
                if self.look_up(interrupt).code:
                    self.stop(self.halt.code)
        finally:
            tracker.close()
            self.reporter.close()
        return self.state.history

    def look_up(self, interrupt: Interrupt) -> Halt:
        """Ask what has come up since the last step; all processes get one answer."""
        is_late = monotonic() - self.started >= 60.0 * (self.settings.max_minutes or float("inf"))
        own = Halt(interrupt.code, is_late, self.clock.is_due(self.state.step), self.clock.is_cheap())
        self.halt = agreed(own, self.world)
        return self.halt

    def is_done(self) -> bool:
        """Tell whether all epochs are trained, patience is over, or the run is to stop for now."""
        state, settings = self.state, self.settings
        if settings.patience and state.epoch - state.best_epoch >= settings.patience:
            return True
        if self.stop_after is not None and state.epoch >= self.stop_after:
            return True
        return state.epoch >= settings.epochs if settings.epochs is not None else state.is_settled

    def _show_data(self) -> None:
        """Show the model the data; see `show_data`."""
        show_data(self.model, self.data, self.validator(), self.world)

    def validator(self, compile: CompileChoice = "auto") -> Validator:  # noqa: A002 (torch's name for it)
        settings = self.settings
        validated = self.budget.first // self.pieces.steps_per_epoch * len(self.data.view("validation"))
        uncompiled = settings.compile == "off" or settings.acceleration == "off" or self.world.size > 1
        expected = 0 if uncompiled else validated
        return Validator(
            self.kept,
            self.data,
            self.objective,
            settings.seed,
            self.eval_batch,
            expected,
            self.world,
            is_averaged=self.average is not None,
            compile=compile,
        )

    def _set_up(self, found: Stored | None) -> None:
        """Place the model and choose how its steps are taken; as before, if the run goes on and is as long as it was."""
        settings, fast = self.settings, self.settings.acceleration == "on"
        before = None if found is None or found.settings["epochs"] != settings.epochs else found.choices
        choice = "fp32" if settings.precision == "auto" and not fast else settings.precision
        if found is not None and settings.precision == "auto":
            precision, why = found.choices.precision, "as before"
        else:
            precision, why = self.world.from_first(partial(choose_precision, choice, self.device))
        self.fabric: Fabric = one_process_fabric(self.device, precision)
        if not self.model.training:
            self.model.train()
        scale = optimal_scale_of(self.model)
        if scale is not None:
            scale.release()
        if settings.fsdp and self.world.size > 1:
            self.trained = cut(self.model.to(self.device))
        loss, eager = self._eager()
        self.pieces = replace(self.pieces, pinned=self.device.type == "cuda")
        self.step, is_channels_last, how = eager, False, "plain steps (as asked)"
        if self.world.size > 1:
            cuts = ", over which the networks are cut" if self.trained is not self.model else ""
            how = f"plain steps, whose gradients are summed over {self.world.size} processes{cuts}"
        elif fast:
            first = [piece.to(self.device) for piece in self.pieces.first()]
            self.step = self._fast = step = AcceleratedStep(eager, self.device)
            if before is None:
                is_channels_last, how = choose(step, first, loss, settings, self.budget.first)
            else:
                is_channels_last, how = before.is_channels_last, choose_again(step, first, loss, settings, before)
        if settings.ema_decay:
            self.average = Averaged(self.model, settings.ema_decay)
            self.kept = cast(VAE, self.average.module)
        scoring = None if before is None else before.is_scoring_compiled
        self.validate: Validator = self.validator("auto" if scoring is None else "on" if scoring else "off")
        self._precision, self._is_channels_last = precision, is_channels_last
        self.reporter.detail(f"{self.device.type}, {precision} ({why}), {how}")

    def _eager(self) -> tuple[PieceLoss, EagerStep]:
        """The plain step, in Fabric's precision and on its device."""
        settings = self.settings
        self.optimisers = build_optimisers(self.trained, settings, self.budget.first)
        loss = PieceLoss(self.trained, self.objective, self.data.preparation)
        # one process: Fabric places and precision-wraps; called through its wrapper, a small network's step would take 5 % longer
        if self.trained is self.model:
            _, *wrapped = self.fabric.setup(loss, *self.optimisers)
        else:
            wrapped = self.optimisers
        # out of Fabric's wrappers, which on one device, in float32 or bf16, only pass the step on
        self.optimisers = [getattr(optimiser, "optimizer", optimiser) for optimiser in wrapped]
        return loss, EagerStep(
            loss,
            self.optimisers,
            self.budget.first,
            settings.grad_clip_norm,
            self.fabric.autocast,
            self.fabric.backward,
            self.world,
            settings.batch_size,
        )

    @property
    def choices(self) -> Choices:
        """Choices that were made by measuring, up to now."""
        compiled: Compiled = "none" if self._fast is None else self._fast.compiled
        return Choices(
            self._precision, torch.get_num_threads(), self._is_channels_last, compiled, self.validate.is_compiled
        )

    def batches(self) -> Generator[list[Piece], None, None]:
        """Batches of the epoch that are left, in main memory; made while a device computes, unless the processor does."""
        state = self.state
        pieces = self.pieces.epoch(state.epoch, state.steps_in_epoch, self.generator)
        if self.device.type == "cpu" or self.settings.acceleration == "off":
            yield from pieces
        else:
            yield from prefetch(pieces, self.generator)

    def complete_kept(self) -> None:
        """Give the model that is validated what steps do not: whole weights of cut networks; beside an average, what has none."""
        if self.trained is not self.model:
            self.model.load_state_dict(whole(self.trained.state_dict()))
        if self.average is None:
            return
        for source, target in zip(self.model.modules(), self.kept.modules(), strict=True):
            if type(source).get_extra_state is not nn.Module.get_extra_state:
                target.set_extra_state(deepcopy(source.get_extra_state()))

    def stop(self, code: int) -> NoReturn:
        """Save and stop.

        Args:
            code: exit code of a command that this ends.

        Raises:
            Stopped: always.
        """
        self.save()
        what = "out of time" if code == OUT_OF_TIME else "interrupted"
        message = f"{what} after {self.where()}; nothing is lost. {self.how_to_go_on()}"
        self.reporter.say(message)
        raise Stopped(message, code)

    def where(self) -> str:
        """Say where the run stands."""
        return f"step {self.state.step} of {self.round_end}"

    def how_to_go_on(self) -> str:
        """Say how to resume."""
        return f"Go on with: calibrae train {self.data.source.name} --out {self.keeper.folder.path} --resume"

    def last_good(self) -> str:
        """Say where the last good state is."""
        states = self.keeper.states()
        return f"The last good state is in {states[0]}." if states else "No state is on disk yet."

    def means(self, sums: dict[str, float]) -> dict[str, float]:
        """Means per example of a step's sums; see `means_of`."""
        return means_of(sums, self.trained.likelihood.scale)

    def row(self, summary: ELBOSummary) -> dict[str, float]:
        """Row of the history for the epoch that has just been validated."""
        state, share = self.state, self.rate()
        row = {
            "epoch": state.epoch,
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "lr": share * self.settings.lr,
        }
        row |= self.objective.schedule(state.step, self.budget.first)
        row |= {f"train_{name}": value for name, value in self.means(state.sums).items() if name != "sigma"}
        row |= {f"validation_{name}": value for name, value in self.validate.columns(summary).items()}
        scale = self.kept.likelihood.scale
        return row if scale is None else row | {"sigma": scale.std()}

    def save(self) -> None:
        """Write the state, from which training can go on to the same end."""
        if self._saved_step == (self.state.step, self.state.epoch):
            return
        began, everyone = monotonic(), gathered(random_states(self.device), self.world)
        parts: dict[str, Any] = {
            "model": whole(self.trained.state_dict()),
            "optimisers": [whole(optimiser.state_dict()) for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "random": everyone,
            "settings": asdict(self.settings),
            "choices": self.choices.to_dict(),
            "surroundings": surroundings(self.device, self.world.size),
        }
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        self.world.from_first(partial(self.keeper.save, self.state, parts, self.best))
        self.is_saved_at(self.state)
        self.clock.saved(self.state.step, monotonic() - began)

    def is_saved_at(self, state: TrainState) -> None:
        """Take note that this state is on the disk."""
        self._saved_step = (state.step, state.epoch)
