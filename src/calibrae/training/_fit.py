"""The training loop."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NoReturn, cast, final

import numpy as np
import torch
from torch import Tensor

from .. import functional
from ..data import Data, ExampleNoise, byte_noise, byte_source, mixed_seed
from ..errors import DataError, NonFiniteError, RunError
from ..likelihoods import AbstractSigma
from ..models import VAE, ELBOSummary, Scorer, fix_sigma, optimal_sigma_of, optimal_sigma_over, summarise
from ..objectives import BetaELBO
from ..runs import RunFolder, save_model
from ._ahead import one_ahead
from ._allocator import freed_memory_kept
from ._checkpoint import TrainState, load_checkpoint, save_checkpoint
from ._convolutions import fast_gradients
from ._descent import Descent
from ._hardware import choose_precision, find_device, quiet_fabric
from ._interrupt import interruptible
from ._layout import choose_layout
from ._optimiser import build_optimisers, learned_sigma_of, rate_at, set_rates
from ._progress import REFRESH_EVERY, AbstractReporter
from ._settings import TrainSettings
from ._terms import MicroBatch, StepTerms
from ._tracker import Tracker
from ._trial import StepTrial, choose_compile

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FREE_ON_RESUME = frozenset({"epochs", "patience", "lr", "clip", "eval_batch_size"})
LATENT_STREAM, TRAIN_STREAM, VALIDATION_STREAM, BYTE_STREAM = 2, 3, 4, 7
CALIBRATION_EXAMPLES = 4096  # of the training set, for the sigma that validates an epoch
STATISTICS_EXAMPLES = 10_000  # of the training set, for the mean image and the scale
SMOOTHING = 0.95**REFRESH_EVERY  # of the terms on the progress bar


@final
class Trainer:
    """Trains one model on one data set into one run folder.

    Args:
        model: any `VAE`; trained in place.
        data: split and prepared.
        folder: where checkpoints, history and the model go.
        settings: how.
        objective: what is descended.
        reporter: who is told.
    """

    def __init__(
        self,
        model: VAE,
        data: Data,
        folder: RunFolder,
        settings: TrainSettings,
        objective: BetaELBO,
        reporter: AbstractReporter,
    ) -> None:
        self.model = model
        self.data = data
        self.folder = folder
        self.reporter = reporter
        self.settings = self._fitting(settings)
        self.steps_per_epoch = len(data.view("train")) // self.settings.batch_size
        self.objective = replace(
            objective, warmup_steps=objective.warmup_steps or round(self.settings.kl_warmup * self.steps_per_epoch)
        )
        self.state = TrainState()
        self.generator = torch.Generator().manual_seed(mixed_seed(self.settings.seed, TRAIN_STREAM))
        self.average: torch.optim.swa_utils.AveragedModel | None = None
        self.kept = model

    def _fitting(self, settings: TrainSettings) -> TrainSettings:
        count = len(self.data.view("train"))
        if settings.batch_size <= count:
            return settings
        self.reporter.say(f"batch size {settings.batch_size} exceeds the {count} training examples: using {count}")
        return replace(settings, batch_size=count, accumulate=min(settings.accumulate, count))

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.settings.epochs * self.steps_per_epoch

    def run(self, *, resume: bool) -> list[dict[str, float]]:
        """Train, validate, select, calibrate and save; returns the history.

        Raises:
            NonFiniteError: with batch, term and cause, once the last good state is on disk.
            KeyboardInterrupt: once the state is on disk.
        """
        with freed_memory_kept(), fast_gradients(self.model):
            return self._run(resume=resume)

    def _run(self, *, resume: bool) -> list[dict[str, float]]:
        self._adapt()
        with quiet_fabric():
            self._set_up()
        if resume:
            self._restore()
        else:
            self._save("last.pt")
        self.reporter.start(self.total_steps, self.state.step)
        tracker = Tracker(self.folder.path / "tensorboard")
        try:
            with interruptible() as interrupt:
                while self.state.epoch < self.settings.epochs and not self._out_of_patience():
                    self._epoch(interrupt)
                    self._close_epoch(tracker)
            self._finish()
        finally:
            tracker.close()
            self.reporter.close()
        return self.state.history

    def _adapt(self) -> None:
        """Show the model the data: shape, step, mean, scale; and start a learned sigma at the decoder's residuals.

        A first sigma that is far off would scale every gradient of the first steps, which Adam remembers for thousands.
        """
        mean, std = self._statistics()
        self.model.adapt(self.data.spec, mean, std)
        sigma = learned_sigma_of(self.model)
        if sigma is not None:
            first = self.data.batches("train", self.eval_batch, seed=self.settings.seed, limit=1024)
            start = optimal_sigma_over(self.model, sigma, first, self._noise(TRAIN_STREAM).rows)
            sigma.raw.data.copy_(start.clamp_min(sigma.floor).log())

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean of each element and their root mean square distance from it, over (some of) the training set."""

        def batches() -> Iterator[Tensor]:
            found = self.data.batches("train", self.eval_batch, seed=self.settings.seed, limit=STATISTICS_EXAMPLES)
            return (x.double() for _, x in found)

        n = min(STATISTICS_EXAMPLES, len(self.data.view("train")))
        mean = torch.zeros(self.data.spec.data_shape, dtype=torch.float64)
        for x in batches():
            mean += x.sum(0) / n
        square = sum(float((x - mean).square().sum()) for x in batches())
        if not square > 0:
            raise DataError(
                f"{self.data.source.name}: all training examples are the same, so there is nothing to model."
            )
        std = torch.tensor(square / (n * self.data.spec.data_dim)).sqrt()
        return mean.float(), std.float()

    @property
    def eval_batch(self) -> int:
        """Examples at once without gradients: fewer where an example is large."""
        return self.data.rows_at_once(self.settings.eval_batch_size)

    def _set_up(self) -> None:
        from lightning_fabric import Fabric

        settings = self.settings
        device = find_device(settings.accelerator)
        precision, why = choose_precision(settings, device)
        self.fabric: Fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=precision)  # type: ignore[arg-type]
        self.model.train()
        optimal = optimal_sigma_of(self.model)
        if optimal is not None:
            optimal.unfreeze()
        self.optimisers = build_optimisers(self.model, settings)
        terms = StepTerms(self.model, self.data.preparation)
        # one process: Fabric places and precision-wraps; called through its wrapper, a small network's step would take 5 % longer
        _, *self.optimisers = self.fabric.setup(terms, *self.optimisers)
        self.descent = Descent(terms, self.optimisers, settings.clip, self.fabric.backward, self.fabric.autocast)
        trial = StepTrial(self.descent, self._first_batch())
        choose_layout(trial)
        compiled = choose_compile(settings, trial, self.total_steps)
        if settings.averaging:
            average = torch.optim.swa_utils.get_ema_multi_avg_fn(settings.averaging)
            self.average = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=average, use_buffers=False)
            self.kept = cast(VAE, self.average.module)
        validated = settings.epochs * len(self.data.view("validation"))
        self.scorer = Scorer(self.kept, 0 if settings.compile == "off" else validated, self.eval_batch)
        self.reporter.say(f"{self.fabric.device.type}, {precision} ({why}), {compiled}")

    def _first_batch(self) -> list[MicroBatch]:
        """Data and noise as a step takes them."""
        size, generator = self.settings.batch_size, torch.Generator().manual_seed(0)
        batches = self.data.stored_batches(np.arange(size), size, generator, byte_source(0))
        return [piece.to(self.fabric.device) for piece in self._pieces(*next(batches), generator)]

    def _batches(self, order: np.ndarray) -> Generator[list[MicroBatch], None, None]:
        """What the steps of an epoch take, in main memory; made while a device computes, unless the processor does."""
        settings, kind = self.settings, self.fabric.device.type
        stored = self.data.stored_batches(
            order, settings.batch_size, self.generator, self._bytes(), flip=settings.flip, pinned=kind == "cuda"
        )
        pieces = (self._pieces(values, bits, self.generator) for values, bits in stored)
        return pieces if kind == "cpu" else one_ahead(pieces, self.generator)

    def _pieces(self, values: Tensor, bits: Tensor | None, generator: torch.Generator) -> list[MicroBatch]:
        shape = len(values), self.model.latent_dim
        noise = torch.randn(shape, generator=generator, pin_memory=values.is_pinned())
        size = -(-len(values) // self.settings.accumulate)
        parts = [None] * self.settings.accumulate if bits is None else bits.split(size)
        return [MicroBatch(*piece) for piece in zip(values.split(size), parts, noise.split(size), strict=False)]

    def _out_of_patience(self) -> bool:
        patience = self.settings.patience
        return bool(patience) and self.state.epoch - self.state.best_epoch >= patience

    def _epoch(self, interrupt: threading.Event) -> None:
        state, settings = self.state, self.settings
        rng = np.random.default_rng(mixed_seed(settings.seed, TRAIN_STREAM, state.epoch))
        order = rng.permutation(len(self.data.view("train")))[: self.steps_per_epoch * settings.batch_size]
        order = order[state.steps_in_epoch * settings.batch_size :]
        if state.steps_in_epoch == 0:
            state.sums = {}
        seen, shown = dict(state.sums), _Shown()
        started = time.perf_counter()
        with closing(self._batches(order)) as batches:
            for micro in batches:
                sums = self._step(micro)
                state.sums = {name: state.sums.get(name, 0.0) + value for name, value in sums.items()}
                state.step += 1
                state.steps_in_epoch += 1
                if state.step % REFRESH_EVERY == 0:
                    since = {name: value - seen.get(name, 0.0) for name, value in state.sums.items()}
                    seen = state.sums
                    self.reporter.step(state.step, shown.smoothed(self._terms(since)))
                if interrupt.is_set():
                    break
        state.seconds += time.perf_counter() - started
        if interrupt.is_set():
            self._stop()
        state.epoch += 1
        state.steps_in_epoch = 0

    def _stop(self) -> NoReturn:
        self._save("last.pt")
        message = (
            f"interrupted after step {self.state.step} of {self.total_steps}; nothing is lost. Go on with: calibrae train "
            f"{self.data.source.name} --out {self.folder.path} --resume"
        )
        self.reporter.say(message)
        raise KeyboardInterrupt(message)

    def _bytes(self) -> np.random.Generator:
        """Of this epoch's dequantisation, from the step on that it is at."""
        source = byte_source(self.settings.seed, BYTE_STREAM, self.state.epoch)
        for _ in range(self.state.steps_in_epoch if self.data.preparation.takes_bytes else 0):
            byte_noise((self.settings.batch_size, *self.data.spec.data_shape), source)
        return source

    def _step(self, micro: list[MicroBatch]) -> dict[str, float]:
        state, settings = self.state, self.settings
        micro = [piece.to(self.fabric.device) for piece in micro]
        set_rates(self.optimisers, rate_at(state.step, self.total_steps, settings.warmup))
        try:
            sums = self.descent(micro, self.objective, state.step)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"epoch {state.epoch + 1}, batch {state.steps_in_epoch + 1} (step {state.step + 1}): {error}. The last good "
                f"state is in {self.folder.checkpoints / 'last.pt'}. Go on from there with --resume and a lower --lr (now "
                f"{settings.lr:g}) or --clip (now {settings.clip:g}), or look for extreme values in the data."
            ) from error
        if self.average is not None:
            self.average.update_parameters(self.model)
        return sums

    def _terms(self, sums: dict[str, float]) -> dict[str, float]:
        n = sums["n"]
        nll, kl, mse = sums["nll"] / n, sums["kl"] / n, sums["mse"] / n
        return self._derived(nll, kl, mse) | self._sigma_term(mse)

    def _derived(self, nll: float, kl: float, mse: float) -> dict[str, float]:
        spec = self.data.spec
        terms = {"loss": nll + kl, "nll": nll, "kl": kl, "rmse": mse**0.5}
        if spec.density_levels is not None and self.model.posterior.is_density:
            terms["bits_per_dim"] = functional.bits_per_dim(nll + kl, spec.data_dim, spec.density_levels)
        return terms

    def _sigma_term(self, mse: float) -> dict[str, float]:
        """Root mean square of the sigmas in use: the batch's where it is optimal and not yet fixed."""
        sigma = getattr(self.model.likelihood, "sigma", None)
        if sigma is None:
            return {}
        if not sigma.is_fixed:
            return {"sigma": max(mse**0.5, sigma.floor)}
        return {"sigma": sigma.root_mean_square()}

    def _noise(self, stream: int) -> ExampleNoise:
        return ExampleNoise("normal", (self.model.latent_dim,), mixed_seed(self.settings.seed, stream), LATENT_STREAM)

    def _calibrate(self, limit: int | None) -> None:
        batches = self.data.batches("train", self.eval_batch, seed=self.settings.seed, limit=limit)
        fix_sigma(self.kept, batches, self._noise(TRAIN_STREAM).rows)

    def validate(self) -> ELBOSummary:
        """Terms on the validation split, with sigma fixed on (some of) the training set."""
        self._calibrate(CALIBRATION_EXAMPLES)
        batches = self.data.batches("validation", self.eval_batch, seed=self.settings.seed)
        return summarise(self.kept, batches, self._noise(VALIDATION_STREAM).rows, scorer=self.scorer)

    def _close_epoch(self, tracker: Tracker) -> None:
        state = self.state
        train = self._terms(state.sums)
        summary = self.validate()
        validation = self._derived(summary.nll, summary.kl, summary.mse)
        score = summary.elbo if summary.is_bound else -summary.nll
        if not math.isfinite(score):
            largest = max(float(x.abs().max()) for _, x in self.data.batches("validation", self.eval_batch))
            raise NonFiniteError(
                f"epoch {state.epoch}: the ELBO of the validation split is not finite (largest |x| {largest:.3g}). The last good "
                f"state is in {self.folder.checkpoints / 'last.pt'}. Look for extreme values in the data, or lower --lr."
            )
        validation["elbo" if summary.is_bound else "nll"] = score if summary.is_bound else summary.nll
        validation.pop("loss")
        best = score > state.best_elbo
        row = {"epoch": state.epoch, "step": state.step, "seconds": round(state.seconds, 3)}
        row |= {"lr": rate_at(state.step, self.total_steps, self.settings.warmup) * self.settings.lr}
        row |= {"beta": self.objective.weight(state.step)}
        row |= {f"train_{name}": value for name, value in train.items() if name != "sigma"}
        row |= {f"validation_{name}": value for name, value in validation.items()}
        row |= {"sigma": self._kept_sigma()} if "sigma" in train else {}
        state.history.append(row)
        if best:
            state.best_elbo, state.best_epoch = score, state.epoch
            self._save("best.pt", weights_only=True)
        optimal = optimal_sigma_of(self.kept)
        if optimal is not None:
            optimal.unfreeze()
        self._save("last.pt")
        self.folder.write_history(state.history)
        tracker.log(row, state.step)
        self.reporter.epoch(row, best)

    def _kept_sigma(self) -> float:
        sigma = cast(AbstractSigma, self.kept.likelihood.sigma)
        return sigma.root_mean_square()

    def _save(self, name: str, *, weights_only: bool = False) -> None:
        parts: dict[str, Any] = {"model": self.kept.state_dict() if weights_only else self.model.state_dict()}
        if not weights_only:
            parts["optimisers"] = [optimiser.state_dict() for optimiser in self.optimisers]
            parts["generator"] = self.generator.get_state()
            parts["settings"] = asdict(self.settings)
            if self.average is not None:
                parts["average"] = self.average.state_dict()
        save_checkpoint(self.folder.checkpoints / name, self.state, parts)

    def _restore(self) -> None:
        state, parts = load_checkpoint(self.folder.checkpoints / "last.pt", self.fabric.device)
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
        _, parts = load_checkpoint(self.folder.checkpoints / "best.pt", self.fabric.device)
        self.model.load_state_dict(parts["model"])
        self.kept = self.model
        self._calibrate(None)
        self.model.eval()
        save_model(self.model, self.folder.path)


class _Shown:
    """Running means of the terms, for the progress bar."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def smoothed(self, terms: dict[str, float]) -> dict[str, float]:
        self._means = {k: SMOOTHING * self._means.get(k, v) + (1 - SMOOTHING) * v for k, v in terms.items()}
        return self._means
