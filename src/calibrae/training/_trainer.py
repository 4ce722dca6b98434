"""One training run: its parts, put together."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast, final

import torch
from torch import Tensor, nn

from .._noise import mixed_seed
from .._types import World
from ..acceleration import (
    AcceleratedStep,
    StepTrial,
    choose_compile,
    choose_layout,
    choose_precision,
    choose_threads,
    fast_gradients,
    find_device,
    prefetch,
    retain_freed_memory,
    threads,
    undisturbed,
    usual_layout_afterwards,
)
from ..data import Data
from ..errors import DataError, RunError
from ..models import VAE, ELBOSummary, optimal_scale_of, scale_over
from ..objectives import Objective
from ..runs import RunFolder, save_model
from ._average import Averaged
from ._budget import Budget
from ._checkpoint import Keeper, TrainState
from ._hardware import quiet_fabric
from ._interrupt import interruptible
from ._loop import train_epochs
from ._loss import Piece, PieceLoss
from ._optimiser import build_optimisers, rate_at
from ._pieces import TRAIN_STREAM, Pieces
from ._progress import AbstractReporter
from ._settings import FREE_ON_RESUME, TrainSettings
from ._step import EagerStep, Step
from ._tracker import Tracker
from ._validation import Validator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STATISTICS_EXAMPLES = 10_000  # of the training set, for the mean image and the scale
FIRST_SCALE_EXAMPLES = 1024  # for the start of a learned scale
FABRIC = {"fp32": "32-true", "bf16": "bf16-mixed"}


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
    ) -> None:
        self.model = model
        self.data = data
        self.reporter = reporter
        self.objective = objective
        self.settings = self._fitting(settings)
        self.stop_after = stop_after
        self.world = World()
        self.state = TrainState()
        self.keeper = Keeper(folder)
        self.pieces = Pieces(data, self.settings, model.latent_dim, objective.samples)
        self.generator = torch.Generator().manual_seed(mixed_seed(self.settings.seed, TRAIN_STREAM))
        self.average: Averaged | None = None
        self.kept = model
        self.optimisers: list[torch.optim.Optimizer] = []
        self.device = torch.device("cpu")
        self.step: Step

    def _fitting(self, settings: TrainSettings) -> TrainSettings:
        count = len(self.data.view("train"))
        if settings.batch_size <= count:
            return settings
        self.reporter.say(f"batch size {settings.batch_size} exceeds the {count} training examples: using {count}")
        return replace(settings, batch_size=count, micro_batches=min(settings.micro_batches, count))

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
        self.model.load_state_dict(self.keeper.load_best(self.device))

    @property
    def eval_batch(self) -> int:
        """Examples at once without gradients: fewer where an example is large."""
        return self.data.rows_at_once(self.settings.eval_batch_size)

    def run(self, *, resume: bool) -> list[dict[str, float]]:
        """Train, validate, select, fix the scale and save; returns the history.

        Raises:
            NonFiniteError: with batch, term and cause, once the last good state is on disk.
            KeyboardInterrupt: once the state is on disk.
        """
        with ExitStack() as stack:
            if self.settings.acceleration == "on":
                stack.enter_context(fast_gradients(self.model))
                stack.enter_context(usual_layout_afterwards(self.model))
            if self.settings.retain_memory:
                stack.enter_context(retain_freed_memory())
            stack.enter_context(threads(None if self.settings.threads == "auto" else self.settings.threads))
            return self._run(resume=resume)

    def _run(self, *, resume: bool) -> list[dict[str, float]]:
        self._show_data()
        with quiet_fabric():
            self._set_up()
        if resume:
            self._restore()
        else:
            self.save()
        self.reporter.start(self.round_end, self.state.step)
        tracker = Tracker(self.keeper.folder.path / "tensorboard")
        try:
            with interruptible() as interrupt:
                train_epochs(self, tracker, interrupt)
            self._finish()
        finally:
            tracker.close()
            self.reporter.close()
        return self.state.history

    def is_done(self) -> bool:
        """Tell whether all epochs are trained, patience is over, or the run is to stop for now."""
        state, settings = self.state, self.settings
        if settings.patience and state.epoch - state.best_epoch >= settings.patience:
            return True
        if self.stop_after is not None and state.epoch >= self.stop_after:
            return True
        return state.epoch >= settings.epochs if settings.epochs is not None else state.is_settled

    def _show_data(self) -> None:
        """Show the model the data: shape, step, mean, deviation; and start a learned scale at the decoder's residuals.

        A first scale that is far off would scale every gradient of the first steps, which Adam remembers for thousands.
        """
        self.model.initialise_from_data(self.data.spec, *self._statistics())
        scale = self.model.likelihood.scale
        if scale is not None and scale.parameter is not None:
            first = self.data.batches("train", self.eval_batch, self.settings.seed, FIRST_SCALE_EXAMPLES)
            start = scale_over(self.model, scale, first, self._validator().noise(TRAIN_STREAM).rows, self.world)
            scale.parameter.data.copy_(start.clamp_min(scale.floor).log())

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean of each element and their root mean square distance from it, over (some of) the training set."""

        def batches() -> Iterator[Tensor]:
            found = self.data.batches("train", self.eval_batch, self.settings.seed, STATISTICS_EXAMPLES)
            return (batch.x.double() for batch in found)

        count = torch.tensor(float(sum(len(x) for x in batches())), dtype=torch.float64)
        total = torch.zeros(self.data.spec.data_shape, dtype=torch.float64)
        for x in batches():
            total += x.sum(0)
        n = self.world.sum(count)
        mean = self.world.sum(total) / n
        square = torch.zeros((), dtype=torch.float64)
        for x in batches():
            square += (x - mean).square().sum()
        square = self.world.sum(square)
        if not float(square) > 0:
            raise DataError(
                f"{self.data.source.name}: all training examples are the same, so there is nothing to model."
            )
        return mean.float(), (square / (n * self.data.spec.data_dim)).sqrt().float()

    def _validator(self) -> Validator:
        settings = self.settings
        validated = self.budget.first // self.pieces.steps_per_epoch * len(self.data.view("validation"))
        uncompiled = settings.compile == "off" or settings.acceleration == "off"
        seed, expected = settings.seed, 0 if uncompiled else validated
        is_averaged = self.average is not None
        return Validator(
            self.kept, self.data, self.objective, seed, self.eval_batch, expected, self.world, is_averaged=is_averaged
        )

    def _set_up(self) -> None:
        from lightning_fabric import Fabric

        settings, fast = self.settings, self.settings.acceleration == "on"
        self.device = find_device(settings.device)
        choice = "fp32" if settings.precision == "auto" and not fast else settings.precision
        precision, why = choose_precision(choice, self.device)
        devices = [self.device.index or 0] if self.device.type == "cuda" else 1
        self.fabric: Fabric = Fabric(accelerator=self.device.type, devices=devices, precision=FABRIC[precision])  # type: ignore[arg-type]
        if not self.model.training:
            self.model.train()
        scale = optimal_scale_of(self.model)
        if scale is not None:
            scale.release()
        self.optimisers = build_optimisers(self.model, settings, self.budget.first)
        loss = PieceLoss(self.model, self.objective, self.data.preparation)
        # one process: Fabric places and precision-wraps; called through its wrapper, a small network's step would take 5 % longer
        _, *wrapped = self.fabric.setup(loss, *self.optimisers)
        # out of Fabric's wrappers, which on one device, in float32 or bf16, only pass the step on
        self.optimisers = [getattr(optimiser, "optimizer", optimiser) for optimiser in wrapped]
        eager = EagerStep(
            loss,
            self.optimisers,
            self.budget.first,
            settings.grad_clip_norm,
            self.fabric.autocast,
            self.fabric.backward,
            self.world,
        )
        self.pieces = replace(self.pieces, pinned=self.device.type == "cuda")
        self.step, how = self._accelerated(eager, loss) if fast else (eager, "plain steps (as asked)")
        if settings.ema_decay:
            self.average = Averaged(self.model, settings.ema_decay)
            self.kept = cast(VAE, self.average.module)
        self.validate: Validator = self._validator()
        self.reporter.say(f"{self.device.type}, {precision} ({why}), {how}")

    def _accelerated(self, eager: EagerStep, loss: PieceLoss) -> tuple[Step, str]:
        """A faster step where that pays, and what was chosen."""
        first = [piece.to(self.device) for piece in self.pieces.first()]
        step = AcceleratedStep(eager, self.device)
        trial = StepTrial(step, first)

        def set_layout(order: torch.memory_format) -> None:
            loss.memory_format = order

        choose_layout(trial, first[0].values, set_layout)
        said = ""
        if self.settings.threads == "auto":
            with undisturbed(eager):
                count, why = choose_threads(trial, self.device)
            torch.set_num_threads(count)
            said = f"{count} thread{'s' if count > 1 else ''} ({why}), "
        return step, said + choose_compile(self.settings.compile, trial, self.budget.first)

    def batches(self) -> Generator[list[Piece], None, None]:
        """Batches of the epoch that are left, in main memory; made while a device computes, unless the processor does."""
        state = self.state
        pieces = self.pieces.epoch(state.epoch, state.steps_in_epoch, self.generator)
        if self.device.type == "cpu" or self.settings.acceleration == "off":
            yield from pieces
        else:
            yield from prefetch(pieces, self.generator)

    def complete_average(self) -> None:
        """Give the averaged model what has no average: what own modules keep beside tensors, as it is now."""
        if self.average is None:
            return
        for source, target in zip(self.model.modules(), self.kept.modules(), strict=True):
            if type(source).get_extra_state is not nn.Module.get_extra_state:
                target.set_extra_state(deepcopy(source.get_extra_state()))

    def stop(self) -> NoReturn:
        """Save and interrupt.

        Raises:
            KeyboardInterrupt: always.
        """
        self.save()
        message = (
            f"interrupted after step {self.state.step} of {self.round_end}; nothing is lost. Go on with: calibrae train "
            f"{self.data.source.name} --out {self.keeper.folder.path} --resume"
        )
        self.reporter.say(message)
        raise KeyboardInterrupt(message)

    def means(self, sums: dict[str, float]) -> dict[str, float]:
        """Means per example of a step's sums, with the root mean squared error and the scale in use."""
        n = sums["n"]
        means = {name: value / n for name, value in sums.items() if name not in ("n", "mse")}
        mse = sums["mse"] / n
        return means | {"rmse": mse**0.5} | self._scale_in_use(mse)

    def _scale_in_use(self, mse: float) -> dict[str, float]:
        """Standard deviation of the likelihood in one number: the batch's residuals where its scale is optimal."""
        scale = self.model.likelihood.scale
        if scale is None:
            return {}
        return {
            "sigma": max(mse**0.5, scale.statistic.std_per_scale * scale.floor) if not scale.is_fixed else scale.std()
        }

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
        """Write the last state, from which training can go on."""
        parts: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "settings": asdict(self.settings),
        }
        if self.average is not None:
            parts["average"] = self.average.state_dict()
        self.keeper.save_last(self.state, parts)

    def _restore(self) -> None:
        state, parts = self.keeper.load_last(self.device)
        then, now = parts["settings"], asdict(self.settings)
        changed = [f"{k} was {then[k]}, now {now[k]}" for k in now if k not in FREE_ON_RESUME and then.get(k) != now[k]]
        if changed:
            raise RunError(
                f"a resumed run keeps its settings; got {'; '.join(changed)}. Drop those options, or train anew."
            )
        self.model.load_state_dict(parts["model"])
        for optimiser, stored in zip(self.optimisers, parts["optimisers"], strict=True):
            optimiser.load_state_dict(stored)
        for group in self.optimisers[0].param_groups:
            group["peak_lr"] = self.settings.lr
        self.generator.set_state(parts["generator"].cpu())
        if self.average is not None:
            self.average.load_state_dict(parts["average"])
        self.state = state
        self.reporter.say(f"going on after epoch {state.epoch}, step {state.step}")

    def _finish(self) -> None:
        """Take the best epoch's weights, fix the scale on the whole training set, and save the model."""
        self.model.load_state_dict(self.keeper.load_best(self.device))
        self.kept = self.model
        self._validator().fix_scale(None)
        self.model.eval()
        save_model(self.model, self.keeper.folder.path)
        best = self.state.best_epoch
        if self.state.history:
            chosen = self.state.history[best - 1]
            elbo = f", ELBO {chosen['validation_elbo']:.2f}" if "validation_elbo" in chosen else ""
            self.reporter.say(
                f"kept epoch {best} of {self.state.epoch}: lowest validation loss {chosen['validation_loss']:.2f} nats{elbo}"
            )
