"""Moving averages of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from ..models import VAE

YOUNG = 10.0  # steps that a short average leaves behind


def decay_at(step: int, decay: float) -> float:
    """Decay at a step: a short run does not keep the weights that it started from.

    Examples:
        >>> decay_at(0, 0.999), decay_at(90, 0.999), decay_at(100_000, 0.999)
        (0.1, 0.91, 0.999)
    """
    return min(decay, (1.0 + step) / (YOUNG + step))


def averaged(model: VAE, decay: float) -> AveragedModel:
    r"""Keep $\bar w \leftarrow d_t \bar w + (1 - d_t) w$ beside a model, with $d_t = \min(d, (1 + t) / (10 + t))$; buffers are the model's."""
    return AveragedModel(model, multi_avg_fn=_follow(decay), use_buffers=False)


def _follow(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    @torch.no_grad()
    def follow(kept: Sequence[Tensor], new: Sequence[Tensor], step: Any) -> None:
        weight = 1.0 - decay_at(int(step), decay)
        for old, value in zip(kept, new, strict=True):
            old.lerp_(value, weight) if old.is_floating_point() else old.copy_(value)

    return follow
