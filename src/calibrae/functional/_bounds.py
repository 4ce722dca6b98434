"""Numbers that people compare, from nats per example."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from .._types import Float
from ..errors import ArgumentError

Number = TypeVar("Number", float, Tensor)


def bits_per_dim(nats: Number, data_dim: int, levels: float | int = 256) -> Number:
    r"""Bits per dimension of integer data from the NLL of its dequantised copy on [0, 1].

    $$\frac{\text{nats}}{D \log 2} + \log_2 \text{levels}$$

    With `x = (u + U[0, 1)) / levels` and `nats = -ELBO(x)` it bounds the bits that the integers cost (Theis et al.
    2016). The offset is 8 for 8-bit data; data scaled to [-1, 1] have one bit less.

    Args:
        nats: a negative log-likelihood or `-ELBO` per example, in nats, of any shape.
        data_dim: `D`, elements per example.
        levels: integer values that an element can take; 1 for data that were never dequantised. With an own number of cells per
            unit for each element, their geometric mean.

    Returns:
        The type and shape of `nats`, in bits.

    Raises:
        ArgumentError: if `data_dim` or `levels` is not positive.

    References:
        Theis, van den Oord & Bethge 2016, https://arxiv.org/abs/1511.01844

    Examples:
        >>> bits_per_dim(0.0, data_dim=3072)
        8.0
        >>> round(bits_per_dim(-2676.1, data_dim=3072), 3)
        6.743
    """
    if data_dim < 1 or levels <= 0:
        raise ArgumentError(f"`data_dim` and `levels` must be positive; got {data_dim} and {levels}.")
    return nats / (data_dim * math.log(2.0)) + math.log2(levels)


def importance_bound(log_weights: Float[Tensor, "..."], dim: int = 0) -> Float[Tensor, "..."]:
    r"""The importance-weighted bound on `log p(x)` from log importance weights, in nats.

    $$\log \frac1K \sum_{k=1}^K w_k, \qquad \log w_k = \log p(x|z_k) + \log p(z_k) - \log q(z_k|x)$$

    With one sample it is the ELBO's estimate; it grows with `K` towards `log p(x)` in expectation.

    Args:
        log_weights: logarithms of the weights, in nats.
        dim: the dimension of the `K` samples.

    Returns:
        The shape of `log_weights` without `dim`, in nats.

    Raises:
        ArgumentError: if there is no sample along `dim`.

    References:
        Burda, Grosse & Salakhutdinov 2016, https://arxiv.org/abs/1509.00519

    Examples:
        >>> importance_bound(torch.tensor([0.0, 1.0]))
        tensor(0.6201)
    """
    samples = log_weights.shape[dim]
    if samples == 0:
        raise ArgumentError(
            f"an importance bound needs at least one sample along dim {dim}; got {tuple(log_weights.shape)}."
        )
    return torch.logsumexp(log_weights, dim=dim) - math.log(samples)
