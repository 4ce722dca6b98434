"""Batches of the training set as steps take them: stored values, bytes, contexts and noise, in pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from .._noise import mixed_seed
from .._types import ALONE, World
from ..data import Data, byte_noise, byte_source
from ._loss import Piece
from ._settings import TrainSettings

TRAIN_STREAM, BYTE_STREAM = 3, 7


@final
@dataclass(frozen=True)
class Pieces:
    """Source of an epoch's batches.

    Noise is drawn for the whole batch and then cut, so it does not depend on the number of pieces.

    Attributes:
        data: split and prepared.
        settings: batch size, number of pieces, seed, mirroring.
        latent_dim: `d`.
        samples: samples of `z` for each example, `K`.
        world: processes, each of which gets its part of a batch; the noise is drawn for the whole batch.
        pinned: whether to make them in memory from which a CUDA device fetches by itself.
    """

    data: Data
    settings: TrainSettings
    latent_dim: int
    samples: int
    pinned: bool = False
    world: World = ALONE

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches of the training set."""
        return len(self.data.view("train")) // self.settings.batch_size

    def epoch(self, number: int, done: int, generator: torch.Generator) -> Iterator[list[Piece]]:
        """Batches of an epoch, from a step on.

        Args:
            number: epoch, counted from 0.
            done: steps of it that were taken before.
            generator: source of latent noise and mirrors, in the state that it had after those steps.
        """
        seed = mixed_seed(self.settings.seed, TRAIN_STREAM, number)
        batches = self.data.view("train").batches(self.settings.batch_size, seed, done)
        return self._batches(batches, generator, self._bytes(number, done))

    def first(self) -> list[Piece]:
        """The first rows as a batch, for trials."""
        generator = torch.Generator().manual_seed(0)
        return next(self._batches([np.arange(self.settings.batch_size)], generator, byte_source(0)))

    def _batches(
        self, batches: Iterable[np.ndarray], generator: torch.Generator, source: np.random.Generator
    ) -> Iterator[list[Piece]]:
        settings = self.settings
        stored = self.data.stored_batches(
            batches,
            generator,
            source,
            flip=settings.horizontal_flip,
            pinned=self.pinned,
            world=self.world,
        )
        return (self._cut(*batch, generator) for batch in stored)

    def _cut(
        self, values: Tensor, noise_bytes: Tensor | None, context: Tensor | None, generator: torch.Generator
    ) -> list[Piece]:
        shape = self.samples, self.settings.batch_size, self.latent_dim
        eps = torch.randn(shape, generator=generator, pin_memory=values.is_pinned())
        eps = eps[:, self.world.part(self.settings.batch_size)]
        size = -(-len(values) // self.settings.micro_batches)
        starts = range(0, len(values), size)

        def part(tensor: Tensor | None, start: int) -> Tensor | None:
            return None if tensor is None else tensor[start : start + size]

        return [
            Piece(values[i : i + size], part(noise_bytes, i), part(context, i), None, eps[:, i : i + size])
            for i in starts
        ]

    def _bytes(self, number: int, done: int) -> np.random.Generator:
        """Source of an epoch's dequantisation bytes, from a step on."""
        source = byte_source(self.settings.seed, BYTE_STREAM, number)
        for _ in range(done if self.data.preparation.takes_bytes else 0):
            byte_noise((self.settings.batch_size, *self.data.spec.data_shape), source)
        return source
