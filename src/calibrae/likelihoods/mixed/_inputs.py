"""What an encoder sees of a row of mixed columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import NormalDist
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from ..._types import HEADS, ColumnModel
from ...errors import ShapeError
from .._base import InputLayer
from ._head import levels_of, padded
from ._numbers import Transform

LEAST_SHARE = 1e-6


class _Features(nn.Module, ABC):
    """Features of the columns of one family: numbers about zero, and zero for a missing cell."""

    width: int

    @abstractmethod
    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """Features `[*S, width]` of cells `[*S, n]`, some of which are NaN and not observed."""


def _filled(x: Tensor, observed: Tensor, value: Tensor | float = 0.0) -> Tensor:
    return torch.where(observed, x, value)


@final
class _Scores(_Features):
    """Normal scores of numbers; their tails are shortened where a network would see too much of them."""

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        self.width = len(columns)
        self.transform = Transform(columns)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        score, _ = self.transform(_filled(x, observed, 1.0))
        bounded = score.sign() * torch.where(
            score.abs() > 3.0, 2.0 + (score.abs() - 2.0).clamp_min(1.0).log(), score.abs()
        )
        return _filled(bounded, observed)


@final
class _Hurdle(_Features):
    """Whether a number is the one that many rows share, and the normal score of the others."""

    atom: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        self.width = 2 * len(columns)
        self.register_buffer("atom", torch.tensor([column.atom for column in columns]), persistent=False)
        self.others = _Scores(columns)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        is_other = observed & (x != self.atom)
        gate = _filled(2.0 * is_other.to(x.dtype) - 1.0, observed)
        return torch.cat([gate, self.others(x, is_other)], -1)


@final
class _OneHot(_Features):
    """Categories and bits as one-hot vectors, less their shares in training."""

    place: Tensor
    share: Tensor
    column: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        counts = levels_of(columns)
        self.most, self.width = max(counts), sum(counts)
        flat = [i * self.most + k for i, n in enumerate(counts) for k in range(n)]
        owners = [i for i, n in enumerate(counts) for _ in range(n)]
        self.register_buffer("place", torch.tensor(flat), persistent=False)
        self.register_buffer("column", torch.tensor(owners), persistent=False)
        self.register_buffer("share", torch.cat([torch.tensor(c.shares) for c in columns]), persistent=False)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        one_hot = F.one_hot(_filled(x, observed).long(), self.most).flatten(-2)[..., self.place]
        return _filled(one_hot.to(x.dtype) - self.share, observed[..., self.column])


@final
class _LevelScores(_Features):
    """Normal score of the middle of an ordered level."""

    scores: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        self.width = len(columns)
        self.register_buffer("scores", padded([_scores(column.shares) for column in columns], 0.0), persistent=False)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        level = _filled(x, observed).long()[..., None]
        scores = self.scores.expand(*x.shape, self.scores.shape[-1])
        return _filled(torch.take_along_dim(scores, level, -1)[..., 0], observed)


def _scores(shares: Sequence[float]) -> list[float]:
    normal, total, found = NormalDist(), 0.0, []
    for share in shares:
        middle = min(max(total + share / 2, LEAST_SHARE), 1.0 - LEAST_SHARE)
        found.append(normal.inv_cdf(middle))
        total += share
    return found


@final
class _Counts(_Features):
    """`log(1 + x)` of counts, about its value at their mean."""

    centre: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        self.width = len(columns)
        self.register_buffer("centre", torch.tensor([c.mean for c in columns]).log1p(), persistent=False)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        return _filled(torch.log1p(_filled(x, observed).clamp_min(0.0)) - self.centre, observed)


FEATURES: dict[str, type[_Features]] = {
    "gaussian": _Scores,
    "student-t": _Scores,
    "poisson": _Counts,
    "negative-binomial": _Counts,
    "ordinal": _LevelScores,
    "categorical": _OneHot,
    "bernoulli": _OneHot,
    "hurdle": _Hurdle,
}


def by_head(columns: Sequence[ColumnModel]) -> dict[str, list[int]]:
    """Positions of the columns of each family that there is, in the order of the families.

    Examples:
        >>> from calibrae.likelihoods.mixed._inputs import by_head
        >>> bits, number = ColumnModel("a", "bernoulli", shares=(0.5, 0.5)), ColumnModel("b", "gaussian")
        >>> by_head([bits, number, bits])
        {'gaussian': [1], 'bernoulli': [0, 2]}
    """
    found = {name: [i for i, column in enumerate(columns) if column.head == name] for name in HEADS}
    return {name: rows for name, rows in found.items() if rows}


@final
class ColumnInput(InputLayer):
    """Features of a row: normal scores of numbers and levels, one-hot categories, and which cells were there.

    Args:
        columns: models of the columns. Those that had missing cells in training also tell whether a cell was observed.
    """

    places: Tensor
    had_missing: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        groups = by_head(columns)
        parts = [FEATURES[name]([columns[i] for i in rows]) for name, rows in groups.items()]
        missing = [i for i, column in enumerate(columns) if column.missing > 0]
        super().__init__(sum(part.width for part in parts) + len(missing))
        self.parts = nn.ModuleList(parts)
        self.counts = [len(rows) for rows in groups.values()]
        self.register_buffer("places", torch.tensor([i for rows in groups.values() for i in rows]), persistent=False)
        self.register_buffer("had_missing", torch.tensor(missing, dtype=torch.long), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != len(self.places):
            raise ShapeError(f"this network takes rows of {len(self.places)} columns; got {tuple(x.shape)}.")
        cells = x[..., self.places].split(self.counts, -1)
        found = [part(own, ~torch.isnan(own)) for part, own in zip(self.parts, cells, strict=True)]
        there = (~torch.isnan(x[..., self.had_missing])).to(found[0].dtype)
        return torch.cat([*found, there], -1)
