"""Log densities and probabilities of a table's columns, element by element."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name for it)
from torch import Tensor

from ._checks import require_same_shape
from ._reconstruction import HALF_LOG_TWO_PI

STIRLING = 16.0  # counts from which Stirling's series, to its second term, is exact to 1e-9


def piecewise_linear(x: Tensor, knots: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    r"""Increasing broken line through the points `(knots, values)`, which goes on at both ends with the slope of the last piece.

    Its inverse is the line with the two exchanged. A density of $u = g(x)$ becomes one of `x` by the logarithm of the slope:
    $\log p(x) = \log p(u) + \log g'(x)$.

    Args:
        x: `[*S, n]`, one line for each of the `n` columns.
        knots: increasing, `[n, M]` with `M` at least 2.
        values: increasing, the same shape.

    Returns:
        `g(x)` and `log g'(x)`, both `[*S, n]`.

    Raises:
        ShapeError: if knots and values differ in shape.

    Examples:
        >>> knots, values = torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.0, 2.0, 3.0]])
        >>> piecewise_linear(torch.tensor([[0.5], [5.0]]), knots, values)[0]
        tensor([[1.],
                [4.]])
    """
    require_same_shape(knots=knots, values=values)
    pieces = knots.shape[-1] - 1
    piece = ((x[..., None] >= knots).sum(-1) - 1).clamp(0, pieces - 1)[..., None]

    def at(line: Tensor) -> Tensor:
        return torch.take_along_dim(line.expand(*x.shape, line.shape[-1]), piece, -1)[..., 0]

    slopes = values.diff(dim=-1) / knots.diff(dim=-1)
    slope = at(slopes)
    return at(values[..., :-1]) + slope * (x - at(knots[..., :-1])), slope.log()


def ordinal_nll(level: Tensor, location: Tensor, log_precision: Tensor, thresholds: Tensor) -> Tensor:
    r"""Negative log-probability of an ordered level by cumulative logits.

    $$P(k \le j) = \operatorname{sigmoid}\big(e^{a} (t_j - \mu)\big), \qquad P(k = j) = P(k \le j) - P(k \le j - 1)$$

    Convention: nats, element by element; levels are counted from 0.

    Args:
        level: whole numbers `0, ..., L - 1`, `[*S]`.
        location: $\mu$, `[*S]`.
        log_precision: $a$, `[*S]`.
        thresholds: $t_0 < \dots < t_{L-2}$, `[*S, L - 1]` or what broadcasts to it.

    Returns:
        `[*S]`.

    References:
        McCullagh 1980, Regression models for ordinal data, https://doi.org/10.1111/j.2517-6161.1980.tb01109.x

    Examples:
        >>> ordinal_nll(torch.tensor([0, 1]), torch.zeros(2), torch.zeros(2), torch.tensor([0.0]))
        tensor([0.6931, 0.6931])
    """
    shape = torch.broadcast_shapes(level.shape, location.shape)
    k = level.long().expand(shape)[..., None]
    most = thresholds.shape[-1]
    edges = thresholds.expand(*shape, most)
    upper = torch.take_along_dim(edges, k.clamp(max=most - 1), -1)[..., 0]
    lower = torch.take_along_dim(edges, (k - 1).clamp(min=0), -1)[..., 0]
    precision = log_precision.exp()
    above, below = precision * (upper - location), precision * (lower - location)
    is_first, is_last = (k == 0)[..., 0], (k >= most)[..., 0]
    width = torch.where(is_first | is_last, torch.ones_like(above), above - below)
    found = F.softplus(-above).masked_fill(is_last, 0.0) + F.softplus(below).masked_fill(is_first, 0.0)
    return found - _log_one_minus_exp(width).masked_fill(is_first | is_last, 0.0)


def _log_one_minus_exp(x: Tensor) -> Tensor:
    """`log(1 - e^-x)` of positive numbers, without cancellation."""
    small = x < math.log(2.0)
    safe_small, safe_large = torch.where(small, x, torch.ones_like(x)), torch.where(small, torch.ones_like(x), x)
    tiny = torch.finfo(x.dtype).tiny
    return torch.where(small, (-torch.expm1(-safe_small)).clamp_min(tiny).log(), torch.log1p(-(-safe_large).exp()))


def poisson_nll(x: Tensor, log_mean: Tensor) -> Tensor:
    r"""Negative log-probability of a count, $-\log p(x) = e^{m} - x m + \log x!$.

    Convention: nats, element by element; the factorial is kept.

    Args:
        x: counts, `[*S]`.
        log_mean: $m$, the same shape.

    Returns:
        `[*S]`.

    Examples:
        >>> poisson_nll(torch.tensor([2.0]), torch.tensor([0.0]))
        tensor([1.6931])
    """
    small = log_mean.exp() - x * log_mean + torch.lgamma(x + 1.0)
    large = x.clamp_min(STIRLING)
    apart = large.log() - log_mean
    series = HALF_LOG_TWO_PI + 0.5 * large.log() + _series(large)
    return torch.where(x < STIRLING, small, large * (torch.expm1(-apart) + apart) + series)


def negative_binomial_nll(x: Tensor, log_mean: Tensor, log_size: Tensor) -> Tensor:
    r"""Negative log-probability of a count that varies more than a Poisson's: variance $\mu + \mu^2 / r$.

    $$-\log p(x) = \log\Gamma(r) + \log x! - \log\Gamma(x + r) + (x + r) \log\Big(1 + \frac{\mu}{r}\Big) - x \log\frac{\mu}{r}$$

    Convention: nats, element by element; nothing is dropped.

    Args:
        x: counts, `[*S]`.
        log_mean: $\log \mu$, the same shape.
        log_size: $\log r$, which broadcasts to it.

    Returns:
        `[*S]`.

    Examples:
        >>> negative_binomial_nll(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([0.0]))
        tensor([0.6931])
    """
    size, odds = log_size.exp(), log_mean - log_size
    edge = STIRLING + 0.01 * x  # of the size: above it the first formula cancels, far below it the others do
    is_large, is_poisson = x >= STIRLING, size >= edge
    # a series must have a finite gradient where it is not taken, too
    count, r = x.clamp_min(STIRLING), size.clamp_min(STIRLING)
    small = (
        torch.lgamma(size)
        - _log_gamma_ratio(x, torch.minimum(size, edge))
        + x * F.softplus(-odds)
        + size * F.softplus(odds)
    )
    few = torch.lgamma(x + 1.0) - x * log_mean + (x + r) * F.softplus(log_mean - r.log())
    few = few - (x + r - 0.5) * torch.log1p(x / r) + x - (_series(x + r) - _series(r))
    apart, share = (log_mean - count.log()).clamp_max(80.0), count / (count + r)
    many = count * (torch.log1p(share * torch.expm1(apart)) / share - apart)
    many = many + HALF_LOG_TWO_PI + 0.5 * count.log() + _series(count) + 0.5 * torch.log1p(count / r)
    many = many - (_series(count + r) - _series(r))
    return torch.where(is_poisson, torch.where(is_large, many, few), small)


def _series(x: Tensor) -> Tensor:
    r"""Rest of Stirling's formula, $\log\Gamma(x) - (x - \frac12) \log x + x - \frac12 \log 2\pi$, from 16 on exact to 1e-9."""
    return 1.0 / (12.0 * x) - 1.0 / (360.0 * x**3)


def _log_gamma_ratio(x: Tensor, size: Tensor) -> Tensor:
    r"""$\log\Gamma(x + r) - \log\Gamma(x + 1)$ of a small $r$; of a large $x$ by Stirling's series, since the two agree in many digits."""
    small = torch.lgamma(x + size) - torch.lgamma(x + 1.0)
    one = x.clamp_min(STIRLING) + 1.0
    more = size - 1.0
    own = one + more
    large = more * one.log() + (own - 0.5) * torch.log1p(more / one) - more + _series(own) - _series(one)
    return torch.where(x < STIRLING, small, large)


def student_t_nll(x: Tensor, location: Tensor, log_scale: Tensor, df: Tensor) -> Tensor:
    r"""Negative log density of Student's t with $\nu$ degrees of freedom, location $\mu$ and scale $s$.

    $$-\log p(x) = \log s + \tfrac12 \log \nu\pi + \log\Gamma(\tfrac\nu2) - \log\Gamma(\tfrac{\nu+1}2)
      + \tfrac{\nu+1}2 \log\Big(1 + \frac{(x - \mu)^2}{\nu s^2}\Big)$$

    Convention: nats, element by element; nothing is dropped.

    Args:
        x: data, `[*S]`.
        location: $\mu$, the same shape.
        log_scale: $\log s$, which broadcasts to it.
        df: $\nu$, which broadcasts to it.

    Returns:
        `[*S]`.

    Examples:
        >>> student_t_nll(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.ones(1))
        tensor([1.1447])
    """
    t = (x - location) * (-log_scale).exp()
    constant = 0.5 * (df * math.pi).log() + torch.lgamma(0.5 * df) - torch.lgamma(0.5 * (df + 1.0))
    return log_scale + constant + 0.5 * (df + 1.0) * torch.log1p(t.square() / df)
