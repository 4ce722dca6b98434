"""A training step with its loss, or all of it, compiled."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor

from ..errors import NonFiniteError, first_line
from ._compile import compile_alone
from ._fused import NORM, FusedStep, can_trace_gradients
from ._protocol import Compiled, LossOfPiece, Sums, TrainingStep


@final
class AcceleratedStep:
    """Takes the steps of an eager one faster: as they are, with a compiled loss, or as one compiled function.

    Args:
        eager: step that is the truth; its loss is replaced while a compiled one is in use.
        device: where the model is.

    Attributes:
        part: part of a step that is compiled, in words, where it is not the whole.
        failure: why nothing is compiled, if the compiler failed.
    """

    def __init__(self, eager: TrainingStep, device: torch.device) -> None:
        self.eager = eager
        self.device = device
        self.part = ""
        self.failure: str | None = None
        self._loss: LossOfPiece = eager.loss
        self._fused: FusedStep | None = None

    @property
    def compiled(self) -> Compiled:
        """What of a step runs compiled."""
        if self._fused is not None:
            return "whole"
        return "none" if self.eager.loss is self._loss else "loss"

    def __call__(self, pieces: Sequence[Any], step: int) -> dict[str, float]:
        """Take a step, as the eager one does.

        Raises:
            NonFiniteError: if a sum is not finite, or with a limit the gradient's norm; no weight has changed then.
        """
        if self._fused is None or len(pieces) > 1:
            return self.eager(pieces, step)
        sums = self._fused(self.eager.weights(pieces, step), *pieces[0])
        norm = sums.pop(NORM)
        if not all(map(math.isfinite, sums.values())):
            raise self.eager.not_finite(pieces[0], sums)
        if not math.isfinite(norm):
            raise NonFiniteError("the gradient is not finite, though the loss is")
        return self.eager.totals(pieces, sums)

    def compile(self, pieces: Sequence[Any]) -> str | None:
        """Compile the whole step, or if that cannot be its loss alone, by taking steps; returns why nothing is compiled.

        Args:
            pieces: a batch as a step takes it.

        Raises:
            NonFiniteError: if such a step is not finite.
        """
        self.part = self._compile_whole(pieces)
        if self._fused is None:
            self.eager.loss = _FallingBack(self._loss, self.device, self._failed)
        self(pieces, 0)
        return self.failure

    def _failed(self, error: Exception) -> None:
        self.eager.loss = self._loss
        self.failure = first_line(error)

    def _compile_whole(self, pieces: Sequence[Any]) -> str:
        """Try it; returns what is to be compiled instead, in words."""
        if len(pieces) > 1:
            return "its loss alone, as batches are cut up"
        if not can_trace_gradients():
            return "its loss alone, as this version of torch cannot trace gradients"
        if any(getattr(p, "_post_accumulate_grad_hooks", None) for p in self.eager.module.parameters()):
            return "its loss alone, as a parameter has hooks on its gradient"
        if not all(hasattr(optimiser, "updated") for optimiser in self.eager.optimisers[1:]):
            return "its loss alone, as an optimiser has no pure update"
        fused = FusedStep(self._loss, self.eager.optimisers, self.eager.max_norm, self.eager.autocast, self.device)
        try:
            fused(self.eager.weights(pieces, 0), *pieces[0])
        except Exception as error:  # a compiler may fail in any way
            return f"its loss alone, as the whole failed: {first_line(error)}"
        self._fused = fused
        return ""

    def leave_uncompiled(self) -> None:
        """Return to eager execution."""
        self._fused = None
        self.eager.loss = self._loss

    @contextmanager
    def eagerly(self) -> Iterator[None]:
        """Run without compiled code for a while; within `undisturbed`, since a fused step keeps count of its own."""
        fused, loss = self._fused, self.eager.loss
        self._fused, self.eager.loss = None, self._loss
        try:
            yield
        finally:
            self._fused, self.eager.loss = fused, loss


@final
class _FallingBack:
    """A compiled loss; if the compiler fails in its first call, the loss as it is."""

    def __init__(self, loss: LossOfPiece, device: torch.device, failed: Callable[[Exception], None]) -> None:
        def loss_and_sums(weights: Tensor, *piece: Tensor | None) -> tuple[Tensor, Sums]:
            return loss(weights, *piece)

        self._loss = loss
        self._compiled: LossOfPiece = compile_alone(loss_and_sums, device=device)
        self._failed = failed
        self._is_proved = False

    def __call__(self, weights: Tensor, *piece: Tensor | None) -> tuple[Tensor, Sums]:
        if self._is_proved:
            return self._compiled(weights, *piece)
        try:
            found = self._compiled(weights, *piece)
        except (
            Exception
        ) as error:  # a compiler may fail in any way; what the model itself raises, it raises again below
            self._failed(error)
            return self._loss(weights, *piece)
        self._is_proved = True
        return found
