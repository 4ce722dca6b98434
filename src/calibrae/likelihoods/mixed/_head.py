"""Head: all columns of one family, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..._types import ColumnModel


class Head(nn.Module, ABC):
    """Family of distributions of some columns: from a decoder's outputs to the log-probability of each cell.

    Values are on the model's scale; log densities are in the units of the table.

    Args:
        columns: models of the columns.

    Attributes:
        count: number of columns, `n`.
        fill: value of each column that stands in for a missing one, so that nothing is computed from NaN.
    """

    fill: Tensor

    def __init__(self, columns: Sequence[ColumnModel], fill: Sequence[float] | None = None) -> None:
        super().__init__()
        self.count = len(columns)
        self.register_buffer("fill", torch.tensor(fill or [0.0] * len(columns)), persistent=False)

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of outputs of the decoder that it reads."""

    @abstractmethod
    def start(self) -> Tensor:
        """Outputs `[outputs]` that give each column its distribution in training."""

    @abstractmethod
    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Log density or log-probability of each cell, `[*S, n]`, nats, from outputs `[*S, outputs]` and values `[*S, n]`."""

    @abstractmethod
    def mean(self, outputs: Tensor) -> Tensor:
        """Mean of each number, and the most probable category, `[*S, n]`."""

    def averaged(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Best single value of each cell under a mixture over `K`, `[*S, n]`, from outputs `[K, *S, outputs]` and weights `[K, *S]`."""
        return (weights[..., None] * self.mean(outputs)).sum(0)

    @abstractmethod
    def sample(self, outputs: Tensor) -> Tensor:
        """One draw of each cell, `[*S, n]`, from torch's global generator."""


def levels_of(columns: Sequence[ColumnModel]) -> list[int]:
    """Number of levels of each column."""
    return [len(column.shares) for column in columns]


def padded(rows: Sequence[Sequence[float]], value: float) -> Tensor:
    """Rows of unequal length as one table, filled up at their ends."""
    most = max(map(len, rows))
    return torch.tensor([[*row, *(value,) * (most - len(row))] for row in rows])
