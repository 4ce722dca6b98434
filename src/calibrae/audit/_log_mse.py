"""Terms that grow by equal amounts whenever all residuals double: `c ln MSE`, the profile of an optimal sigma."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from ._inputs import Inputs, Sizes
from ._probe import Probe, ProbeError
from ._tolerances import Tolerances

LADDER = (4.0, 8.0, 16.0, 32.0)  # residuals in units of the range
LADDER_INSIDE = (0.05, 0.1, 0.2, 0.4)
CONTRAST_INSIDE = 0.1
MORE = 1.6  # squared residuals of every other element, in units of their mean
BY_ELEMENT = 0.5 * math.log(MORE * (2.0 - MORE)) / math.log(4.0)


@final
@dataclass(frozen=True)
class LogMSE:
    """A fitted `c ln MSE`.

    Attributes:
        weight: coefficient `c`.
        scope: `batch` or `example`, over which the squared error is averaged; `None` with one example.
        inside: whether it was seen on outputs inside the range only.
    """

    weight: float
    scope: str | None
    inside: bool


@dataclass(frozen=True)
class _Ladder:
    """The loss on outputs whose residuals grow by factors of two."""

    probe: Probe
    x: Tensor
    inputs: Inputs
    latent_dim: int
    steps: tuple[float, ...]

    def value(self, x_hat: Tensor) -> float:
        zero = torch.zeros(len(self.x), self.latent_dim, dtype=torch.float64)
        return self.probe.value(self.x, x_hat, zero, zero)

    def values(self, parts: Tensor | float, steps: tuple[float, ...]) -> list[float]:
        """Loss where residuals are `steps` times the part that each example takes."""
        scale = torch.as_tensor(parts, dtype=torch.float64).expand(len(self.x)).reshape(-1, *(1,) * (self.x.ndim - 1))
        if self.inputs.space == "data" and steps[-1] > 1.0:
            return [self.value(self.x + t * self.inputs.width * scale) for t in steps]
        unit = self.inputs.to_unit(self.x)
        signs = torch.where(unit > 0.5, -1.0, 1.0)
        moved = [(unit + signs * t * scale).clamp(1e-3, 1 - 1e-3) for t in steps]
        return [self.value(self.inputs.from_unit(m)) for m in moved]


def _ladder(probe: Probe, sizes: Sizes, inputs: Inputs, *, inside: bool) -> _Ladder:
    x = inputs.x(sizes, seed=0, contrast=CONTRAST_INSIDE if inside else 1.0)
    return _Ladder(probe, x, inputs, sizes.latent_dim, LADDER_INSIDE if inside else LADDER)


def find_log_mse(probe: Probe, sizes: Sizes, inputs: Inputs) -> LogMSE | None:
    """Recognise the logarithm of a mean squared error."""
    if inputs.kind.startswith("one-hot"):
        return None
    for inside in (False, True) if inputs.space == "data" else (True,):
        ladder = _ladder(probe, sizes, inputs, inside=inside)
        try:
            values = ladder.values(1.0, ladder.steps)
            pooling = _pooling(ladder) if inputs.space == "data" else 0.0
        except ProbeError:
            continue
        gains = [b - a for a, b in itertools.pairwise(values)]
        if not all(map(math.isfinite, values)) or min(map(abs, gains)) == 0:
            continue
        tolerance = Tolerances.logarithm_inside if inside else Tolerances.logarithm
        if max(abs(g / gains[-1] - 1.0) for g in gains) <= tolerance.value:
            weight = gains[-1] / (2.0 * math.log(2.0))
            scope = _scope(ladder, weight, values[1])
            pooled = Tolerances.pooled.value
            # else each residual has a logarithm of its own, as in a Student t
            if abs(pooling) < pooled or (scope == "batch" and abs(pooling - BY_ELEMENT) < pooled):
                return LogMSE(weight, scope, inside)
    return None


def _pooling(ladder: _Ladder) -> float:
    """Change of the loss when squared residuals are spread unevenly over an example, in units of doubling them all.

    0 where only their mean counts, `BY_ELEMENT` where each element has a logarithm of its own.
    """
    x, step = ladder.x, ladder.steps[2] * ladder.inputs.width
    if x[0].numel() % 2:
        return 0.0
    odd = (torch.arange(x[0].numel()) % 2).reshape(x.shape[1:]).bool()
    spread = torch.where(odd, math.sqrt(MORE), math.sqrt(2.0 - MORE))
    equal, unequal, double = (ladder.value(x + t * step) for t in (1.0, spread, 2.0))
    return (unequal - equal) / (double - equal) if double != equal else math.inf


def _scope(ladder: _Ladder, weight: float, value: float) -> str | None:
    """Tell the batch's mean from each example's: by a batch of which half has larger residuals."""
    batch = len(ladder.x)
    if batch < 2:
        return None
    half, factor = batch // 2, ladder.steps[2] / ladder.steps[1]
    parts = torch.cat([torch.full((half,), factor), torch.ones(batch - half)]).double()
    rise = ladder.values(parts, ladder.steps[1:2])[0] - value
    share = half / batch
    of_batch = weight * math.log(share * factor**2 + 1.0 - share)
    of_example = weight * share * math.log(factor**2)
    return "batch" if abs(rise - of_batch) < abs(rise - of_example) else "example"


def log_mse_weight(probe: Probe, sizes: Sizes, inputs: Inputs, *, inside: bool) -> float:
    """Measure the coefficient at other sizes."""
    ladder = _ladder(probe, sizes, inputs, inside=inside)
    low, high = ladder.values(1.0, ladder.steps[-2:])
    return (high - low) / (2.0 * math.log(2.0))
