"""Heads of numbers: Gaussian on a monotone transform, Student's t, and a hurdle before either."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from ... import functional
from ..._types import ColumnModel
from ._head import Head

LEAST_SPREAD = 1e-3  # of a normal score: a value that many rows share must not draw a density without bound
NODES = 32  # of Gauss-Hermite quadrature


@final
class Transform(nn.Module):
    """Monotone map of each column to normal scores, fitted on the training set; its slope is counted in every density.

    Args:
        columns: models of the columns.
    """

    knots: Tensor
    scores: Tensor
    log_unit: Tensor
    is_positive: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__()
        lines = [_extended(column, max(len(column.knots) for column in columns)) for column in columns]
        self.register_buffer("knots", torch.tensor([line[0] for line in lines]), persistent=False)
        self.register_buffer("scores", torch.tensor([line[1] for line in lines]), persistent=False)
        self.register_buffer("log_unit", torch.tensor([math.log(c.scale) for c in columns]), persistent=False)
        self.register_buffer("is_positive", torch.tensor([c.is_positive for c in columns]), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normal scores of values `[*S, n]`, and the log of the slope by the units of the table; minus infinity off the support."""
        tiny = torch.finfo(x.dtype).tiny
        logs = x.clamp_min(tiny).log()
        score, log_slope = functional.piecewise_linear(torch.where(self.is_positive, logs, x), self.knots, self.scores)
        log_slope = log_slope - torch.where(self.is_positive, logs, torch.zeros_like(x)) - self.log_unit
        return score, log_slope.masked_fill(self.is_positive & (x <= 0), -math.inf)

    def inverse(self, score: Tensor) -> Tensor:
        """Values of normal scores `[*S, n]`, on the model's scale."""
        value, _ = functional.piecewise_linear(score, self.scores, self.knots)
        return torch.where(self.is_positive, value.clamp_max(60.0).exp(), value)


def _extended(column: ColumnModel, count: int) -> tuple[list[float], list[float]]:
    """The points of a column's line and further ones on its last piece, so that all columns have as many."""
    knots, scores = list(column.knots), list(column.scores)
    step, rise = knots[-1] - knots[-2], scores[-1] - scores[-2]
    for _ in range(count - len(knots)):
        knots.append(knots[-1] + step)
        scores.append(scores[-1] + rise)
    return knots, scores


def middle(column: ColumnModel) -> float:
    """Value of a column whose normal score is the middle one."""
    piece = min(max(bisect(column.scores, 0.0) - 1, 0), len(column.scores) - 2)
    (low, high), (first, last) = column.knots[piece : piece + 2], column.scores[piece : piece + 2]
    value = low + (high - low) * (0.0 - first) / (last - first)
    return math.exp(value) if column.is_positive else value


def _hermite(count: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of the quadrature of a standard normal: eigenvalues of the recurrence's matrix (Golub and Welsch)."""
    beside = torch.arange(1.0, count, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return nodes.tolist(), vectors[0].square().tolist()


@final
class GaussianHead(Head):
    r"""$g(x) \sim N(\mu(z), \sigma^2)$ with a monotone `g`, and a sigma of each column that is learned.

    $$-\log p(x|z) = \log \sigma + \tfrac12 \log 2\pi + \frac{(g(x) - \mu)^2}{2 \sigma^2} - \log g'(x)$$
    """

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns, [middle(column) for column in columns])
        self.transform = Transform(columns)
        self.log_sigma = nn.Parameter(torch.zeros(len(columns)))

    @property
    def outputs(self) -> int:
        return self.count

    def start(self) -> Tensor:
        return torch.zeros(self.count)

    def spread(self) -> Tensor:
        """Log of sigma, of a normal score."""
        return functional.lower_bound(self.log_sigma, math.log(LEAST_SPREAD))

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        score, log_slope = self.transform(x)
        log_sigma = self.spread()
        error = (score - outputs) * (-log_sigma).exp()
        found: Tensor = log_slope - log_sigma - functional.HALF_LOG_TWO_PI - 0.5 * error.square()
        return found

    def mean(self, outputs: Tensor) -> Tensor:
        sigma, total = self.spread().exp(), torch.zeros_like(outputs)
        for node, weight in zip(*_hermite(NODES), strict=True):
            total = total + weight * self.transform.inverse(outputs + node * sigma)
        return total

    def sample(self, outputs: Tensor) -> Tensor:
        return self.transform.inverse(outputs + self.spread().exp() * torch.randn_like(outputs))


@final
class StudentHead(Head):
    r"""$u \sim t_\nu(\mu(z), s^2)$ of standardised numbers; scale and degrees of freedom of each column are learned, $\nu > 2$."""

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns, [middle(column) for column in columns])
        self.transform = Transform(columns)
        self.log_scale = nn.Parameter(torch.zeros(len(columns)))
        self.raw_df = nn.Parameter(torch.full((len(columns),), 2.0))

    @property
    def outputs(self) -> int:
        return self.count

    def start(self) -> Tensor:
        return torch.zeros(self.count)

    def _parts(self) -> tuple[Tensor, Tensor]:
        return functional.lower_bound(self.log_scale, math.log(LEAST_SPREAD)), 2.0 + F.softplus(self.raw_df)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        score, log_slope = self.transform(x)
        log_scale, df = self._parts()
        found: Tensor = log_slope - functional.student_t_nll(score, outputs, log_scale, df)
        return found

    def mean(self, outputs: Tensor) -> Tensor:
        return self.transform.inverse(outputs)

    def sample(self, outputs: Tensor) -> Tensor:
        log_scale, df = self._parts()
        t = torch.distributions.StudentT(df.expand_as(outputs), validate_args=False).sample()
        return self.transform.inverse(outputs + log_scale.exp() * t)


@final
class HurdleHead(Head):
    """One value that many rows share, with a probability; a Gaussian on a monotone transform for the others.

    The log-probability of the shared value and the log density of the others are on one scale by the rows' own measure: a point mass
    there, length elsewhere.
    """

    atom: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns, [column.atom for column in columns])
        self.register_buffer("atom", torch.tensor([column.atom for column in columns]), persistent=False)
        self.register_buffer("rest", torch.tensor([middle(column) for column in columns]), persistent=False)
        self.register_buffer("gate", torch.logit(torch.tensor([c.shares[0] for c in columns])), persistent=False)
        self.others = GaussianHead(columns)

    rest: Tensor
    gate: Tensor

    @property
    def outputs(self) -> int:
        return 2 * self.count

    def start(self) -> Tensor:
        return torch.cat([self.gate.cpu(), self.others.start()])

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        gate, located = outputs.chunk(2, -1)
        is_other = x != self.atom
        others = self.others.log_prob(located, torch.where(is_other, x, self.rest))
        return torch.where(is_other, F.logsigmoid(gate) + others, F.logsigmoid(-gate))

    def mean(self, outputs: Tensor) -> Tensor:
        gate, located = outputs.chunk(2, -1)
        share = gate.sigmoid()
        return share * self.others.mean(located) + (1.0 - share) * self.atom

    def sample(self, outputs: Tensor) -> Tensor:
        gate, located = outputs.chunk(2, -1)
        is_other = torch.rand_like(gate) < gate.sigmoid()
        return torch.where(is_other, self.others.sample(located), self.atom)
