"""Heads of categories, ordered levels, bits and counts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor, nn

from ... import functional
from ..._types import ColumnModel
from ._head import Head, levels_of, padded

IMPOSSIBLE = -1e9  # log odds of levels that a column does not have


@final
class CategoricalHead(Head):
    """Categories: one log odd of each, whose softmax is their probability."""

    place: Tensor
    is_there: Tensor
    first: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns)
        counts = levels_of(columns)
        most, starts = max(counts), [sum(counts[:i]) for i in range(len(counts))]
        places = [[start + min(k, n - 1) for k in range(most)] for start, n in zip(starts, counts, strict=True)]
        self.width = sum(counts)
        self.register_buffer("place", torch.tensor(places), persistent=False)
        self.register_buffer("is_there", torch.tensor([[k < n for k in range(most)] for n in counts]), persistent=False)
        self.register_buffer("first", torch.cat([torch.tensor(c.shares) for c in columns]).log(), persistent=False)

    @property
    def outputs(self) -> int:
        return self.width

    def start(self) -> Tensor:
        return self.first.cpu()

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Log-probabilities of the levels of each column, `[*S, n, L]`."""
        odds = outputs[..., self.place].masked_fill(~self.is_there, IMPOSSIBLE)
        return odds.log_softmax(-1)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        log_probs = self.log_probs(outputs)
        shape = torch.broadcast_shapes(x.shape, log_probs.shape[:-1])
        levels = log_probs.expand(*shape, log_probs.shape[-1])
        return torch.take_along_dim(levels, x.long().expand(shape)[..., None], -1)[..., 0]

    def mean(self, outputs: Tensor) -> Tensor:
        return self.log_probs(outputs).argmax(-1).to(outputs.dtype)

    def averaged(self, outputs: Tensor, weights: Tensor) -> Tensor:
        probs = (weights[..., None, None] * self.log_probs(outputs).exp()).sum(0)
        return probs.argmax(-1).to(outputs.dtype)

    def sample(self, outputs: Tensor) -> Tensor:
        return _drawn(self.log_probs(outputs))


def _drawn(log_probs: Tensor) -> Tensor:
    """One level from each row of log-probabilities `[*S, n, L]`."""
    rows = log_probs.exp().reshape(-1, log_probs.shape[-1])
    return torch.multinomial(rows, 1).reshape(log_probs.shape[:-1]).to(log_probs.dtype)


@final
class BernoulliHead(Head):
    """Two values: the log odds of the second."""

    odds: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns)
        self.register_buffer("odds", torch.logit(torch.tensor([c.shares[1] for c in columns])), persistent=False)

    @property
    def outputs(self) -> int:
        return self.count

    def start(self) -> Tensor:
        return self.odds.cpu()

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        return x * outputs - F.softplus(outputs)

    def mean(self, outputs: Tensor) -> Tensor:
        return (outputs > 0).to(outputs.dtype)

    def averaged(self, outputs: Tensor, weights: Tensor) -> Tensor:
        return ((weights[..., None] * outputs.sigmoid()).sum(0) > 0.5).to(outputs.dtype)

    def sample(self, outputs: Tensor) -> Tensor:
        return (torch.rand_like(outputs) < outputs.sigmoid()).to(outputs.dtype)


@final
class OrdinalHead(Head):
    """Ordered levels by cumulative logits: the decoder gives a location and a log precision, the thresholds are learned."""

    is_there: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns)
        edges = [_edges(column.shares) for column in columns]
        most = max(map(len, edges))
        self.register_buffer(
            "is_there", torch.tensor([[k < len(e) for k in range(most)] for e in edges]), persistent=False
        )
        first = torch.tensor([edge[0] for edge in edges])
        gaps = padded([[b - a for a, b in itertools.pairwise(e)] for e in edges], 1.0)
        self.first = nn.Parameter(first)
        self.raw_gaps = nn.Parameter(torch.log(torch.expm1(gaps.clamp_min(1e-4))).reshape(-1))

    @property
    def outputs(self) -> int:
        return 2 * self.count

    def thresholds(self) -> Tensor:
        """Thresholds of each column, `[n, L - 1]`; beyond a column's own levels infinite."""
        gaps = F.softplus(self.raw_gaps).reshape(self.count, -1)
        found = self.first[:, None] + torch.cat([torch.zeros_like(self.first[:, None]), gaps.cumsum(-1)], -1)
        return torch.where(self.is_there, found, found.new_tensor(torch.finfo(found.dtype).max ** 0.25))

    def start(self) -> Tensor:
        return torch.zeros(2 * self.count)

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        location, log_precision = outputs.chunk(2, -1)
        shape = torch.broadcast_shapes(location.shape, x.shape)
        return -functional.ordinal_nll(
            x.expand(shape), location.expand(shape), log_precision.expand(shape), self.thresholds()
        )

    def log_probs(self, outputs: Tensor) -> Tensor:
        """Log-probabilities of the levels of each column, `[*S, n, L]`."""
        location, log_precision = (part[..., None] for part in outputs.chunk(2, -1))
        below = (log_precision.exp() * (self.thresholds() - location)).sigmoid()
        edges = torch.cat([torch.zeros_like(below[..., :1]), below, torch.ones_like(below[..., :1])], -1)
        return edges.diff(dim=-1).clamp_min(torch.finfo(edges.dtype).tiny).log()

    def mean(self, outputs: Tensor) -> Tensor:
        probs = self.log_probs(outputs).exp()
        return (probs * torch.arange(probs.shape[-1], device=probs.device, dtype=probs.dtype)).sum(-1)

    def sample(self, outputs: Tensor) -> Tensor:
        return _drawn(self.log_probs(outputs))


def _edges(shares: Sequence[float]) -> list[float]:
    """Thresholds that give the levels their shares: the log odds of the cumulative ones."""
    total, found = 0.0, []
    for share in shares[:-1]:
        total += share
        found.append(math.log(total) - math.log1p(-total) if total < 1.0 else 30.0)
    return found


class _CountHead(Head):
    """Counts, whose log mean the decoder gives."""

    log_mean: Tensor

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns, [float(round(column.mean)) for column in columns])
        means = [max(c.mean, 1e-3) for c in columns]
        self.register_buffer("log_mean", torch.tensor(means).log(), persistent=False)

    @property
    def outputs(self) -> int:
        return self.count

    def start(self) -> Tensor:
        return self.log_mean.cpu()

    def mean(self, outputs: Tensor) -> Tensor:
        return outputs.clamp_max(60.0).exp()


@final
class PoissonHead(_CountHead):
    """Counts that vary as a Poisson's: the decoder gives the log mean."""

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        found = -functional.poisson_nll(x.clamp_min(0.0), outputs)
        return found.masked_fill(x < 0, -math.inf)

    def sample(self, outputs: Tensor) -> Tensor:
        return torch.poisson(outputs.clamp_max(20.0).exp())


@final
class NegativeBinomialHead(_CountHead):
    r"""Counts that vary more: the decoder gives the log mean, the size `r` of each column is learned."""

    def __init__(self, columns: Sequence[ColumnModel]) -> None:
        super().__init__(columns)
        moments = ((max(c.mean, 1e-3), c.variance) for c in columns)
        sizes = [m * m / max(v - m, 1e-2 * m) for m, v in moments]  # at which the variance is that of training
        self.log_size = nn.Parameter(torch.tensor([min(max(r, 1e-3), 1e3) for r in sizes]).log())

    def log_prob(self, outputs: Tensor, x: Tensor) -> Tensor:
        found = -functional.negative_binomial_nll(x.clamp_min(0.0), outputs, self.log_size)
        return found.masked_fill(x < 0, -math.inf)

    def sample(self, outputs: Tensor) -> Tensor:
        size = self.log_size.exp().expand_as(outputs)
        rate = torch.distributions.Gamma(size, size * (-outputs).exp(), validate_args=False).sample()
        return torch.poisson(rate)
