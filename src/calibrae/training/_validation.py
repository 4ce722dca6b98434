"""Validation of an epoch: the objective that was asked for, and the ELBO beside it."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import final

import torch

from .. import functional
from .._noise import ExampleNoise, mixed_seed
from .._types import World
from ..acceleration import CompileChoice
from ..data import Data
from ..errors import NonFiniteError
from ..models import VAE, ELBOSummary, Scorer, fix_scale_over, scale_over, seeded, summarise
from ..objectives import Objective
from ._pieces import TRAIN_STREAM

LATENT_STREAM, VALIDATION_STREAM = 2, 4
CALIBRATION_EXAMPLES = 4096  # of the training set, for the scale that validates an epoch
FEW_ENTRIES = 16  # entries that so many examples tell; of one entry an element, each needs all


@final
class Validator:
    """Computes the terms of the validation split for a model.

    Args:
        model: validated; its optimal scale is fixed on (some of) the training set.
        data: split and prepared.
        objective: loss to minimise.
        seed: seed of the noise.
        eval_batch: examples at once.
        examples: number of examples to be scored in the whole run, which decides whether scoring is compiled; 0: never.
        compile: `on` or `off` to score as an earlier part of the run did; `auto` to choose.
        world: processes that share the examples.
        is_averaged: whether the model's weights are an average of others, to which a learned scale does not belong.
    """

    def __init__(
        self,
        model: VAE,
        data: Data,
        objective: Objective,
        seed: int,
        eval_batch: int,
        examples: int,
        world: World | None = None,
        *,
        is_averaged: bool = False,
        compile: CompileChoice = "auto",  # noqa: A002 (torch's name for it)
    ) -> None:
        self.is_averaged = is_averaged
        self.model = model
        self.data = data
        self.seed = seed
        self.eval_batch = eval_batch
        self.world = world or World()
        self._scorer = Scorer(model, examples, eval_batch, objective, compile)

    @property
    def is_compiled(self) -> bool | None:
        """Tell whether scoring is compiled; `None` before the first validation."""
        return self._scorer.is_compiled

    def noise(self, stream: int, samples: int | None = None) -> ExampleNoise:
        """Standard normal noise of each example, `[d]`, or `[K, d]`."""
        shape = (self.model.latent_dim,) if samples is None else (samples, self.model.latent_dim)
        return ExampleNoise("normal", shape, mixed_seed(self.seed, stream), LATENT_STREAM)

    def _seeded(self, stream: int) -> AbstractContextManager[None]:
        """Torch's own generators for a while, for a posterior that draws its samples itself."""
        return seeded(torch.Generator().manual_seed(mixed_seed(self.seed, stream, LATENT_STREAM)), self.model.device)

    def fix_scale(self, limit: int | None) -> None:
        """Fix an optimal scale on so many training examples; on all for `None`. A learned one of averaged weights is taken anew."""
        scale, noise = self.model.likelihood.scale, self.noise(TRAIN_STREAM).rows
        batches = self.data.batches("train", self.eval_batch, self.seed, limit, self.world)
        with self._seeded(TRAIN_STREAM):
            fix_scale_over(self.model, batches, noise, self.world)
            if self.is_averaged and scale is not None and scale.parameter is not None:
                value = scale_over(self.model, scale, batches, noise, self.world)
                scale.parameter.data.copy_(value.clamp_min(scale.floor).log())

    @property
    def calibration_examples(self) -> int | None:
        """Training examples that fix the scale of an epoch: all where it has many entries."""
        scale = self.model.likelihood.scale
        many = scale is not None and math.prod(scale.shape) > FEW_ENTRIES
        return None if many else CALIBRATION_EXAMPLES

    def __call__(self) -> ELBOSummary:
        """Terms of the validation split.

        Raises:
            NonFiniteError: if the objective or the ELBO is not finite.
        """
        self.fix_scale(self.calibration_examples)
        batches = self.data.batches("validation", self.eval_batch, self.seed, world=self.world)
        noise = self.noise(VALIDATION_STREAM, self._scorer.samples)
        with self._seeded(VALIDATION_STREAM):
            summary = summarise(self.model, batches, noise.rows, scorer=self._scorer, world=self.world)
        if not (math.isfinite(summary.elbo) and math.isfinite(summary.loss or 0.0)):
            largest = max(
                float(batch.x.nan_to_num(0.0).abs().max()) for batch in self.data.batches("validation", self.eval_batch)
            )
            raise NonFiniteError(f"the ELBO of the validation split is not finite (largest |x| {largest:.3g})")
        return summary

    def columns(self, summary: ELBOSummary) -> dict[str, float]:
        """Columns of the history: the loss and its parts, and the ELBO at beta = 1 with its own."""
        found = {"loss": float(summary.loss or 0.0)}
        if summary.is_bound:
            found |= {"elbo": summary.elbo, "kl": float(summary.kl or 0.0)}
            levels, data_dim = self.data.spec.density_levels, self.data.spec.data_dim
            if levels is not None:
                found["bits_per_dim"] = functional.bits_per_dim(-summary.elbo, data_dim, levels)
        found |= {"nll": summary.nll} | ({} if summary.mse is None else {"rmse": summary.mse**0.5})
        return found | {name: value for name, value in summary.parts.items() if name not in found}
