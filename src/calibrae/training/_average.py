"""Moving averages of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

YOUNG = 10.0  # steps that a short average leaves behind


def decay_at(step: int, decay: float) -> float:
    """Decay at a step: a short run does not keep the weights that it started from.

    Examples:
        >>> decay_at(0, 0.999), decay_at(90, 0.999), decay_at(100_000, 0.999)
        (0.1, 0.91, 0.999)
    """
    return min(decay, (1.0 + step) / (YOUNG + step))


class Averaged(AveragedModel):
    r"""Average $\bar w \leftarrow d_t \bar w + (1 - d_t) w$ of a model's weights, with $d_t = \min(d, (1 + t) / (10 + t))$.

    The running mean and variance of batch normalisation are averaged too, as they describe what the weights of each step made; other
    buffers are the model's.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, multi_avg_fn=_follow(decay), use_buffers=False)
        self.decay = decay

    def update_parameters(self, model: nn.Module) -> None:
        """Follow the model by one step."""
        weight = 1.0 - decay_at(int(self.n_averaged), self.decay) if self.n_averaged > 0 else 1.0
        before = [statistic.clone() for statistic in _statistics(self.module)]
        super().update_parameters(model)
        for old, statistic in zip(before, _statistics(self.module), strict=True):
            statistic.copy_(old.lerp(statistic, weight))


def _statistics(model: nn.Module) -> list[Tensor]:
    """Running statistics of all normalisations."""
    found = [getattr(part, name, None) for part in model.modules() for name in ("running_mean", "running_var")]
    return [statistic for statistic in found if isinstance(statistic, Tensor) and statistic.is_floating_point()]


def _follow(decay: float) -> Callable[[Sequence[Tensor], Sequence[Tensor], Any], None]:
    @torch.no_grad()
    def follow(kept: Sequence[Tensor], new: Sequence[Tensor], step: Any) -> None:
        weight = 1.0 - decay_at(int(step), decay)
        for old, value in zip(kept, new, strict=True):
            old.lerp_(value, weight) if old.is_floating_point() else old.copy_(value)

    return follow
