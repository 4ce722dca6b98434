"""Methods that acceleration needs of a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

Autocast: TypeAlias = Callable[[], AbstractContextManager[object]]
Piece: TypeAlias = tuple[Tensor | None, ...]
Sums: TypeAlias = dict[str, Tensor]
Compiled: TypeAlias = Literal["whole", "loss", "none"]  # what of a step is


class LossOfPiece(Protocol):
    """Loss of a piece of a batch, a scalar, and sums over its examples by name."""

    def __call__(self, weights: Tensor, *piece: Tensor | None) -> tuple[Tensor, Sums]: ...


class PureUpdate(Protocol):
    """An optimiser whose update is also a function, so that a compiler can fuse it."""

    param_groups: list[dict[str, Any]]

    def updated(self, parameter: Tensor, gradient: Tensor, rate: float | Tensor) -> Tensor: ...


class TrainingStep(Protocol):
    """An eager training step, as `training.EagerStep` is one.

    Attributes:
        module: everything that is trained; its parameters and buffers.
        loss: loss of a piece; may be replaced by a compiled one.
        optimisers: AdamW first; the others are `PureUpdate`s.
        max_norm: largest norm of the gradient over AdamW's parameters; 0 for none.
        autocast: context of the networks' precision.
    """

    loss: LossOfPiece
    max_norm: float
    autocast: Autocast

    @property
    def module(self) -> nn.Module: ...
    @property
    def optimisers(self) -> Sequence[torch.optim.Optimizer]: ...
    def __call__(self, pieces: Any, step: int) -> dict[str, float]: ...
    def weights(self, pieces: Any, step: int) -> Tensor: ...
    def totals(self, pieces: Any, sums: dict[str, float]) -> dict[str, float]: ...
    def not_finite(self, piece: Any, sums: dict[str, float]) -> Exception: ...


@contextmanager
def undisturbed(step: TrainingStep) -> Iterator[None]:
    """Snapshot weights, buffers, gradients, generators and the optimisers' state; restore them on exit.

    The learning rates are zero meanwhile. For optimisers that have taken no step yet.
    """
    held = [*step.module.parameters(), *step.module.buffers()]
    before = [x.detach().clone() for x in held]
    device = next((x.device for x in held), torch.device("cpu"))
    groups = [group for optimiser in step.optimisers for group in optimiser.param_groups]
    rates = [group["lr"] for group in groups]
    try:
        for group in groups:
            group["lr"] = 0.0
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        for optimiser in step.optimisers:
            optimiser.state.clear()
        with torch.no_grad():
            for x, value in zip(held, before, strict=True):
                x.copy_(value)  # in place: the order in memory may have been chosen meanwhile
        step.module.zero_grad(set_to_none=True)
