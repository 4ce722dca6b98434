"""Inputs that a loss can be asked about."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from .._types import Shape

Space: TypeAlias = Literal["data", "probs", "logits", "logp"]
Kind: TypeAlias = Literal["continuous", "binary", "one-hot-last", "one-hot-first"]
SPACES: tuple[Space, ...] = ("data", "probs", "logits", "logp")
MARGIN = 0.02  # kept from both ends of the range


@final
@dataclass(frozen=True)
class Sizes:
    """Sizes of the tensors.

    Attributes:
        data_shape: shape of one example.
        latent_dim: number of latents, `d`.
        batch_size: number of examples, `B`.
    """

    data_shape: Shape
    latent_dim: int
    batch_size: int

    @property
    def data_dim(self) -> int:
        """Data dimensions, `D`."""
        return math.prod(self.data_shape)

    def with_batch(self, batch_size: int) -> Sizes:
        """Replace the batch size."""
        return replace(self, batch_size=batch_size)


@final
@dataclass(frozen=True)
class Inputs:
    """Maker of `x` of a kind and `x_hat` in a space, inside the range of the data.

    Attributes:
        data_range: smallest and largest value of the data.
        space: unit of `x_hat`: data units, probabilities, logits, or log-probabilities.
        kind: kind of the data.
    """

    data_range: tuple[float, float]
    space: Space
    kind: Kind = "continuous"

    def x(self, sizes: Sizes, seed: int, contrast: float = 1.0) -> Tensor:
        """Draw a batch `[B, *data]`; its spread about the middle is scaled by `contrast` if it is continuous."""
        generator = torch.Generator().manual_seed(seed)
        shape = (sizes.batch_size, *sizes.data_shape)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
        low, high = self.data_range
        if self.kind == "binary":
            return low + (high - low) * (uniform < 0.5)
        if self.kind.startswith("one-hot"):
            dim = -1 if self.kind == "one-hot-last" else 1
            return torch.zeros(shape, dtype=torch.float64).scatter_(dim, uniform.argmax(dim, keepdim=True), 1.0)
        unit = 0.5 + contrast * (uniform - 0.5) * (1.0 - 2.0 * MARGIN)
        return low + (high - low) * unit

    def near(self, x: Tensor) -> Tensor:
        """Make the `x_hat` whose mean is (closest to) the data themselves."""
        return self.from_unit(self.to_unit(x).clamp(MARGIN, 1.0 - MARGIN)) if self.space != "data" else x.clone()

    def guess(self, x: Tensor, seed: int, pull: float) -> Tensor:
        """Draw an `x_hat` between a random one (`pull` = 0) and the data (`pull` = 1)."""
        generator = torch.Generator().manual_seed(seed)
        uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64)
        unit = MARGIN + (1.0 - 2.0 * MARGIN) * uniform
        if self.kind == "continuous":
            unit = unit + pull * (self.to_unit(x).clamp(MARGIN, 1.0 - MARGIN) - unit)
        if self.space == "probs" and self.kind.startswith("one-hot"):
            unit = unit / unit.sum(self._dim, keepdim=True)
        return self.from_unit(unit)

    @property
    def _dim(self) -> int:
        return 1 if self.kind == "one-hot-first" else -1

    @property
    def alphabets(self) -> tuple[int, ...]:
        """Dimensions of a batch that a categorical term may run over: that of the alphabet."""
        return (self._dim,) if self.kind.startswith("one-hot") else ()

    def positions(self, sizes: Sizes) -> int:
        """Data dimensions, or positions of one-hot data."""
        alphabet = {"one-hot-last": sizes.data_shape[-1], "one-hot-first": sizes.data_shape[0]}.get(self.kind, 1)
        return sizes.data_dim // alphabet

    @property
    def width(self) -> float:
        """Width of the data's range."""
        return self.data_range[1] - self.data_range[0]

    def to_unit(self, x: Tensor) -> Tensor:
        """Map the range of the data to [0, 1]."""
        low, high = self.data_range
        return (x - low) / (high - low)

    def from_unit(self, unit: Tensor) -> Tensor:
        """Map a mean on [0, 1] to the space of `x_hat`."""
        low, high = self.data_range
        if self.space == "data":
            return low + (high - low) * unit
        if self.space == "probs":
            return unit
        logits = torch.logit(unit)
        return torch.log_softmax(logits, self._dim) if self.space == "logp" else logits
